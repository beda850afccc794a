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

_SUMS_A_TEXT = 8
# kind -> task, style, options of its `sample`
_PROBLEMS = {
    "shell_game/easy": (shell_game, "direct", {"swaps": (0, 2)}),
    **{f"shell_game/{style}": (shell_game, style, {"swaps": (0, 9)}) for style in shell_game.STYLES},
    **{f"countdown/{style}": (countdown, style, {}) for style in countdown.STYLES},
}
KINDS = ("sums", *_PROBLEMS)


def text_of(kind, draw):
    """One random text of a kind in `KINDS`: a solved train problem in its frame, or a row of sums.

    Shell games have 0 to 9 swaps; "shell_game/easy" is an answer without a thought where there are 2 at most.
    """
    if kind == "sums":
        return f"{BOS}{' '.join(_sum(draw) for _ in range(_SUMS_A_TEXT))}{EOS}"
    task, style, options = _PROBLEMS[kind]
    problem = task.sample(draw, **options)
    return document_text(problem.prompt, *task.write(problem, style, draw))


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
