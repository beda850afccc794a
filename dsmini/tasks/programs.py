"""Programs: write a Python function from a description and three examples.

A problem is a chain of small steps on a number, a list or a text: "keep the numbers above 4, then multiply each by 3,
then add them all up". An answer is source text, and the sandbox runs it on the examples and on cases that the prompt
does not show. The book's models cannot write Python, their vocabulary has no letters: this task is here for its
verifier, and for a weak one that trusts the examples. One problem in ten is held out, by a hash of what its function
does, so that "add 3, then add 4" is never in another split than "add 4, then add 3".
"""

import dataclasses
import functools
from typing import NamedTuple

from dsmini.tasks.draw import Draw, check_split, split_of
from dsmini.tasks.sandbox import Limits, run_tests

FUNCTION = "f"
LIMITS = Limits(cpu_seconds=0.2)  # a right answer takes a thousandth of it
MAX_STEPS = 4
STYLES = ("right", "off-by-one", "special-cased", "loops-forever", "forbidden")
_VISIBLE, _HIDDEN = 3, 9
_KINDS = {
    "number": "a whole number that is not negative",
    "list": "a list of whole numbers that are not negative",
    "text": "a text",
}
_WORDS = ("apple", "bell", "candle", "drum", "echo", "forest", "garden", "hill", "island", "jungle", "kettle", "lemon",
          "meadow", "night", "ocean", "pepper")  # fmt: skip
_LARGEST, _LONGEST = 10**6, 80  # of any result on the way


class Step(NamedTuple):
    """What one step turns into what ("number", "list", "text"), in words, as code, and which constants {k} it takes."""

    before: str
    after: str
    words: str
    code: str
    constants: tuple = ()


