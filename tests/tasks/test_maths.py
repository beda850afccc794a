"""Maths: right answers in many spellings, wrong ones that look right, and answers written to break the checker."""

import ast
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
import sympy

from dsmini.tasks import forms, formulas, maths
from dsmini.tasks.draw import Draw
from dsmini.tasks.maths import KINDS, LEVELS, STYLES, Maths, is_equal, is_right, sample, write

QUADRATIC = Maths("quadratic", "x^2 + x - 6 = 0", ("-3", "2"))
FACTOR = Maths("factor", "2x^2 + x - 6", ("(x + 2)(2x - 3)",))
X = sympy.Symbol("x")


def samples(n=300, **options):
    draw = Draw("test", n)
    return [sample(draw, **options) for _ in range(n)]


def solved_by_sympy(problem):
    """The slow twin: the answers as SymPy finds them from what is asked. Its own reader, for texts that we wrote."""
    left, _, right = problem.subject.partition("=")
    read = sympy.parsing.sympy_parser
    asked = read.parse_expr(
        f"{left} - ({right or 0})",
        transformations=(*read.standard_transformations, read.implicit_multiplication_application, read.convert_xor),
    )
    match problem.kind:
        case "linear" | "quadratic" | "surd":
            return set(sympy.solve(asked, X))
        case "derivative":
            return {sympy.expand(sympy.diff(asked, X))}
    return {sympy.expand(asked)}


def test_problems_by_hand():
    assert QUADRATIC.prompt == "solve x^2 + x - 6 = 0 for x" and QUADRATIC.answer == "-3, 2"
    assert FACTOR.prompt == "factor 2x^2 + x - 6" and FACTOR.answer == "(x + 2)(2x - 3)"
    assert QUADRATIC.difficulty == FACTOR.difficulty == 3


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        *((QUADRATIC, text) for text in (
            "2, -3", "x = 2 or x = -3", r"\boxed{x = -3, x = 2}", r"\{-3, 2\}", "4/2, -3.0", "2, 2, -3",
            r"x_1 = 2, x_{2} = -3", r"S = \{2, -3\}", r"x \in \{2, -3\}",
            r"x = -\frac12 \pm \frac52", "The roots are \\boxed{\n2,\\; -3 }.")),
        *((FACTOR, text) for text in (
            "(2x-3)(x+2)", r"\boxed{(x+2)(2x-3)}", "2(x - 1.5)(x + 2)", "-(3 - 2x)(x + 2)", r"2(x+2)(x-\frac{3}{2})")),
    ],
)  # fmt: skip
def test_every_spelling_of_a_right_answer_is_right(problem, answer):
    assert is_right(problem, answer) and is_equal(problem, answer)


@pytest.mark.parametrize(
    ("problem", "answer", "is_equal_all_the_same"),
    [
        *((QUADRATIC, text, False) for text in (
            "2", "-3", "2, 3", "-3, 2, 1", "", "x = x", "x", "x^2 + x - 6 = 0", "-3 2", "(-3, 2)", "2, -3.0000001",
            "-2, 3", r"\boxed{2, -3", "The roots are 2 and -3.",
            "y = 2 or z = -3", "x = 2, y = -3", r"\boxed{t_1=2, t_2=-3}", r"y \in \{2, -3\}")),
        *((FACTOR, text, False) for text in ("(x+2)(2x+3)", "(x+2)(2x-3) = 0", "(x+2), (2x-3)", "x^2 + x/2 - 3")),
        *((FACTOR, text, True) for text in ("2x^2 + x - 6", "x(2x + 1) - 6", "(2x^2 + x - 6)*1", "(x+2)(2x-3) + 0")),
    ],
)  # fmt: skip
def test_wrong_answers_are_wrong_and_so_are_right_ones_in_another_form(problem, answer, is_equal_all_the_same):
    assert not is_right(problem, answer) and is_equal(problem, answer) == is_equal_all_the_same


def test_answers_are_those_of_sympy():
    seen = set()
    for problem in samples(200):
        trees = [formulas.parse(text)[0] for text in problem.solutions]
        assert {sympy.expand(formulas.to_sympy(tree)) for tree in trees} == solved_by_sympy(problem), problem
        assert is_right(problem, problem.answer)
        seen.add(problem.kind)
    assert seen == set(KINDS)


def test_answers_are_what_is_asked_for_and_not_the_question():
    for problem in samples(300):
        (tree, *others) = [formulas.parse(text)[0] for text in problem.solutions]
        if problem.kind == "factor":
            assert sympy.Poly(formulas.to_sympy(tree), X).content() == 1, "nothing is left to factor out"
        if problem.kind in ("quadratic", "surd"):
            assert len(others) == 1
        assert problem.answer != problem.subject


@pytest.mark.parametrize("levels", [(1, 1), (2, 2), (3, 3), (1, 2)])
def test_both_splits_have_problems_of_every_level_and_they_never_meet(levels):
    texts = {}
    for split in ("train", "test"):
        problems = samples(300, split=split, levels=levels)
        assert {problem.split for problem in problems} == {split}
        kinds = {kind for level in range(levels[0], levels[1] + 1) for kind in LEVELS[level]}
        assert {problem.kind for problem in problems} == kinds
        assert {problem.difficulty for problem in problems} == set(range(levels[0], levels[1] + 1))
        texts[split] = {problem.prompt for problem in problems}
    assert not texts["train"] & texts["test"]


