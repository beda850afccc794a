"""Programs: problems that mean what they say, submissions that fail as their styles promise, and the weak verifier."""

import collections
import itertools

import pytest

from dsmini.language.frame import response_text
from dsmini.tasks import programs
from dsmini.tasks.draw import Draw
from dsmini.tasks.programs import STEPS, STYLES, Program, is_right, is_weakly_right, judge, sample, write
from dsmini.tasks.rewards import accuracy
from dsmini.tasks.sandbox import Limits, Refused, check_source

SUM = Program((("above", 4), ("multiply each", 3), ("sum", None)))


def samples(n=200, **options):
    draw = Draw("test", n)
    return [sample(draw, **options) for _ in range(n)]


def test_a_problem_by_hand():
    assert SUM.difficulty == 3 and len(SUM.visible) == 3 and len(SUM.hidden) == 9
    lines = ["def f(x):", "x = [n for n in x if n > 4]", "x = [n * 3 for n in x]", "x = sum(x)", "return x\n"]
    assert SUM.answer == "\n    ".join(lines)
    first, *examples = SUM.prompt.splitlines()
    assert first == ("Write a Python function f(x). x is a list of whole numbers that are not negative: keep the "
                     "numbers above 4, then multiply each number by 3, then add them all up. "
                     "Return the result.")  # fmt: skip
    assert examples == [f"f({x}) == {sum(3 * n for n in x if n > 4)}" for (x,), _ in SUM.visible]
    assert (([],), 0) in SUM.hidden
    assert is_right(SUM, SUM.answer) and is_right(SUM, "def f(x): return 3 * sum(n for n in x if n >= 5)")
    for wrong in ("", "9", "f = sum", "def f(x): return 3 * sum(n for n in x if n >= 4)",
                  "def f(x): return 3.0 * sum(n for n in x if n > 4)", SUM.answer.replace("f(", "g("), None):
        assert not is_right(SUM, wrong), wrong


# every step once more, written another way: name -> (constant, input, output), ...
BY_HAND = {
    "add": [(3, 4, 7)], "multiply": [(3, 4, 12)], "divide": [(4, 11, 2)], "remainder": [(5, 13, 3), (5, 0, 0)],
    "distance": [(10, 3, 7), (10, 13, 3)], "at least": [(10, 9, 10), (10, 11, 11)], "square": [(None, 7, 49)],
    "digit sum": [(None, 905, 14), (None, 0, 0)], "even or odd": [(3, 8, 4), (3, 7, 10)],
    "digits": [(None, 905, [9, 0, 5]), (None, 0, [0])], "above": [(4, [4, 5, 3], [5])], "below": [(4, [4, 5, 3], [3])],
    "even": [(None, [3, 0, 8, 7], [0, 8])], "multiples": [(3, [3, 4, 0, 9, 5], [4, 5])],
    "add to each": [(2, [1, 5], [3, 7])],
    "multiply each": [(2, [1, 5], [2, 10])], "sort": [(None, [3, 1, 2, 1], [1, 1, 2, 3])],
    "reverse": [(None, [3, 1, 2], [2, 1, 3])], "distinct": [(None, [3, 1, 3, 2, 1], [3, 1, 2])],
    "drop": [(2, [3, 1, 2], [2]), (2, [3], [])], "every second": [(None, [3, 1, 2, 4], [3, 2])],
    "running totals": [(None, [3, 1, 2], [3, 4, 6]), (None, [], [])],
    "gaps": [(None, [3, 1, 5], [2, 4]), (None, [3], [])],
    "sum": [(None, [3, 1], 4), (None, [], 0)], "largest": [(None, [3, 7, 1], 7), (None, [], 0)],
    "count": [(None, [3, 3], 2)], "upper": [(None, "a bell", "A BELL")], "backwards": [(None, "a bell", "lleb a")],
    "no vowels": [(None, "An Apple hill", "n ppl hll")], "twice": [(None, "a bc", "aa  bbcc")],
    "word order": [(None, "a bell night", "night bell a"), (None, "", "")], "cut": [(3, "bell", "bel"), (3, "a", "a")],
    "skip": [(3, "bells", "ls"), (3, "a", "")], "replace": [("e", "bell tree E", "b*ll tr** E")],
    "length": [(None, "a bell", 6)], "vowels": [(None, "An Apple hill", 4)], "word lengths": [(None, "a bell", [1, 4])],
}  # fmt: skip


def test_every_step_does_what_its_words_say():
    assert set(BY_HAND) == set(STEPS)
    for name, cases in BY_HAND.items():
        step = STEPS[name]
        assert ("{k}" in step.words) == ("{k}" in step.code) == bool(step.constants), name
        for k, before, after in cases:
            assert programs._result(((name, k),), before) == after, name
            assert {int: "number", list: "list", str: "text"}[type(after)] == step.after, name


def test_problems_are_many_and_use_every_step():
    problems = samples(2000, steps=(2, 3))
    assert len({problem.prompt for problem in problems}) > 1600
    assert {name for problem in problems for name, _ in problem.steps} == set(STEPS)
    lengths = collections.Counter(problem.difficulty for problem in samples(400, steps=(1, 4)))
    assert set(lengths) == {1, 2, 3, 4} and min(lengths.values()) > 60