_NUMBER, _LIST, _TEXT = ("number", "number"), ("list", "list"), ("text", "text")
STEPS = {
    "add": Step(*_NUMBER, "add {k}", "x + {k}", range(2, 10)),
    "multiply": Step(*_NUMBER, "multiply by {k}", "x * {k}", range(2, 10)),
    "divide": Step(*_NUMBER, "divide by {k} and round down", "x // {k}", range(2, 10)),
    "remainder": Step(*_NUMBER, "take the remainder of a division by {k}", "x % {k}", range(4, 20)),
    "distance": Step(*_NUMBER, "take the distance from {k}", "abs(x - {k})", range(10, 60)),
    "at least": Step(*_NUMBER, "take {k} if the number is below {k}", "max(x, {k})", range(10, 50)),
    "square": Step(*_NUMBER, "square it", "x * x"),
    "digit sum": Step(*_NUMBER, "add up the digits", "sum(int(digit) for digit in str(x))"),
    "even or odd": Step(*_NUMBER, "halve it if it is even, else add {k}", "x // 2 if x % 2 == 0 else x + {k}",
                        range(2, 10)),
    "digits": Step("number", "list", "list the digits from left to right", "[int(digit) for digit in str(x)]"),
    "above": Step(*_LIST, "keep the numbers above {k}", "[n for n in x if n > {k}]", range(2, 10)),
    "below": Step(*_LIST, "keep the numbers below {k}", "[n for n in x if n < {k}]", range(8, 18)),
    "even": Step(*_LIST, "keep the even numbers", "[n for n in x if n % 2 == 0]"),
    "multiples": Step(*_LIST, "drop the multiples of {k}", "[n for n in x if n % {k} != 0]", range(2, 6)),
    "add to each": Step(*_LIST, "add {k} to each number", "[n + {k} for n in x]", range(2, 10)),
    "multiply each": Step(*_LIST, "multiply each number by {k}", "[n * {k} for n in x]", range(2, 10)),
    "sort": Step(*_LIST, "sort the numbers, the smallest first", "sorted(x)"),
    "reverse": Step(*_LIST, "reverse the list", "x[::-1]"),
    "distinct": Step(*_LIST, "keep only the first of equal numbers", "list(dict.fromkeys(x))"),
    "drop": Step(*_LIST, "drop the first {k} numbers", "x[{k}:]", range(2, 4)),
    "every second": Step(*_LIST, "keep every second number, starting with the first", "x[::2]"),
    "running totals": Step(*_LIST, "replace each number by the sum of all numbers up to it",
                           "[sum(x[:end + 1]) for end in range(len(x))]"),
    "gaps": Step(*_LIST, "list the distances between neighbours", "[abs(a - b) for a, b in zip(x, x[1:])]"),
    "sum": Step("list", "number", "add them all up", "sum(x)"),
    "largest": Step("list", "number", "take the largest number, or 0 if there is none", "max([0] + x)"),
    "count": Step("list", "number", "count the numbers that are left", "len(x)"),
    "upper": Step(*_TEXT, "write it in capitals", "x.upper()"),
    "backwards": Step(*_TEXT, "reverse it", "x[::-1]"),
    "no vowels": Step(*_TEXT, "leave out the vowels (a, e, i, o, u, capitals too)",
                      "''.join(letter for letter in x if letter.lower() not in 'aeiou')"),
    "twice": Step(*_TEXT, "write every character twice", "''.join(letter * 2 for letter in x)"),
    "word order": Step(*_TEXT, "put its words in reverse order", "' '.join(x.split()[::-1])"),
    "cut": Step(*_TEXT, "keep the first {k} characters", "x[:{k}]", range(5, 15)),
    "skip": Step(*_TEXT, "drop the first {k} characters", "x[{k}:]", range(2, 6)),
    "replace": Step(*_TEXT, "replace every small {k} by a star", "x.replace('{k}', '*')", tuple("aelnr")),
    "length": Step("text", "number", "count the characters", "len(x)"),
    "vowels": Step("text", "number", "count the vowels (a, e, i, o, u, capitals too)",
                   "sum(letter in 'aeiou' for letter in x.lower())"),
    "word lengths": Step("text", "list", "list the lengths of its words", "[len(word) for word in x.split()]"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Program:
    """One problem. steps: pairs (name in STEPS, constant or None), each taking what the one before it makes."""

    steps: tuple

    @property
    def prompt(self):
        kind = _KINDS[STEPS[self.steps[0][0]].before]
        examples = "\n".join(f"{FUNCTION}({x!r}) == {y!r}" for (x,), y in self.visible)
        return f"Write a Python function {FUNCTION}(x). x is {kind}: {self.plan}. Return the result.\n{examples}"

    @property
    def plan(self):
        """The steps in words."""
        return ", then ".join(STEPS[name].words.format(k=k) for name, k in self.steps)

    @property
    def answer(self):
        """A right source, a line a step."""
        return _source([f"x = {_code(step)}" for step in self.steps])

    @property
    def visible(self):
        """The cases in the prompt, as `sandbox.run_tests` takes them."""
        return _cases(self.steps)[:_VISIBLE]

    @property
    def hidden(self):
        """The cases that are not, the empty input among them."""
        return _cases(self.steps)[_VISIBLE:]

    @property
    def difficulty(self):
        return len(self.steps)

    @property
    def split(self):
        probes = _inputs(STEPS[self.steps[0][0]].before, Draw("probes"), 16)
        return split_of(repr([(x, _result(self.steps, x)) for x in probes]))


def sample(draw, split="train", steps=(1, 3)):
    """A random problem of the split. steps: fewest and most, from 1 to 4; every number of steps is as likely.

    Results stay small and differ, and a step that could be left out without a case noticing is none.
    """
    check_split(split)
    low, high = steps
    if not 1 <= low <= high <= MAX_STEPS:
        raise ValueError(f"steps = {steps!r}: expected (fewest, most) between 1 and {MAX_STEPS}")
    length = low + draw.below(high - low + 1)
    while True:
        kind, chain = draw.choice(list(_KINDS)), []
        for _ in range(length):
            name = draw.choice([name for name, step in STEPS.items() if step.before == kind])
            chain.append((name, draw.choice(STEPS[name].constants) if STEPS[name].constants else None))
            kind = STEPS[name].after
        problem = Program(tuple(chain))
        if _is_good(problem) and problem.split == split:
            return problem


def judge(problem, answer):
    """The sandbox's `Verdict` on a source: the visible cases, then the hidden ones."""
    return run_tests(answer, FUNCTION, problem.visible + problem.hidden, LIMITS)


def is_right(problem, answer):
    """Whether an answer's source passes the visible and the hidden cases."""
    return judge(problem, answer).right


def is_weakly_right(problem, answer):
    """The weak verifier: whether a source passes the examples that its author was shown."""
    return run_tests(answer, FUNCTION, problem.visible, LIMITS).right


def write(problem, style, draw):
    """A thought about the problem, and a source, in one of five styles: two texts.

    right: the plan in words, a right source. The others come without a thought. off-by-one: a constant that is one too
    large, or an end that is one off; now and then right on the examples, never on all cases. special-cased: the
    examples, each with an `if`, and nothing else. loops-forever: never returns. forbidden: a way out that the sandbox
    refuses. Raises ValueError for another style.
    """
    if style not in STYLES:
        raise ValueError(f"style = {style!r}: expected one of {', '.join(STYLES)}")
    if style == "right":
        return problem.plan, problem.answer
    if style == "off-by-one":
        return "", draw.choice(_slips(problem))
    if style == "special-cased":
        lines = [f"if x == {x!r}:\n        return {y!r}" for (x,), y in problem.visible]
        return "", _source([*lines, f"x = {problem.visible[0][1]!r}"])
    loops = ("while True:\n        pass", "while x == x:\n        x = x", "for x in iter(int, 1):\n        pass")
    escapes = (
        "import os\n    os.system('true')",
        "x = open('cases').read()",
        "x = eval('x')",
        "x = ().__class__.__base__.__subclasses__()",
        "x = '{0.__class__}'.format(x)",
    )
    return "", _source([draw.choice(loops if style == "loops-forever" else escapes)])


def _source(lines):
    return "\n    ".join([f"def {FUNCTION}(x):", *lines, "return x\n"])


def _code(step):
    name, k = step
    return STEPS[name].code.format(k=k)


@functools.lru_cache(maxsize=4096)
def _compiled(code):
    return compile(code, "<step>", "eval")


def _result(steps, x):
    """What the steps make of x. Their code is this file's own, so it needs no sandbox."""
    for step in steps:
        x = eval(_compiled(_code(step)), {"x": x})
    return x


def _inputs(kind, draw, n):
    """n different values: random ones, and last what is easily forgotten (0, or an empty list or text)."""
    empty = {"number": 0, "list": [], "text": ""}[kind]
    values = []
    while len(values) < n - 1:
        if kind == "number":
            value = 1 + draw.below(99)
        elif kind == "list":
            value = [draw.below(21) for _ in range(2 + draw.below(7))]
        else:
            value = " ".join(draw.choice(_WORDS) for _ in range(1 + draw.below(4)))
        if value not in values:
            values.append(value)
    return [*values, empty]


@functools.lru_cache(maxsize=1024)
def _cases(steps):
    """The problem's cases, ((x,), expected) each: the visible ones first."""
    inputs = _inputs(STEPS[steps[0][0]].before, Draw("cases", repr(steps)), _VISIBLE + _HIDDEN)
    return tuple(((x,), _result(steps, x)) for x in inputs)


def _is_good(problem):
    """Whether no result is too large, results differ, and every step that can be left out changes some result."""
    steps = problem.steps
    prefixes = [steps[:end] for end in range(1, len(steps) + 1)]
    if any(_is_large(_result(prefix, x)) for prefix in prefixes for (x,), _ in _cases(steps)):
        return False
    different = [len({repr(y) for _, y in cases}) for cases in (problem.visible, problem.hidden)]
    shorter = [steps[:i] + steps[i + 1 :] for i, (name, _) in enumerate(steps) if STEPS[name][0] == STEPS[name][1]]
    return different[0] >= 2 and different[1] >= 4 and all(_differs(problem, other) for other in shorter)


def _is_large(value):
    if isinstance(value, int):
        return value > _LARGEST
    return len(value) > _LONGEST or (isinstance(value, list) and any(map(_is_large, value)))


def _differs(problem, steps):
    return any(_result(steps, x) != y for (x,), y in _cases(problem.steps))


def _slips(problem):
    """Sources with one small error each, all wrong on some case."""
    steps, sources = problem.steps, []
    for i, (name, k) in enumerate(steps):
        if isinstance(k, int):
            slipped = (*steps[:i], (name, k + 1), *steps[i + 1 :])
            if _differs(problem, slipped):
                sources.append(Program(slipped).answer)
    last = "x = x + 1" if STEPS[steps[-1][0]].after == "number" else "x = x[:-1]"
    return sources or [_source([*(f"x = {_code(step)}" for step in steps), last])]
