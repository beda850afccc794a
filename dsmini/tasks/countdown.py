"""Countdown: reach a number with the given ones, each used once.

`reach 30 with 3 9 7` is answered by `3 * 7 + 9`. Play goes from left to right, as on a pocket calculator, and every
result on the way is a whole number from 0 to 49. A thought is a list of attempts with their arithmetic and a mark:
`9 - 3 = 6 + 7 = 13 reach 30 no`. In the corpus the marks are honest. A problem is held out, one in ten, by a hash of
its sorted numbers and its target.
"""

import dataclasses
import functools
import itertools
import re
from typing import NamedTuple

from dsmini.tasks.draw import check_split, split_of

LARGEST = 49
OPERATORS = ("+", "-", "*", "/")
STYLES = ("direct", "search", "patient", "solve")
_PATIENCE = 16  # lines of play, and then even the patient gives up
_DIGITS = "[0-9]{1,9}"  # who writes more has not done any arithmetic
_SUM = re.compile(rf" ([-+*/]) ({_DIGITS}) = ({_DIGITS})")
_ATTEMPT = re.compile(
    rf"(?P<first>{_DIGITS})(?P<sums>(?:{_SUM.pattern})+) reach (?P<target>{_DIGITS}) (?P<mark>yes|no)"
)


@dataclasses.dataclass(frozen=True)
class Countdown:
    """One problem. numbers: what there is to use, in the order they are shown. target: what to reach."""

    numbers: tuple
    target: int

    @property
    def prompt(self):
        return f"reach {self.target} with {' '.join(map(str, self.numbers))}"

    @property
    def solutions(self):
        """Every right answer, as texts."""
        lines = lines_of_play(tuple(sorted(self.numbers)))
        return [" ".join(words) for words, value in lines.items() if value == self.target]

    @property
    def answer(self):
        """One right answer; `is_right` takes any."""
        return self.solutions[0]

    @property
    def difficulty(self):
        return len(self.numbers)

    @property
    def split(self):
        return split_of(Countdown(tuple(sorted(self.numbers)), self.target).prompt)


def calculate(left, operator, right):
    """left operator right, or None where play forbids it: below 0, above 49, or a division that is not exact."""
    if operator == "/":
        result = left // right if right and left % right == 0 else None
    else:
        result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return result if result is not None and 0 <= result <= LARGEST else None


def is_number(word):
    """Whether a word is a whole number as problems have them: plain digits, nine at most."""
    return re.fullmatch(_DIGITS, word) is not None


def evaluate(words):
    """The result of an expression from left to right, `["3", "*", "7"]` -> 21; None if it is none or breaks a rule."""
    operands, operators = words[::2], words[1::2]
    if len(words) % 2 == 0 or not all(map(is_number, operands)) or not all(op in OPERATORS for op in operators):
        return None
    value = int(operands[0])
    for operator, operand in zip(operators, operands[1:], strict=True):
        value = calculate(value, operator, int(operand))
        if value is None:
            return None
    return value


@functools.lru_cache(maxsize=4096)
def lines_of_play(numbers):
    """All that can be played with some sorted numbers, each line once: dict, expression as words -> its result."""
    lines = {}
    for order in sorted(set(itertools.permutations(numbers))):
        for operators in itertools.product(OPERATORS, repeat=len(numbers) - 1):
            pairs = zip(operators, map(str, order[1:]), strict=True)
            words = (str(order[0]), *itertools.chain.from_iterable(pairs))
            value = evaluate(words)
            if value is not None:
                lines[words] = value
    return lines


def sample(draw, split="train", count=3):
    """A random problem of the split: `count` numbers from 1 to 9, and what a random line of play makes of them."""
    check_split(split)
    if not 2 <= count <= 4:
        raise ValueError(f"count = {count!r}: expected 2, 3 or 4 numbers")
    while True:
        numbers = tuple(1 + draw.below(9) for _ in range(count))
        results = list(lines_of_play(tuple(sorted(numbers))).values())
        if results:
            problem = Countdown(numbers, draw.choice(results))
            if problem.split == split:
                return problem


def is_right(problem, answer):
    """Whether an answer's text uses each number once and reaches the target by the rules of play."""
    words = answer.split()
    uses_all = sorted(words[::2]) == sorted(map(str, problem.numbers))
    return uses_all and evaluate(words) == problem.target


def write(problem, style, draw):
    """A thought about the problem, and the answer that it ends in: two texts.

    direct: no thought, a right answer. search: different random lines of play until one is right, but with one chance
    in two it gives up after a line that was not, and answers that line all the same. patient: the same, giving up only
    after 16. solve: up to three lines that fail, then one that is right. Raises ValueError for another style.
    """
    if style not in STYLES:
        raise ValueError(f"style = {style!r}: expected one of {', '.join(STYLES)}")
    lines = lines_of_play(tuple(sorted(problem.numbers)))
    right = [words for words, value in lines.items() if value == problem.target]
    if style == "direct":
        return "", " ".join(draw.choice(right))
    if style == "solve":
        wrong = draw.shuffled([words for words in lines if words not in right])
        tried = [*wrong[: draw.below(4)], draw.choice(right)]
    else:
        tried = []
        for words in draw.shuffled(lines)[:_PATIENCE]:
            tried.append(words)
            if words in right or (style == "search" and draw.happens(1 / 2)):
                break
    return " ".join(attempt_text(words, problem.target) for words in tried), " ".join(tried[-1])


def attempt_text(words, target):
    """A line of play with its arithmetic and its mark: `3 * 7 = 21 + 9 = 30 reach 24 no`."""
    parts = [words[0]]
    for end in range(3, len(words) + 1, 2):
        parts += [*words[end - 2 : end], "=", str(evaluate(words[:end]))]
    return " ".join([*parts, "reach", str(target), "yes" if evaluate(words) == target else "no"])


class Attempt(NamedTuple):
    """One attempt as a thought has it, and what is true of it.

    words: its expression. sums_right: (n,) bools, whether each operation obeys the rules and has its result right.
    numbers_right: it uses the problem's numbers. says_yes: its mark. mark_right: the mark fits the result that is
    written before it, right or wrong.
    """

    words: tuple
    sums_right: tuple
    numbers_right: bool
    says_yes: bool
    mark_right: bool


def read_attempts(problem, thought):
    """The attempts of a thought, checked: a list of `Attempt`, with None for one that is not of that form."""
    attempts, words = [], []
    for word in thought.split():
        words.append(word)
        if word in ("yes", "no"):
            attempts.append(_read_attempt(problem, " ".join(words)))
            words = []
    return [*attempts, None] if words else attempts


def _read_attempt(problem, text):
    whole = _ATTEMPT.fullmatch(text)
    if whole is None or int(whole["target"]) != problem.target:
        return None
    expression, sums, written = [whole["first"]], [], whole["first"]
    for operator, operand, result in _SUM.findall(whole["sums"]):
        sums.append(evaluate((written, operator, operand)) == int(result))
        expression += [operator, operand]
        written = result
    numbers_right = sorted(expression[::2]) == sorted(map(str, problem.numbers))
    says_yes = whole["mark"] == "yes"
    mark_right = says_yes == (int(written) == problem.target)
    return Attempt(tuple(expression), tuple(sums), numbers_right, says_yes, mark_right)
