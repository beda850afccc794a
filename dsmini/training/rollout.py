"""Rollouts: a model's own answers with their rewards, and how they become batches to train on.

The decision to know: the log-probabilities of a rollout are those of the distribution that was really sampled from, as
`generate` returns them. They are pi_old, as in DeepSeek-V3.2's report (section 3.1). Every prompt is read once for its
whole group, and finished rows leave the batch: both are `generate`'s doing.
"""

import dataclasses
import math

import torch
from torch.nn.utils.rnn import pad_sequence

from dsmini.inference.generate import generate
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.tasks.modes import question_text, turns_of

_END = TOKENIZER.id(EOS)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What a model said to P problems, G times each. Row i * G + j is answer j to problem i; there are N = P * G.

    problems: P of them. prompts, tokens, log_probs: lists of N tensors: (T,) int64, (n,) int64 with the end of the
    sentence where there is one, and (n,). stopped: (N,) bool, False where the limit cut the answer off.
    texts: P lists of G. rewards: (P, G) float64. parts: name -> (P, G), the named parts of the rewards.
    """

    problems: list
    prompts: list
    tokens: list
    log_probs: list
    stopped: torch.Tensor
    texts: list
    rewards: torch.Tensor
    parts: dict


def roll_out(model, problems, reward, group_size, max_new_tokens, temperature=1.0, generator=None,
             stop=_END):  # fmt: skip
    """Let a model answer every problem `group_size` times, and reward the answers: a `Rollout`.

    problems: each is asked in its own mode, see `dsmini.tasks.modes`.
    reward(problem, text): a float, or a dict of named parts, which are summed; text is what follows an opened thought.
    stop: the token or tokens that end an answer; with none, all answers have max_new_tokens tokens.
    Sampling is from the whole distribution at `temperature`: with top-p or top-k the training would need to know what
    was cut off (chapter 13). Raises ValueError, naming problem and text, for a reward that is not finite.
    """
    prompts = [TOKENIZER.encode(question_text(problem)) for problem in problems]
    said = generate(model, prompts, max_new_tokens, temperature, generator=generator, stop=stop,
                    samples_per_prompt=group_size)  # fmt: skip
    texts = turns_of(problems, said.tokens, group_size)
    rewards, parts = score(problems, texts, reward)
    prompts = [prompt for prompt in prompts for _ in range(group_size)]
    return Rollout(list(problems), prompts, said.tokens, said.log_probs, said.stopped, texts, rewards, parts)


def score(problems, texts, reward):
    """The rewards of texts, a list of G for each problem: (P, G) float64, and the named parts, name -> (P, G)."""
    cells = [[_parts(reward, problem, text) for text in said] for problem, said in zip(problems, texts, strict=True)]
    names = cells[0][0].keys()
    if any(cell.keys() != names for row in cells for cell in row):
        raise ValueError(f"reward: gave the parts {list(names)} and then others, expected the same for every text")
    parts = {name: torch.tensor([[cell[name] for cell in row] for row in cells], dtype=torch.float64) for name in names}
    total = sum(parts.values())
    parts.pop(None, None)
    return total, parts


def _parts(reward, problem, text):
    """What a reward says of one text, a dict of floats; without parts of its own, one under the name None."""
    value = reward(problem, text)
    parts = value if isinstance(value, dict) else {None: value}
    try:
        parts = {name: float(part) for name, part in parts.items()}
        finite = bool(parts) and math.isfinite(sum(parts.values()))
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise ValueError(f"the reward of {text!r} for {problem.prompt!r} is {value!r}: expected a finite number")
    return parts


def pad(prompts, responses):
    """Rows to train on, right-padded: inputs (B, T), targets (B, T) int64, mask (B, T) bool.

    prompts, responses: lists of B 1-D int64 tensors. targets[b, t] is the token after inputs[b, t]; mask is True where
    that is a token of the response, its end included.
    """
    rows = pad_sequence([torch.cat(pair) for pair in zip(prompts, responses, strict=True)], batch_first=True)
    start = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    end = start + torch.tensor([len(response) for response in responses])[:, None]
    position = torch.arange(1, rows.shape[1])  # of the target
    return rows[:, :-1], rows[:, 1:], (start <= position) & (position < end)


def token_batches(lengths, budget):
    """Rows of about the same length, in batches of at most `budget` padded tokens: lists of row numbers.

    Longest first, so a batch that does not fit into memory shows at once; a row longer than the budget is alone.
    Without the sorting, one long row would pad all the others to its length.
    """
    batches, width = [], 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if not batches or (len(batches[-1]) + 1) * width > budget:
            batches.append([])
            width = lengths[row]
        batches[-1].append(row)
    return batches
