"""Speculative decoding with the model's own MTP module: up to two tokens a forward pass, none of them changed.

The module drafts a token, the main model reads the last token and the draft in one pass and so knows what it would
have said in both places. It keeps the draft with probability min(1, p / q) and otherwise draws from what p has more
than q: the result is distributed exactly as without drafts. Leviathan et al. 2023, "Fast Inference from Transformers
via Speculative Decoding", algorithm 1; DeepSeek-V3 report, section 5.4.3.

The decision to know: the MTP module reads verified tokens only, with the main model's hidden states, so a rejected
draft has to be taken back from the main model's cache (`rewind`) and was never in the module's.
"""

import dataclasses
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from dsmini.inference.generate import (
    Generation,
    check_request,
    cut,
    prefill,
    read_prompts,
    read_stop,
    worth_leaving,
)
from dsmini.inference.sampling import draw, probabilities, uniforms
from dsmini.model.cache import Cache


def accept(draft, p, q, uniform):
    """Whether each draft stays: with probability min(1, p / q). Leviathan et al. 2023, section 2.3.

    draft: (b,) int64, drawn from q   p, q: (b, V), main model and module   uniform: (b,) in [0, 1)
    returns (b,) bool. Greedy is no special case: p and q are 0 or 1, so a draft stays if it is p's token.
    """
    p, q = (probs.gather(-1, draft[:, None])[:, 0] for probs in (p, q))
    return uniform * q < p


def residual(p, q):
    """What p has more than q, the weights of the token that replaces a rejected draft: (b, V), not normalised.

    Where rounding leaves nothing (p = q, which rejects with probability 0), p itself.
    """
    left = (p - q).clamp(min=0)
    return torch.where(left.sum(-1, keepdim=True) > 0, left, p)


class Verdict(NamedTuple):
    """One draft and what became of it.

    draft: the token   q, p: its probability for module and main model   uniform: it stays if uniform * q < p
    token: the main model's own token, behind an accepted draft or in place of a rejected one
    count: tokens written, 1 or 2; an accepted draft that ends its row has nothing behind it.
    """

    draft: int
    q: float
    p: float
    uniform: float
    accepted: bool
    token: int
    count: int


@dataclasses.dataclass(frozen=True)
class Speculation(Generation):
    """What `generate_speculative` wrote: a `Generation` with its history.

    tape: for each row a list of `Verdict`s, one for each forward pass of the main model after the prompt's, which
    gives a row its first token.
    """

    tape: list

    @property
    def acceptance_rate(self):
        """Share of the drafts that were accepted; nan without drafts."""
        verdicts = [verdict.accepted for row in self.tape for verdict in row]
        return sum(verdicts) / len(verdicts) if verdicts else float("nan")

    @property
    def tokens_per_forward(self):
        """New tokens a forward pass and row, the prompt's pass aside: 1 without drafts, at most 2; nan without any."""
        counts = [verdict.count for row in self.tape for verdict in row]
        return sum(counts) / len(counts) if counts else float("nan")


@dataclasses.dataclass
class _Batch:
    """The rows that are still running, and what the next draft needs."""

    rows: torch.Tensor  # (b,) their places in the result
    done: torch.Tensor  # (b,) bool, finished, but not worth a copy of the caches yet
    hidden: torch.Tensor  # (b, 1 or 2, D) of the main model
    tokens: torch.Tensor  # (b, 1 or 2) the tokens after them
    kept: torch.Tensor  # (b,) how many of the two are verified; 0 once done
    cache: Cache  # all verified tokens but the last
    ahead: Cache  # the MTP module's, one token behind

    def drop_finished(self):
        stay = (~self.done).nonzero()[:, 0]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            setattr(self, field.name, value.select(stay) if isinstance(value, Cache) else value[stay])

    def last(self, values):
        """values (b, 1 or 2, ...) at each row's last verified place: (b, ...)."""
        return values[torch.arange(len(values), device=values.device), self.kept - 1]


def generate_speculative(model, prompts, max_new_tokens, temperature=1.0, top_p=1.0, top_k=None, generator=None,
                         stop=(), samples_per_prompt=1, progress=False):  # fmt: skip
    """`generate` with drafts of the model's first MTP module; returns a `Speculation`.

    Arguments and errors as in `generate`. Greedy tokens are the same, up to near ties: a pass over two tokens rounds
    otherwise than two over one. Sampled tokens have the same distribution; a seed gives other ones.
    Raises ValueError for a model without MTP modules.
    """
    if not model.mtp:
        raise ValueError("model: it has no multi-token-prediction module (num_nextn_predict_layers = 0) to draft with")
    device, vocab_size = model.lm_head.weight.device, model.config.vocab_size
    prompts, lengths = read_prompts(prompts, vocab_size, device)  # (B, T), (B,)
    is_stop = read_stop(stop, vocab_size, device)  # (V,)
    check_request(max_new_tokens, samples_per_prompt, temperature, top_k, top_p)
    size = len(prompts) * samples_per_prompt, max_new_tokens, 3  # to draft, to judge, to write
    random = uniforms(size, generator, device) if temperature > 0 else torch.zeros(size, device=device)
    with tqdm(total=size[0] * size[1], desc="tokens", disable=not progress) as bar:
        result = _speculate(model, prompts, lengths, random, (temperature, top_k, top_p), is_stop, bar)
    return result.speculation()


