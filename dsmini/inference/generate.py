"""Batched generation: prompts of any lengths in, tokens out, every row until it stops.

The decision to know: rows are independent. A row's random numbers are drawn before the first step and belong to its
place in the batch, and finished rows leave the batch (and the cache) in bulk, when a quarter of it is done: each
departure copies the cache once, so a departure per row would cost more than the rows it saves.
"""

import dataclasses
from collections.abc import Iterable

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from dsmini.inference.sampling import check_sampling, draw, probabilities, uniforms


@dataclasses.dataclass(frozen=True)
class Generation:
    """What `generate` wrote. Rows are the prompts in order, or samples_per_prompt rows for each prompt.

    tokens: a list of (n,) int64, the new tokens of each row, its stop token included.
    log_probs: a list of (n,), the log-probability of each under the distribution that it was drawn from, that is
    after temperature, top-k and top-p (0 when greedy). stopped: (N,) bool, False where max_new_tokens ended the row.
    """

    tokens: list
    log_probs: list
    stopped: torch.Tensor


def generate(model, prompts, max_new_tokens, temperature=1.0, top_p=1.0, top_k=None, generator=None, stop=(),
             samples_per_prompt=1, progress=False, force=None):  # fmt: skip
    """Continue every prompt by up to max_new_tokens tokens; returns a `Generation`.

    prompts: (B, T) int64, or a list of 1-D sequences of any lengths. temperature, top_p, top_k: see `probabilities`.
    generator: a seeded torch.Generator repeats the result. Row i depends on prompt i, i and max_new_tokens, up to
    rounding, and not on the other rows. stop: a token or several that end a row.
    samples_per_prompt: G rows for each prompt, which the model reads only once.
    force(step, rows, drawn): may return other tokens than those drawn, (b,), to be written in their place at this step
    of these rows, and their log-probabilities with them: see `dsmini.inference.budget`.
    Raises ValueError, naming the argument, for empty prompts, tokens outside the vocabulary and settings out of range.
    """
    device, vocab_size = model.lm_head.weight.device, model.config.vocab_size
    prompts, lengths = read_prompts(prompts, vocab_size, device)  # (B, T), (B,)
    is_stop = read_stop(stop, vocab_size, device)  # (V,)
    check_request(max_new_tokens, samples_per_prompt, temperature, top_k, top_p)
    size = len(prompts) * samples_per_prompt, max_new_tokens
    random = uniforms(size, generator, device) if temperature > 0 else torch.zeros(size, device=device)
    steps = tqdm(range(max_new_tokens), desc="tokens", disable=not progress)
    settings = temperature, top_k, top_p
    written, log_probs, counts = _decode(model, prompts, lengths, random, settings, is_stop, steps, force)
    stopped = is_stop[written.gather(1, counts[:, None] - 1)[:, 0]]
    return Generation(cut(written, counts), cut(log_probs, counts), stopped)


@torch.inference_mode()  # a fifth faster than no_grad on a mini; `cut` copies the results out of it
def _decode(model, prompts, lengths, random, settings, is_stop, steps, force):
    """The loop itself. random: (N, M)   returns tokens (N, M), log-probabilities (N, M) and how many count, (N,)."""
    hidden, cache = prefill(model, prompts, lengths)  # (B, T, D)
    num_rows, max_new_tokens = random.shape
    rows = torch.arange(num_rows, device=prompts.device)  # those still in the batch
    prompt = rows // (num_rows // len(prompts))  # of each row
    hidden = hidden[prompt, lengths[prompt] - 1]  # (N, D)
    cache = cache.select(prompt, prompts.shape[1] + max_new_tokens - 1)  # the last token is not read again
    written = torch.zeros_like(random, dtype=torch.int64)
    log_probs = torch.zeros_like(random, dtype=torch.promote_types(hidden.dtype, torch.float32))
    counts, done = torch.full_like(rows, max_new_tokens), torch.zeros_like(rows, dtype=torch.bool)

    for step in steps:
        if step > 0:
            if worth_leaving(done):
                stay = (~done).nonzero()[:, 0]
                cache, rows, done = cache.select(stay), rows[stay], done[stay]
            hidden = model.hidden_states(written[rows, step - 1, None], cache)[:, 0]  # (b, D)
        probs = probabilities(model.lm_head(hidden), *settings)  # (b, V)
        token = draw(probs, random[rows, step])  # (b,)
        if force is not None:
            token = force(step, rows, token)
        written[rows, step] = token  # a finished row writes on behind its end, until it leaves
        log_probs[rows, step] = probs.gather(-1, token[:, None])[:, 0].log()
        ends = is_stop[token] & ~done
        counts[rows[ends]] = step + 1
        done |= ends
        if done.all():
            break
    return written, log_probs, counts


def prefill(model, tokens, lengths):
    """Read right-padded prompts, (B, T) and (B,): returns hidden states (B, T, D) and a cache without room for more."""
    cache = model.new_cache(*tokens.shape)
    ragged = None if int(lengths.min()) == tokens.shape[1] else lengths
    return model.hidden_states(tokens, cache, ragged), cache


def worth_leaving(done):
    """Whether enough rows are done, (b,) bool, to pay for a copy of the others' cache: a quarter of them."""
    return 4 * int(done.sum()) >= len(done)


def cut(padded, counts):
    """(N, M) with counts (N,) -> a list of N tensors without what lies behind each row's count."""
    return [row[:count].clone() for row, count in zip(padded, counts.tolist(), strict=True)]


def read_prompts(prompts, vocab_size, device=None):
    """Right-padded tokens (B, T) int64 and their lengths (B,), from a (B, T) tensor or a list of 1-D sequences."""
    rows = [torch.as_tensor(prompt) for prompt in prompts]
    if not rows:
        raise ValueError("prompts: there are none, expected at least one")
    for i, row in enumerate(rows):
        if row.dim() != 1:
            raise ValueError(f"prompts[{i}] has shape {tuple(row.shape)}: expected (B, T), or a list of 1-D prompts")
        if row.numel() == 0:
            raise ValueError(f"prompts[{i}] is empty: expected at least one token, a begin token for instance")
        if row.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"prompts[{i}] has type {row.dtype}: expected torch.int64 tokens")
        low, high = (int(bound) for bound in row.aminmax())
        if low < 0 or high >= vocab_size:
            worst = low if low < 0 else high
            raise ValueError(f"prompts[{i}] holds {worst}: expected 0 <= token < vocab_size = {vocab_size}")
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return pad_sequence([row.to(device, torch.int64) for row in rows], batch_first=True), lengths


def read_stop(stop, vocab_size, device=None):
    """(V,) bool, True for the tokens that end a row, from one token or a collection of them."""
    stop = stop.flatten().tolist() if isinstance(stop, torch.Tensor) else stop
    is_stop = torch.zeros(vocab_size, dtype=torch.bool, device=device)
    for token in stop if isinstance(stop, Iterable) else (stop,):
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise ValueError(f"stop holds {token!r}: expected tokens, 0 <= token < vocab_size = {vocab_size}")
        is_stop[token] = True
    return is_stop


def check_request(max_new_tokens, samples_per_prompt, temperature, top_k, top_p):
    """Raises ValueError, naming the argument, for what no generation can do."""
    for name, value in (("max_new_tokens", max_new_tokens), ("samples_per_prompt", samples_per_prompt)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} = {value!r}: expected a whole number of 1 or more")
    check_sampling(temperature, top_k, top_p)