def test_problems_are_no_easier_than_they_say():
    """No step can be left out, the results differ, and stay small; the examples are not among the hidden cases."""
    for problem in samples(300, steps=(1, 4)):
        cases = problem.visible + problem.hidden
        assert all(k in (STEPS[name].constants or (None,)) for name, k in problem.steps)
        for earlier, later in itertools.pairwise(name for name, _ in problem.steps):
            assert STEPS[earlier].after == STEPS[later].before
        for i, (name, _) in enumerate(problem.steps):
            rest = problem.steps[:i] + problem.steps[i + 1 :]
            if STEPS[name].before == STEPS[name].after:
                assert any(programs._result(rest, x) != y for (x,), y in cases)
        assert len({repr(y) for _, y in problem.visible}) > 1 and len({repr(y) for _, y in problem.hidden}) > 3
        for _, y in cases:
            assert isinstance(y, int) or len(y) <= 80
            assert isinstance(y, str) or all(0 <= n <= 10**6 for n in (y if isinstance(y, list) else [y]))
        assert len({repr(x) for x, _ in cases}) == 12


def test_training_never_sees_what_a_test_problem_does():
    """Not even in other words: an order of steps that does not matter, or two steps that are one."""
    train, test = samples(800), samples(150, split="test")
    probes = {kind: programs._inputs(kind, Draw("other probes"), 40) for kind in ("number", "list", "text")}

    def behaviour(problem):
        kind = STEPS[problem.steps[0][0]].before
        return repr([(x, programs._result(problem.steps, x)) for x in probes[kind]])

    assert not {behaviour(problem) for problem in train} & {behaviour(problem) for problem in test}
    assert len({problem.steps for problem in test}) > 100
    for n in range(2, 10):
        orders = [(("add", n), ("add", 3)), (("add", 3), ("add", n)), (("add", n + 3),)]
        assert len({Program(steps).split for steps in orders}) == 1
    shares = collections.Counter(Program((("add", a), ("multiply", b))).split for a in range(99) for b in range(2, 9))
    assert 0.05 < shares["test"] / shares.total() < 0.15


@pytest.mark.parametrize("style", STYLES)
def test_submissions_fail_as_their_style_says(style, monkeypatch):
    monkeypatch.setattr(programs, "LIMITS", Limits(cpu_seconds=0.1))
    draw, weakly, reasons = Draw(style), 0, collections.Counter()
    for problem in samples(3 if style == "loops-forever" else 12, steps=(1, 4)):
        thought, source = write(problem, style, draw)
        assert thought == (problem.plan if style == "right" else "")
        verdict, weak = judge(problem, source), is_weakly_right(problem, source)
        assert verdict.right == is_right(problem, source) == (style == "right")
        assert weak == all(verdict.passed[:3])
        weakly += weak
        reasons[verdict.reason.split(":")[0]] += 1
        if style == "forbidden":
            with pytest.raises(Refused):
                check_source(source)
        else:
            check_source(source)
    kinds = {"right": {"right"}, "special-cased": {"wrong"}, "loops-forever": {"time"}, "forbidden": {"refused"}}
    assert set(reasons) <= kinds.get(style, {"wrong", "error"})
    if style in ("right", "special-cased"):
        assert weakly == 12, "the weak verifier cannot tell the two"
    elif style != "off-by-one":
        assert weakly == 0


def test_one_off_is_sometimes_right_on_the_examples():
    draw = Draw("one off")
    pairs = [(problem, write(problem, "off-by-one", draw)[1]) for problem in samples(300)]
    assert not any(all(_runs(source, case) for case in p.visible + p.hidden) for p, source in pairs)
    assert 0.02 < sum(all(_runs(source, case) for case in p.visible) for p, source in pairs) / 300 < 0.5


def test_the_reward_of_the_other_tasks_works_here_too():
    assert accuracy(SUM, response_text("a thought", SUM.answer)) == 1.0
    assert accuracy(SUM, response_text("a thought", SUM.answer.replace("4", "5"))) == 0.0
    assert accuracy(SUM, response_text("", "import os")) == accuracy(SUM, SUM.answer) == 0.0


def test_problems_repeat():
    assert [p.steps for p in samples(20)] == [p.steps for p in samples(20)]
    assert SUM.visible == Program(SUM.steps).visible and SUM.split == Program(SUM.steps).split


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(Draw(0), "dev"), "split = 'dev'"),
        (lambda: sample(Draw(0), steps=(0, 2)), r"steps = \(0, 2\): expected \(fewest, most\) between 1 and 4"),
        (lambda: sample(Draw(0), steps=(3, 2)), r"steps = \(3, 2\)"),
        (lambda: write(SUM, "guess", Draw(0)), "style = 'guess': expected one of right, off-by-one, special-cased"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def _runs(source, case):
    space = {}
    exec(source, space)
    return space["f"](*case[0]) == case[1]
