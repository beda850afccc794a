"""The tests of the problem sets are strong: every wrong answer on the list loses points, every right one gets them all.

The lists are `assignments/answers/SET.py`. A wrong answer must be caught by a check, not by a name that is missing.
"""

import dataclasses

import pytest
import workbench
from workbench import NAMES, answers, problem_set, verdicts

import sets

IDS = ("reader", "ada", "student-17")
FUNCTIONS = [(name, function) for name in NAMES for function in problem_set(name).functions]
each_function = pytest.mark.parametrize("name, function", FUNCTIONS)


@each_function
def test_the_reference_passes(name, function):
    for student in IDS:
        assert verdicts(name, function, student) == {"public": None, "hidden": None}, student


@each_function
def test_right_answers_written_differently_pass(name, function):
    assert len(answers(name).RIGHT[function]) >= 2
    for how, source in answers(name).RIGHT[function].items():
        for student in IDS:
            assert verdicts(name, function, student, source) == {"public": None, "hidden": None}, (how, student)


@each_function
def test_wrong_answers_lose_points(name, function):
    wrong = answers(name).WRONG[function]
    assert len(wrong) >= 5
    for what, source in wrong.items():
        for student in IDS:
            errors = [error for error in verdicts(name, function, student, source).values() if error]
            assert errors, f"{what}: nobody notices, as {student}"
            texts = " ".join(f"{type(error).__name__} {error}" for error in errors)
            assert not any(slip in texts for slip in ("NameError", "SyntaxError", "ImportError")), (what, texts)


@pytest.mark.parametrize("name", NAMES)
def test_the_lists_and_the_problem_set_name_the_same_functions(name):
    assert set(answers(name).WRONG) == set(answers(name).RIGHT) == set(problem_set(name).functions)


@each_function
def test_an_empty_answer_passes_nothing(name, function):
    stub = f"def {function}(*args, **kwargs): raise NotImplementedError()"
    nothing = f"def {function}(*args, **kwargs): return None"
    for source in (stub, nothing):
        assert all(verdicts(name, function, "ada", source).values())


def test_a_planted_hole_is_found(monkeypatch):
    """A hidden test that checks nothing lets a wrong answer through, and the test above sees it."""
    name, function = FUNCTIONS[0]
    cells = [dataclasses.replace(cell, source="") if cell.points else cell for cell in problem_set(name).cells]
    monkeypatch.setattr(workbench, "problem_set", lambda _: sets.ProblemSet(name, tuple(cells)))
    with pytest.raises(AssertionError, match="nobody notices"):
        test_wrong_answers_lose_points(name, function)
