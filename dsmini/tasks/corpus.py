"""The corpus of the base model: solved problems in many styles, good and bad, and sums to practise.

What a base model is, is what it has read, so its corpus is a dict: kind of text -> share of the texts, for example
{"shell_game/careful": 0.3, "countdown/search": 0.6, "sums": 0.1}. Everything is generated: a step's windows follow
from (seed, step) alone, on any Python. Only problems of the train split occur. Texts follow one another in a row
without padding and without a mask between them, as in DeepSeek-V3's pre-training (V3 report, section 4.1).
"""

import torch

from dsmini.language.frame import document_text
from dsmini.language.tokenizer import BOS, EOS, TOKENIZER
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.draw import Draw

_TASKS = {"shell_game": shell_game, "countdown": countdown}
_SUMS_A_TEXT = 8
KINDS = ("sums", *(f"{name}/{style}" for name, task in _TASKS.items() for style in task.STYLES))


def text_of(kind, draw):
    """One random text of a kind in `KINDS`: a solved train problem in its frame, or a row of sums."""
    if kind == "sums":
        return f"{BOS}{' '.join(_sum(draw) for _ in range(_SUMS_A_TEXT))}{EOS}"
    name, style = kind.split("/")
    problem = _TASKS[name].sample(draw)
    return document_text(problem.prompt, *_TASKS[name].write(problem, style, draw))


def corpus(shares, batch_size, context, seed=0):
    """A corpus to train on: returns windows(step) -> (batch_size, context + 1) int64, the same for the same step.

    shares: dict, kind -> its share of the texts (any positive scale, any order). Each row starts with a text, and the
    last one in it is cut off. Raises ValueError for an unknown kind or a share that is not positive.
    """
    for kind, share in shares.items():
        if kind not in KINDS or not share > 0:
            raise ValueError(f"shares: {kind!r}: {share!r}, expected a share above 0 of one of {', '.join(KINDS)}")
    shares = {kind: shares[kind] for kind in KINDS if kind in shares}

    def windows(step):
        draw, rows = Draw("corpus", seed, step), []
        for _ in range(batch_size):
            row = []
            while len(row) <= context:
                row += TOKENIZER.encode(text_of(draw.weighted(shares), draw)).tolist()
            rows.append(row[: context + 1])
        return torch.tensor(rows)

    return windows


def _sum(draw):
    """A sum as countdown has them: `21 + 9 = 30`. Half of them start from a number up to 9, as a first sum does."""
    while True:
        left = draw.below(countdown.LARGEST + 1) if draw.happens(1 / 2) else 1 + draw.below(9)
        operator, right = draw.choice(countdown.OPERATORS), 1 + draw.below(9)
        result = countdown.calculate(left, operator, right)
        if result is not None:
            return f"{left} {operator} {right} = {result}"
