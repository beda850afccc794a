"""The checks of problem sets: silent when right, else the first difference, its place and what was expected."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsmini.check import STUDENT, Variant, Wrong, case, close, equal, refuses, variant


def complaint(check, *args, **kwargs):
    """(message, kind) of the `Wrong` that a check raises."""
    with pytest.raises(Wrong) as caught:
        check(*args, **kwargs)
    return str(caught.value), caught.value.kind


RIGHT = [
    (1, 1.0), (torch.tensor(2.0), 2), (math.nan, math.nan), (math.inf, math.inf), (1 + 2j, 1 + 2j),
    ([1, 2], (1, 2)), ({"a": [1.0]}, {"a": [1]}), ("text", "text"), (None, None), (True, True),
    (torch.ones(2, dtype=torch.int32), torch.ones(2)), (torch.tensor([math.nan]), torch.tensor([math.nan])),
    (torch.ones(2, requires_grad=True), torch.ones(2)), (torch.zeros(0, 3), torch.zeros(0, 3)),
]  # fmt: skip


@pytest.mark.parametrize("actual, expected", RIGHT)
def test_what_agrees_is_silent(actual, expected):
    assert close(actual, expected) is None
    assert equal(actual, expected) is None


WRONG = [
    (1.0, 2.0, "answer: got 1, expected 2 within 1e-06 + 1e-05 x |expected|", "wrong values"),
    (math.nan, 2.0, "answer: got nan, expected 2 within 1e-06 + 1e-05 x |expected|", "NaN"),
    (2.0, math.inf, "answer: got 2, expected inf within 1e-06 + 1e-05 x |expected|", "wrong values"),
    (True, 1, "answer: got True, expected a number", "bool, not a number"),
    (1, True, "answer: got 1, expected True", "a wrong value"),
    (None, 1, "answer: got None, expected a number", "NoneType, not a number"),
    ("a", "b", "answer: got 'a', expected 'b'", "a wrong value"),
    ([1, 2], [1, 2, 3], "answer: has 2 entries, expected 3", "a wrong length"),
    ([1, 5, 3], [1, 2, 3], "answer[1]: got 5, expected 2 within 1e-06 + 1e-05 x |expected|", "wrong values"),
    ("12", [1, 2], "answer: got '12', expected a list", "str, not a list"),
    ({"a": 1}, {"b": 1}, "answer: has the keys ['a'], expected ['b']", "other keys than expected"),
    ({"a": {"b": 2}}, {"a": {"b": 3}}, "answer['a']['b']: got 2, expected 3 within", "wrong values"),
    ([1], {"a": 1}, "answer: got [1], expected a dict", "list, not a dict"),
    ([1.0], torch.ones(1), "answer: got [1.0], expected a tensor (1,)", "list, not a tensor"),
    (torch.ones(2, 3), torch.ones(3, 2), "answer: has the shape (2, 3), expected (3, 2)", "a wrong shape"),
    (torch.eye(2) + 1, torch.eye(2), "answer: at [0, 0] got 2, expected 1 within", "wrong values"),
    (torch.tensor([math.nan, 1]), torch.ones(2), "answer: at [0] got nan, expected 1", "NaN"),
]  # fmt: skip


@pytest.mark.parametrize("actual, expected, message, kind", WRONG)
def test_what_differs_is_named_with_its_place(actual, expected, message, kind):
    said, found = complaint(close, actual, expected)
    assert said.startswith(message)
    assert found == kind
    assert not any(digit in kind for digit in "0123456789")


def test_the_number_of_differing_values_is_told():
    said, _ = complaint(close, torch.zeros(4), torch.tensor([0.0, 1, 0, 1]))
    assert said.endswith("; 2 of 4 values differ")


def test_the_tolerance_is_absolute_and_relative():
    close(1000.009, 1000.0)
    close(torch.tensor([1e-7]), torch.tensor([0.0]))
    complaint(close, 1000.02, 1000.0)
    complaint(equal, 1.0 + 1e-12, 1.0)
    complaint(equal, torch.tensor([1.0 + 1e-12], dtype=torch.float64), torch.tensor([1.0]))


def test_long_answers_are_cut():
    said, _ = complaint(close, "x" * 1000, 1)
    assert len(said) < 120


def divide(a, b):
    if b == 0:
        raise ValueError("b = 0")
    return a / b


def test_refuses_wants_the_right_error_that_names_what_is_wrong():
    refuses(divide, 1, 0, naming="b")
    assert complaint(refuses, divide, 1, 0, naming="a =")[1] == "an error that does not name what is wrong"
    assert complaint(refuses, divide, 4, 2) == (
        "bad input: returned 2.0, expected ValueError",
        "no error where one was expected",
    )
    assert complaint(refuses, divide, 1, "x")[1] == "raised TypeError"
    assert complaint(refuses, divide, 1, 0, error=KeyError)[1] == "raised ValueError"


def test_a_case_tells_its_name_and_the_kind_and_hides_the_values():
    def hidden(check, *args):
        with case("ties go first"):
            check(*args)

    assert complaint(hidden, close, 41.5, 77.25) == ("ties go first: wrong values", "wrong values")
    assert complaint(hidden, divide, 1, 0) == ("ties go first: raised ValueError", "raised ValueError")

    def not_yet():
        raise NotImplementedError

    assert complaint(hidden, not_yet) == ("ties go first: not answered yet", "not answered yet")
    with case("right"):
        close(1, 1)


def test_an_exit_passes_through_a_case():
    with pytest.raises(SystemExit), case("an exit"):
        raise SystemExit


def test_a_student_has_the_same_variant_every_time_and_another_has_another():
    ada, again, bob = Variant("ada", "v3"), Variant("ada", "v3"), Variant("bob", "v3")
    assert ada.seed("x") == again.seed("x")
    assert len({ada.seed("x"), bob.seed("x"), ada.seed("y"), Variant("ada", "rlvr").seed("x")}) == 4
    assert torch.equal(ada.normal("x", 3, 4), again.normal("x", 3, 4))
    assert not torch.equal(ada.normal("x", 3, 4), bob.normal("x", 3, 4))
    assert ada.normal("x", 2).dtype == torch.float64
    assert ada.seed("x") == 2767579278234752720  # the same on every machine and in every edition


@given(st.text(), st.integers(-50, 50), st.integers(0, 20))
def test_integers_stay_in_their_bounds(name, low, size):
    assert low <= Variant("ada", "v3").integer(name, low, low + size) <= low + size


def test_every_integer_and_every_option_is_somebodys():
    students = [Variant(f"student-{number}", "v3") for number in range(200)]
    assert {one.integer("n", 3, 7) for one in students} == set(range(3, 8))
    assert {one.choice("c", "abc") for one in students} == set("abc")


def test_an_id_is_needed(monkeypatch):
    monkeypatch.delenv(STUDENT, raising=False)
    for student in ("", "  ", "your-id", "Your-ID"):
        with pytest.raises(ValueError, match="expected your id"):
            variant("v3", student)
    assert variant("v3", " Ada ").student == "ada"


def test_in_grading_the_id_of_the_submission_counts(monkeypatch):
    monkeypatch.setenv(STUDENT, "Ada")
    assert (variant("v3", "bob").student, variant("v3", "bob").typed) == ("ada", "bob")
    assert (variant("v3", "ADA").student, variant("v3", "ADA").typed) == ("ada", None)
    assert variant("v3", "your-id").student == "ada"