def test_a_product_is_one_problem_in_any_order_of_its_factors():
    for problem in samples(300, levels=(2, 2)):
        if problem.kind == "expand":
            slopes = [factor.partition("x")[0] for factor in problem.subject[1:-1].split(")(")]
            assert slopes == sorted(slopes, key=lambda a: int(a or 1)), "in order"


def test_a_right_answer_stays_right_in_every_spelling_and_a_wrong_sign_is_always_wrong():
    draw, spellings = Draw(0), set()
    for problem in samples(300):
        for style, right in (("right", True), ("respelled", True), ("sign", False), ("copy", False)):
            thought, answer = write(problem, style, draw)
            assert thought == "" and is_right(problem, answer) == right, (problem, style, answer)
            if style == "respelled":
                spellings.add(answer == problem.answer)
    assert False in spellings


def test_half_an_answer_is_wrong_and_a_rounded_one_unless_it_is_exact():
    draw = Draw(0)
    for problem in samples(300):
        two = len(problem.solutions) == 2
        assert is_right(problem, write(problem, "half", draw)[1]) != two
        rounded = write(problem, "decimal", draw)[1]
        if problem.kind in ("expand", "factor", "derivative"):
            assert rounded == problem.answer
        else:
            values = [formulas.evaluate(formulas.parse(text)[0], {}) for text in problem.solutions]
            exact = problem.kind not in ("root", "surd") and all((100 * value).denominator == 1 for value in values)
            assert is_right(problem, rounded) == exact, (problem, rounded)


def test_equal_is_not_enough_who_copies_the_question_is_equal_too():
    paid = {kind: set() for kind in KINDS}
    for problem in samples(300):
        paid[problem.kind].add(is_equal(problem, write(problem, "copy", Draw(0))[1]))
    copied = {kind for kind, verdicts in paid.items() if True in verdicts}
    assert copied == {"fraction", "root", "expand", "factor"} and all(len(verdicts) == 1 for verdicts in paid.values())


def test_one_term_more_is_wrong():
    draw = Draw(0)
    for problem in samples(100):
        tree = draw.choice([formulas.parse(text)[0] for text in problem.solutions])
        off = ("+", tree, ("number", Fraction(1 + draw.below(9), 1 + draw.below(9))))
        others = [text for text in problem.solutions if formulas.parse(text)[0] != tree]
        answer = ", ".join([forms.spell(off, draw, latex=draw.happens(1 / 2)), *others])
        assert not is_equal(problem, answer), (problem, answer)


HOSTILE = {
    "code": "__import__('os').system('touch /tmp/hacked')",
    "class": "().__class__.__bases__[0].__subclasses__()",
    "tower": "9^9^9^9^9",
    "brackets": "(" * 100_000,
    "closed brackets": "(" * 50_000 + "2" + ")" * 50_000,
    "braces": "{" * 1_000_000,
    "boxes": r"\boxed{" * 140_000,
    "digits": "9" * 1_000_000,
    "powers": "((((9^12)^12)^12)^12)^12",
    "fractions": r"\frac" * 50,
    "roots": "sqrt(" * 55,
    "minus": "-" * 299 + "2",
    "sum": "1+" * 149 + "1",
    "exponents": "x^" * 149 + "2",
    "list": "," * 299,
    "spaces": " " * 1_000_000 + "2",
    "nothing": "\x00\x00",
    "surrogate": "\ud800",
    "other digits": "²³",
    "zero": "2/0, -3",
    "infinite": "oo",
    "set": "{" * 140 + "2, -3" + "}" * 140,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("box", [False, True])
def test_answers_written_to_break_the_checker_are_wrong_in_bounded_time(name, box):
    is_right(QUADRATIC, QUADRATIC.answer)  # SymPy is there
    answer = rf"\boxed{{{HOSTILE[name]}}}" if box else HOSTILE[name]
    start = time.process_time()
    assert not is_right(QUADRATIC, answer) and not is_right(FACTOR, answer)
    assert time.process_time() - start < 1


def test_an_answer_behind_a_million_characters_is_found():
    assert is_right(QUADRATIC, r"\boxed{1} " + "wait " * 200_000 + r"\boxed{2, -3}")


def test_no_text_of_a_model_reaches_an_evaluator():
    """Neither by name nor by SymPy's readers: the trees of all three modules name none of them."""
    for module in (formulas, forms, maths):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & {"eval", "exec", "compile", "__import__", "getattr"} and "Fraction" in names
        assert not attributes & {"eval", "sympify", "S", "parse_expr", "parse_latex", "sympy_parser"}


def test_sympy_is_imported_by_who_checks_and_by_nobody_else():
    code = (
        "import sys; from dsmini.tasks import maths; from dsmini.tasks.draw import Draw; "
        "p = maths.sample(Draw(0)); before = 'sympy' in sys.modules; maths.is_right(p, p.answer); "
        "print(before, 'sympy' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(Draw(0), "dev"), "split = 'dev'"),
        (lambda: sample(Draw(0), levels=(0, 3)), r"levels = \(0, 3\): expected \(easiest, hardest\) between 1 and 3"),
        (lambda: sample(Draw(0), levels=(3, 1)), r"levels = \(3, 1\)"),
        (lambda: write(FACTOR, "fast", Draw(0)), "style = 'fast': expected one of right, respelled, copy, sign"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_styles_are_all_tested_here():
    assert set(STYLES) == {"right", "respelled", "copy", "sign", "half", "decimal"}
