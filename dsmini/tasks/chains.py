"""Arithmetic chains: a sum of sums, worked out from left to right.

`7 * 3 - 5 + 9 =` is answered by `25`. The rules are those of countdown: play goes from left to right, as on a pocket
calculator, with numbers from 1 to 9, and every result on the way is a whole number from 0 to 49. A thought writes each
result down before it goes on (`7 * 3 = 21 - 5 = 16 + 9 = 25`), so that no step needs more than one sum. Generated only;
one problem in ten is held out by a hash of its text.
"""

import dataclasses

from dsmini.tasks.countdown import LARGEST, OPERATORS, calculate, evaluate
from dsmini.tasks.draw import check_split, split_of

MAX_STEPS = 12
STYLES = ("direct", "sloppy", "careful")


@dataclasses.dataclass(frozen=True)
class Chain:
    """One problem. words: its expression, such as ("7", "*", "3", "-", "5")."""

    words: tuple

    @property
    def prompt(self):
        return f"{' '.join(self.words)} ="

    @property
    def answer(self):
        return str(evaluate(self.words))

    @property
    def difficulty(self):
        return len(self.words) // 2

    @property
    def split(self):
        return split_of(self.prompt)


def sample(draw, split="train", steps=(1, 4)):
    """A random problem of the split. steps: fewest and most, from 1 to 12; every number of steps is as likely."""
    check_split(split)
    low, high = steps
    if not 1 <= low <= high <= MAX_STEPS:
        raise ValueError(f"steps = {steps!r}: expected (fewest, most) between 1 and {MAX_STEPS}")
    length = low + draw.below(high - low + 1)
    while True:
        value = 1 + draw.below(9)
        words = [str(value)]
        while len(words) // 2 < length:
            operator, operand = draw.choice(OPERATORS), 1 + draw.below(9)
            result = calculate(value, operator, operand)
            if result is not None:
                value = result
                words += [operator, str(operand)]
        problem = Chain(tuple(words))
        if problem.split == split:
            return problem


def is_right(problem, answer):
    """Whether an answer's text is the problem's."""
    return answer.split() == [problem.answer]


def write(problem, style, draw):
    """A thought about the problem in one of three styles, and the answer that it ends in: two texts.

    direct: no thought, the right answer. careful: every sum, rightly. sloppy: one sum in five goes wrong and is carried
    on, by the rules of play (where no wrong result lets the rest be played, the sum stays right). Raises ValueError for
    another style.
    """
    if style not in STYLES:
        raise ValueError(f"style = {style!r}: expected one of {', '.join(STYLES)}")
    if style == "direct":
        return "", problem.answer
    value, thought = problem.words[0], [problem.words[0]]
    for at in range(1, len(problem.words), 2):
        operation, rest = problem.words[at : at + 2], problem.words[at + 2 :]
        right = str(evaluate((value, *operation)))
        slips = style == "sloppy" and draw.happens(1 / 5)
        value = _slip(right, rest, draw) if slips else right
        thought += [*operation, "=", value]
    return " ".join(thought), value


def is_complete(problem, thought):
    """Whether a thought writes every sum of the problem, in order, and each result is right."""
    return thought.split() == write(problem, "careful", None)[0].split()


def _slip(right, rest, draw):
    """Another result, from which the rest of the chain can be played too; the right one if there is none."""
    results = [str(n) for n in range(LARGEST + 1) if str(n) != right and evaluate((str(n), *rest)) is not None]
    return draw.choice(results) if results else right
