"""The maths verifier against math-verify, Hugging Face's: the same verdicts, but for differences that are listed here.

Its time limits are signals (`SIGALRM`), which work in a main thread only and would race with a test runner's own, so
they are switched off: nothing here takes long.
"""

from collections import Counter

import math_verify
import pytest

from dsmini.tasks.draw import Draw
from dsmini.tasks.forms import spell
from dsmini.tasks.formulas import boxed, parse
from dsmini.tasks.maths import KINDS, Maths, is_equal, is_right, sample, write


def theirs(gold, answer):
    """math-verify's verdict; None where it reads nothing."""
    read = math_verify.parse(answer, parsing_timeout=None)
    if not read:
        return None
    return math_verify.verify(math_verify.parse(gold, parsing_timeout=None), read, timeout_seconds=None)


def in_latex(problem, texts, draw):
    """Formulas as a model would hand them in: in LaTeX, in dollars or in a box; several as one of four lists."""
    texts = [spell(tree, draw, latex=True) for text in texts for tree in parse(text)]
    listed = ", ".join(texts)
    if len(texts) > 1:
        either = r" \text{ or } ".join(f"x = {text}" for text in texts)
        listed = draw.choice([listed, f"x = {listed}", rf"\{{{listed}\}}", either])
    return draw.choice([f"${listed}$", rf"The answer is \boxed{{{listed}}}."])


def gold(problem):
    texts = [spell(tree, latex=True) for text in problem.solutions for tree in parse(text)]
    listed = ", ".join(texts)
    return f"${listed}$" if len(texts) == 1 else rf"$\{{{listed}\}}$"


def test_same_verdict_on_everything_that_both_read():
    draw, verdicts, kinds = Draw("parity"), Counter(), Counter()
    for _ in range(100):
        problem = sample(draw)
        for style in ("right", "respelled", "sign", "half", "decimal", "copy"):
            said = boxed(write(problem, style, draw)[1])
            if style == "copy" and "=" in said:
                continue  # an equation is no answer to us
            answer = in_latex(problem, [said], draw)
            verdict = theirs(gold(problem), answer)
            assert verdict is not None and verdict == is_equal(problem, answer), (problem, style, answer)
            verdicts[style, verdict] += 1
            kinds[problem.kind, verdict] += 1
    assert sum(verdicts.values()) > 500
    assert all(kinds[kind, verdict] > 5 for kind in KINDS for verdict in (True, False)), kinds
    assert verdicts["right", True] == verdicts["respelled", True] == verdicts["sign", False] == 100
    assert verdicts["half", False] > 20 and verdicts["decimal", False] > 30 and verdicts["copy", True] > 30


SOLUTIONS, FORMULA = "quadratic", "derivative"
DIFFERENCES = [
    # kind, solutions, answer, their verdict, ours, and why
    (FORMULA, "1/3", "$0.3333333$", True, False, "they round to six places"),
    (FORMULA, "sqrt(2)", "$1.4142136$", True, False, "they round to six places"),
    (FORMULA, "pi", "$3.141593$", True, False, "they round to six places"),
    (SOLUTIONS, "2, 3", "$(2,3)$", True, False, "an open interval, or a pair, is no set of two"),
    (FORMULA, "3", r"$3\%$", True, False, "a percentage is read with and without its hundredth"),
    (FORMULA, "3", r"$3 \text{ cm}$", True, False, "they drop units, we know none"),
    (FORMULA, "x^2+2x+1", "$(x+1)^2 = x^2+2x+1$", True, False, "they take an equation's last side, to us it is none"),
    (FORMULA, "1000", "$1,000$", True, False, "a comma makes a list for us, a thousand for them"),
    (FORMULA, "1/(2x)", "$1/2x$", True, False, "a product behind a slash: they read 1/(2x), we refuse to guess"),
    (FORMULA, "3", "x = 2 or x = 3", True, False, "outside of LaTeX they take the last number"),
    (FORMULA, "2x", "2*x", False, True, "outside of LaTeX they take the first number, we read plain text too"),
    (FORMULA, "7", "The answer is 7.", True, False, "they search a sentence, we want it alone or in a box"),
    (FORMULA, "2", r"\boxed{1}, no, \boxed{2}", False, True, "of several boxes we take the last, they make a set"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "solutions", "answer", "their_verdict", "our_verdict", "why"), DIFFERENCES)
def test_known_differences_are_as_listed(kind, solutions, answer, their_verdict, our_verdict, why):
    problem = Maths(kind, "", tuple(solutions.split(", ")))
    assert theirs(gold(problem), answer) == their_verdict, why
    assert is_equal(problem, answer) == our_verdict, why


def test_who_copies_the_question_is_paid_by_them_and_not_by_us():
    draw, paid = Draw("copies"), Counter()
    for _ in range(60):
        problem = sample(draw, levels=(1, 3))
        if problem.kind in ("fraction", "root", "expand", "factor"):
            copy = f"${spell(*parse(problem.subject), latex=True)}$"
            paid["theirs"] += theirs(gold(problem), copy)
            paid["ours"] += is_right(problem, copy)
            paid["equal"] += is_equal(problem, copy)
            paid["copies"] += 1
    assert paid["theirs"] == paid["equal"] == paid["copies"] > 20 and paid["ours"] == 0