@torch.inference_mode()
def _speculate(model, prompts, lengths, random, settings, is_stop, bar):
    """The loop itself; random: (N, M, 3). Returns a `_Result`, whose tensors have yet to leave inference mode."""
    num_rows, max_new_tokens, _ = random.shape
    batch = _start(model, prompts, lengths, num_rows, max_new_tokens)
    result = _Result(num_rows, max_new_tokens, is_stop, torch.promote_types(batch.hidden.dtype, torch.float32))
    p = probabilities(model.lm_head(batch.hidden[:, 0]), *settings)  # (N, V)
    batch.tokens = draw(p, random[:, 0, 2])[:, None]
    batch.done = result.write(batch.rows, batch.done, batch.tokens, p[:, None], batch.kept)[1]
    for step in range(1, max_new_tokens):
        bar.update(int(result.counts.sum()) - bar.n)
        if batch.done.all():
            break
        if worth_leaving(batch.done):
            batch.drop_finished()
        _step(model, batch, random[batch.rows, step], settings, result)
    bar.update(int(result.counts.sum()) - bar.n)
    return result


def _start(model, prompts, lengths, num_rows, max_new_tokens):
    """Both caches filled with the prompts, except for the module's last place, which waits for the first token."""
    hidden, cache = prefill(model, prompts, lengths)  # (B, T, D)
    ahead = model.new_mtp_cache(*prompts.shape)
    if prompts.shape[1] > 1:
        model.predict_ahead(hidden[:, :-1], prompts[:, 1:], ahead, lengths - 1)
    rows = torch.arange(num_rows, device=prompts.device)
    prompt = rows // (num_rows // len(prompts))  # of each row
    room = prompts.shape[1] + max_new_tokens
    return _Batch(
        rows=rows,
        done=torch.zeros_like(rows, dtype=torch.bool),
        hidden=hidden[prompt, lengths[prompt] - 1][:, None],
        tokens=torch.zeros_like(rows)[:, None],
        kept=torch.ones_like(rows),
        cache=cache.select(prompt, room),
        ahead=ahead.select(prompt, room),
    )


def _step(model, batch, random, settings, result):
    """Draft, verify, write: one pass of the module, one of the main model. random: (b, 3)."""
    width = int(batch.kept.max())  # one place only where no row has a second one
    lengths = None if int(batch.kept.min()) == width else batch.kept
    drafted = model.predict_ahead(batch.hidden[:, :width], batch.tokens[:, :width], batch.ahead, lengths)
    q = probabilities(model.lm_head(batch.last(drafted)), *settings)  # (b, V)
    draft = draw(q, random[:, 0])  # (b,)

    pair = torch.stack((batch.last(batch.tokens), draft), dim=1)  # (b, 2)
    batch.hidden = model.hidden_states(pair, batch.cache)  # (b, 2, D)
    probs = probabilities(model.lm_head(batch.hidden), *settings)  # (b, 2, V)
    p, after = probs.unbind(1)  # at the draft's place, and behind it
    accepted = accept(draft, p, q, random[:, 1])
    own = draw(torch.where(accepted[:, None], after, residual(p, q)), random[:, 2])

    batch.tokens = torch.stack((torch.where(accepted, draft, own), own), dim=1)
    kept = 1 + accepted.long()
    count, ended = result.write(batch.rows, batch.done, batch.tokens, probs, kept)
    result.record(batch, draft, q, p, random[:, 1], accepted, own, count)
    batch.done = batch.done | ended
    batch.kept = kept.masked_fill(batch.done, 0)
    batch.cache.rewind(batch.cache.lengths - 2 + batch.kept)


class _Result:
    """What has been written so far, for all rows of the request."""

    def __init__(self, num_rows, max_new_tokens, is_stop, dtype):
        size = (num_rows, max_new_tokens + 2)  # a finished row writes on behind its end, until it leaves
        self.tokens = torch.zeros(size, dtype=torch.int64, device=is_stop.device)
        self.log_probs = torch.zeros(size, dtype=dtype, device=is_stop.device)
        self.counts = torch.zeros(num_rows, dtype=torch.int64, device=is_stop.device)
        self.max_new_tokens, self.is_stop, self.history = max_new_tokens, is_stop, []

    def write(self, rows, done, tokens, probs, kept):
        """Add the first `kept` of 1 or 2 tokens, (b, 1 or 2), up to each row's end; returns counts added and ends.

        probs: (b, 1 or 2, V), the main model's, of these places.
        """
        log_probs = probs.gather(-1, tokens[..., None])[..., 0].log()
        added, ended = torch.zeros_like(kept), done.clone()
        for i in range(tokens.shape[1]):
            place = self.counts[rows]
            self.tokens[rows, place], self.log_probs[rows, place] = tokens[:, i], log_probs[:, i]
            goes_on = ~ended & (i < kept)
            added += goes_on
            self.counts[rows] += goes_on.long()
            ended = ended | goes_on & (self.is_stop[tokens[:, i]] | (place + 1 >= self.max_new_tokens))
        return added, ended

    def record(self, batch, draft, q, p, uniform, accepted, own, count):
        """Keep a step's verdicts on the rows that were still running."""
        q, p = (probs.gather(-1, draft[:, None])[:, 0] for probs in (q, p))
        self.history.append((~batch.done, batch.rows, draft, q, p, uniform, accepted, own, count))

    def speculation(self):
        tape = [[] for _ in self.counts]
        for columns in self.history:
            for running, row, *verdict in zip(*(column.tolist() for column in columns), strict=True):
                if running:
                    tape[row].append(Verdict(*verdict))
        stopped = self.is_stop[self.tokens.gather(1, self.counts[:, None] - 1)[:, 0]]
        return Speculation(cut(self.tokens, self.counts), cut(self.log_probs, self.counts), stopped, tape)
