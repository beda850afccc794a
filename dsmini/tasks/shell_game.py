"""The shell game: two balls under five cups, some swaps of cups, where are the balls?

`cups 2 4 a 1-2 b 3-4` puts the balls under cups 2 and 4, then swaps cups 1 and 2, then cups 3 and 4: the answer is
`1 3`. Whoever answers at once is near chance (1 in 20); whoever writes down every swap with where the balls are after
it (`a 1-2 1 4 b 3-4 1 3`) need only ever do one small step. The swaps carry letters so that a thought can say which one
it is at. Generated only; one problem in ten is held out by a hash of its text.
"""

import dataclasses

from dsmini.tasks.draw import check_split, split_of

CUPS = 5
MAX_SWAPS = 12
SWAPS = tuple((i, j) for i in range(1, CUPS + 1) for j in range(i + 1, CUPS + 1))
LABELS = "abcdefghijkl"
STYLES = ("direct", "quit", "skip", "sloppy", "wait", "careful")


@dataclasses.dataclass(frozen=True)
class ShellGame:
    """One problem. balls: the two cups with a ball, in order of the balls. swaps: pairs (i, j) of cups, i < j."""

    balls: tuple
    swaps: tuple

    @property
    def prompt(self):
        swaps = "".join(f" {label} {i}-{j}" for label, (i, j) in zip(LABELS, self.swaps, strict=False))
        return f"cups {self.balls[0]} {self.balls[1]}{swaps}"

    @property
    def answer(self):
        balls = self.balls
        for swap in self.swaps:
            balls = swapped(balls, swap)
        return f"{balls[0]} {balls[1]}"

    @property
    def difficulty(self):
        return len(self.swaps)

    @property
    def split(self):
        return split_of(self.prompt)


def swapped(balls, swap):
    """Where the balls are once the two cups of `swap` have changed places."""
    other = {swap[0]: swap[1], swap[1]: swap[0]}
    return tuple(other.get(cup, cup) for cup in balls)


def sample(draw, split="train", swaps=(3, 9)):
    """A random problem of the split. swaps: fewest and most, from 0 to 12; every number of swaps is as likely."""
    check_split(split)
    low, high = swaps
    if not 0 <= low <= high <= MAX_SWAPS:
        raise ValueError(f"swaps = {swaps!r}: expected (fewest, most) between 0 and {MAX_SWAPS}")
    length = low + draw.below(high - low + 1)
    while True:
        first, second = draw.shuffled(range(1, CUPS + 1))[:2]
        problem = ShellGame((first, second), tuple(draw.choice(SWAPS) for _ in range(length)))
        if problem.split == split:
            return problem


def is_right(problem, answer):
    """Whether an answer's text is the problem's."""
    return answer.split() == problem.answer.split()


def write(problem, style, draw):
    """A thought about the problem in one of six styles, and the answer that it ends in: two texts.

    direct: no thought, the right answer. careful: every step, rightly. wait: one step in four goes wrong, is noticed
    ("wait") and done again. sloppy: one step in five goes wrong and stays wrong. skip: forgets a third of the swaps.
    quit: stops early, and answers what it has. Raises ValueError for another style.
    """
    if style not in STYLES:
        raise ValueError(f"style = {style!r}: expected one of {', '.join(STYLES)}")
    if style == "direct":
        return "", problem.answer
    steps = list(zip(LABELS, problem.swaps, strict=False))
    if style == "quit":
        steps = steps[: 1 + draw.below(len(steps) - 1)] if len(steps) > 1 else []
    if style == "skip":
        steps = [step for step in steps if not draw.happens(1 / 3)]
    slips = {"wait": 1 / 4, "sloppy": 1 / 5}.get(style, 0)
    balls, words = problem.balls, []
    for label, swap in steps:
        right = swapped(balls, swap)
        balls = _slip(right, draw) if slips and draw.happens(slips) else right
        words += _step(label, swap, balls)
        if style == "wait" and balls != right:
            balls = right
            words += ["wait", *_step(label, swap, balls)]
    return " ".join(words), f"{balls[0]} {balls[1]}"


def is_complete(problem, thought):
    """Whether a thought writes every swap of the problem, in order and as given, and each step's result is right.

    Steps that are done again behind a "wait" count as what they end in.
    """
    words, balls = thought.split(), problem.balls
    for label, swap in zip(LABELS, problem.swaps, strict=False):
        balls = swapped(balls, swap)
        while words[4:5] == ["wait"]:
            words = words[5:]
        if words[:4] != _step(label, swap, balls):
            return False
        words = words[4:]
    return not words


def _step(label, swap, balls):
    return [label, f"{swap[0]}-{swap[1]}", str(balls[0]), str(balls[1])]


def _slip(balls, draw):
    """The same with one ball under a wrong cup."""
    free = [cup for cup in range(1, CUPS + 1) if cup not in balls]
    return (draw.choice(free), balls[1]) if draw.happens(1 / 2) else (balls[0], draw.choice(free))
