"""What it is worth to think only in doubt: accuracy against tokens at every threshold, and a coin to beat.

The decision to know: every problem is answered once in each mode, and what a threshold would have done is then a sum
over these answers. So all thresholds are compared on the same ones, without drawing anything anew, and with the coin
too, which thinks about a share of the problems without looking at them: its sum is an expectation, a straight line.
"""

import dataclasses
import math

import torch

from dsmini.inference.effort import answer_directly
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.tasks import modes
from dsmini.tasks.measure import ask, grade


@dataclasses.dataclass(frozen=True)
class BothModes:
    """P problems, each answered directly and with a thought; five (P,) float64, lists will do.

    confidence: in the direct answer; `dataclasses.replace` tries any other score that is higher where a thought is
    worth less. direct_right, thinking_right: 0 to 1, 1 if the answer is right, or a mean over several. direct_tokens,
    thinking_tokens: the length of what is said.
    Raises ValueError for different lengths, no problems, what is not finite, and grades outside 0 to 1.
    """

    confidence: torch.Tensor
    direct_right: torch.Tensor
    thinking_right: torch.Tensor
    direct_tokens: torch.Tensor
    thinking_tokens: torch.Tensor

    def __post_init__(self):
        values = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in vars(self).items()}
        for name, value in values.items():
            if value.dim() != 1 or len(value) == 0 or value.shape != values["confidence"].shape:
                found = f"{name} has shape {tuple(value.shape)}, confidence {tuple(values['confidence'].shape)}"
                raise ValueError(f"{found}: expected one number for each problem, one problem at least")
            if not value.isfinite().all() or (name.endswith("right") and not ((value >= 0) & (value <= 1)).all()):
                expected = "0 to 1" if name.endswith("right") else "finite numbers"
                raise ValueError(f"{name} = {value.tolist()}: expected {expected}")
            object.__setattr__(self, name, value)


def answer_in_both_modes(model, problems, samples=1, temperature=1.0, max_new_tokens=160, seed=0):
    """What a hybrid model makes of problems in either mode: `BothModes`.

    problems: of any tasks. Direct answers are greedy, of 16 tokens at most. Thinking answers are sampled at this
    temperature: right and tokens are means of `samples`.
    """
    direct, thinking = (modes.in_mode(problems, thinking=mode) for mode in (False, True))
    prompts = [TOKENIZER.encode(modes.question_text(problem)) for problem in direct]
    said, confidence = answer_directly(model, prompts, stop=TOKENIZER.id(EOS))
    texts = modes.turns_of(direct, said.tokens, 1)
    thoughts = ask(model, thinking, samples, temperature, max_new_tokens, seed)
    lengths = [[len(TOKENIZER.encode(text)) for text in said] for said in thoughts]
    return BothModes(
        confidence=confidence,
        direct_right=grade(modes, direct, texts)[:, 0],
        thinking_right=grade(modes, thinking, thoughts).mean(1),
        direct_tokens=[len(tokens) for tokens in said.tokens],
        thinking_tokens=torch.tensor(lengths, dtype=torch.float64).mean(1),
    )


def at_threshold(both, threshold):
    """What comes of thinking where the confidence is below a threshold: a dict of floats.

    threshold; share, of the problems that are thought about; tokens, the mean a problem, the direct attempt included;
    accuracy; coin, the accuracy of a coin that spends as many, see `coin`.
    """
    thinks = both.confidence < threshold
    tokens = (both.direct_tokens + thinks * both.thinking_tokens).mean().item()
    return {
        "threshold": float(threshold),
        "share": thinks.double().mean().item(),
        "tokens": tokens,
        "accuracy": torch.where(thinks, both.thinking_right, both.direct_right).mean().item(),
        "coin": coin(both, tokens),
    }


def adaptive_curve(both):
    """`at_threshold` at every threshold that makes a difference: a list of dicts, fewest tokens first.

    The first never thinks. The last, at infinity, always does, and is dearer than always thinking: it tries first.
    """
    return [at_threshold(both, threshold) for threshold in [*both.confidence.unique().tolist(), math.inf]]


def coin(both, tokens):
    """The accuracy of a coin at a mean number of tokens: with probability p it thinks, without an attempt before.

    p = 0 never thinks, p = 1 always does, and its tokens and accuracy are straight lines between. Whoever has fewer
    tokens than the one or more than the other gets that one. Raises ValueError if a thought is no longer than a
    direct answer on average: then nothing is saved, and there is no coin to toss.
    """
    never, always = both.direct_tokens.mean().item(), both.thinking_tokens.mean().item()
    if not never < always:
        raise ValueError(f"{always} tokens with a thought, {never} without: expected more with one")
    p = min(1.0, max(0.0, (tokens - never) / (always - never)))
    return ((1 - p) * both.direct_right.mean() + p * both.thinking_right.mean()).item()


def calibration(confidence, right, bins=5):
    """How often answers are right at each confidence: a list of dicts, one for each bin that holds an answer.

    confidence, right: (P,) numbers from 0 to 1. Bins of equal width, each with its upper end only, but the first with
    0 as well. Each dict: low and high, its ends; problems, how many; confidence and accuracy, means of them. The two
    agree where confidence means what it says. Raises ValueError for numbers out of range, none or not as many.
    """
    confidence, right = (torch.as_tensor(values, dtype=torch.float64) for values in (confidence, right))
    if confidence.dim() != 1 or confidence.shape != right.shape or len(right) == 0:
        found = f"confidence of shape {tuple(confidence.shape)}, right of {tuple(right.shape)}"
        raise ValueError(f"{found}: expected two of (P,), P at least 1")
    for name, values in (("confidence", confidence), ("right", right)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} = {values.tolist()}: expected numbers from 0 to 1")
    if bins != int(bins) or bins < 1:
        raise ValueError(f"bins = {bins!r}: expected a whole number of 1 or more")
    rows, number = [], (confidence * bins).ceil().clamp(min=1)  # of the bin, 1 to bins
    for i in number.unique().tolist():
        here = number == i
        rows.append({"low": (i - 1) / bins, "high": i / bins, "problems": int(here.sum()),
                     "confidence": confidence[here].mean().item(), "accuracy": right[here].mean().item()})  # fmt: skip
    return rows
