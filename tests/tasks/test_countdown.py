"""Countdown: rules of play, problems and split, thoughts whose marks are honest, and a checker that sees when not."""

import itertools
from fractions import Fraction

import pytest

from dsmini.language.tokenizer import TOKENIZER
from dsmini.tasks.countdown import (
    STYLES,
    Countdown,
    attempt_text,
    calculate,
    evaluate,
    is_right,
    lines_of_play,
    read_attempts,
    sample,
    write,
)
from dsmini.tasks.draw import Draw

PROBLEM = Countdown((3, 9, 7), 30)


def samples(n=200, **options):
    draw = Draw("test", n)
    return [sample(draw, **options) for _ in range(n)]


@pytest.mark.parametrize("left", range(50))
def test_calculation_is_exact_and_within_the_rules(left):
    for right, operator in itertools.product(range(50), "+-*/"):
        exact = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
                 "/": lambda a, b: a / b if b else Fraction(-1)}[operator](Fraction(left), Fraction(right))  # fmt: skip
        allowed = exact.denominator == 1 and 0 <= exact <= 49
        assert calculate(left, operator, right) == (exact if allowed else None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3 * 7 + 9", 30), ("3 + 7 * 4", 40), ("9", 9), ("9 / 3 - 3", 0), ("3 - 7 + 9", None), ("7 * 9 / 3", None),
     ("7 / 3 * 3", None), ("", None), ("3 *", None), ("* 3 7", None), ("3 7 9", None), ("a + b", None), ("3 = 3", None),
     ("9 / 0", None)],
)  # fmt: skip
def test_expressions_are_played_from_left_to_right(text, value):
    assert evaluate(text.split()) == value


def test_answers_by_hand():
    assert PROBLEM.prompt == "reach 30 with 3 9 7" and PROBLEM.difficulty == 3
    assert set(PROBLEM.solutions) == {"3 * 7 + 9", "7 * 3 + 9"}
    assert is_right(PROBLEM, PROBLEM.answer) and is_right(PROBLEM, " 3 *  7 + 9 ")
    for wrong in ("3 * 9 + 3", "3 * 7 + 9 + 0", "3 * 7", "30", "", "9 + 7 * 3", "21 + 9", "3 * 7 + 9 ="):
        assert not is_right(PROBLEM, wrong), wrong


def test_a_number_given_twice_is_used_twice():
    twins = Countdown((4, 4, 2), 8)
    assert is_right(twins, "4 * 4 / 2") and not is_right(twins, "4 * 2 / 4")
    assert not is_right(Countdown((4, 2, 2), 8), "4 * 4 / 2")


def test_problems_have_solutions_and_follow_the_rules():
    for count in (2, 3, 4):
        for problem in samples(60, count=count):
            assert len(problem.numbers) == problem.difficulty == count
            assert all(1 <= number <= 9 for number in problem.numbers) and 0 <= problem.target <= 49
            assert problem.solutions and all(is_right(problem, solution) for solution in problem.solutions)
            assert TOKENIZER.decode(TOKENIZER.encode(problem.prompt)) == problem.prompt


def test_training_never_sees_a_test_problem_in_any_order_of_its_numbers():
    train, test = samples(3000), samples(3000, split="test")

    def keys(problems):
        return {(tuple(sorted(problem.numbers)), problem.target) for problem in problems}

    assert not keys(train) & keys(test)
    assert len(keys(test)) > 150
    for problem in test[:50]:
        assert {Countdown(order, problem.target).split for order in itertools.permutations(problem.numbers)} == {"test"}


@pytest.mark.parametrize("style", STYLES)
def test_thoughts_are_honest_and_end_in_the_last_line_played(style):
    draw = Draw(style)
    for problem in samples():
        thought, answer = write(problem, style, draw)
        assert TOKENIZER.decode(TOKENIZER.encode(thought)) == thought
        attempts = read_attempts(problem, thought)
        for attempt in attempts:
            assert all(attempt.sums_right) and len(attempt.sums_right) == 2
            assert attempt.numbers_right and attempt.mark_right
            assert attempt.says_yes == is_right(problem, " ".join(attempt.words))
        assert len({attempt.words for attempt in attempts}) == len(attempts), "no line is tried twice"
        assert not any(attempt.says_yes for attempt in attempts[:-1]), "who has found it stops"
        if style == "direct":
            assert thought == "" and is_right(problem, answer)
        else:
            assert " ".join(attempts[-1].words) == answer
            assert is_right(problem, answer) == attempts[-1].says_yes
        if style == "solve":
            assert is_right(problem, answer)


def test_patience_finds_what_a_short_search_misses():
    draw, tries, found = Draw(0), {}, {}
    for style in ("search", "patient"):
        told = [(problem, *write(problem, style, draw)) for problem in samples(1000)]
        tries[style] = [len(read_attempts(problem, thought)) for problem, thought, _ in told]
        found[style] = sum(is_right(problem, answer) for problem, _, answer in told) / 1000
    assert 0.15 < found["search"] < 0.3 and sum(tries["search"]) < 2000
    assert 0.8 < found["patient"] < 1 and max(tries["patient"]) == 16


def test_lines_of_play_are_all_there_is():
    """Against a search that builds the lines number by number."""

    def play(value, words, left):
        if not left:
            yield words, value
        for i, number in enumerate(left):
            for operator in "+-*/":
                result = calculate(value, operator, number)
                if result is not None:
                    yield from play(result, (*words, operator, str(number)), left[:i] + left[i + 1 :])

    for numbers in ((1, 2, 3), (4, 4, 8), (7, 9)):
        found = {}
        for i, first in enumerate(numbers):
            found.update(play(first, (str(first),), numbers[:i] + numbers[i + 1 :]))
        assert lines_of_play(numbers) == found


ATTEMPT = "3 * 7 = 21 + 9 = 30 reach 30 yes"


@pytest.mark.parametrize(
    ("attempt", "sums_right", "numbers_right", "says_yes", "mark_right"),
    [
        (ATTEMPT, (True, True), True, True, True),
        ("3 * 7 = 21 + 9 = 30 reach 30 no", (True, True), True, False, False),
        ("3 * 7 = 22 + 9 = 31 reach 30 no", (False, True), True, False, True),
        ("3 * 7 = 20 + 9 = 30 reach 30 yes", (False, False), True, True, True),
        ("3 * 9 = 27 + 3 = 30 reach 30 yes", (True, True), False, True, True),
        ("3 * 7 = 21 reach 30 yes", (True,), False, True, False),
        ("3 - 7 = 0 + 9 = 9 reach 30 no", (False, True), True, False, True),
    ],
)
def test_checker_sees_what_is_wrong(attempt, sums_right, numbers_right, says_yes, mark_right):
    (read,) = read_attempts(PROBLEM, attempt)
    assert read[1:] == (sums_right, numbers_right, says_yes, mark_right)


@pytest.mark.parametrize(
    "text", ["3 * 7 = 21 + 9 = 30 reach 31 no", "3 * 7 + 9 = 30 reach 30 yes", "yes", "3 * 7 = 21 + 9 = 30 reach 30",
             "reach 30 no", "wait 3 * 7 = 21 + 9 = 30 reach 30 yes"],
)  # fmt: skip
def test_what_is_no_attempt_is_none(text):
    assert read_attempts(PROBLEM, text) == [None]
    assert [attempt is None for attempt in read_attempts(PROBLEM, f"{ATTEMPT} {text}")] == [False, True]


def test_an_attempt_is_written_as_it_is_read():
    assert attempt_text(("3", "*", "7", "+", "9"), 30) == ATTEMPT
    assert attempt_text(("9", "-", "7"), 3) == "9 - 7 = 2 reach 3 no"
    assert read_attempts(PROBLEM, "") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(Draw(0), "dev"), "split = 'dev'"),
        (lambda: sample(Draw(0), count=5), "count = 5: expected 2, 3 or 4 numbers"),
        (lambda: write(PROBLEM, "guess", Draw(0)), "style = 'guess': expected one of direct, search, patient, solve"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("answer", ["3 +- 7 + 9", "3 -* 7 + 9", "3 */ 7 + 9", "² + 7 + 9", "9" * 5000,
                                    "3  + + 9", "", "٣ * 7 + 9"])  # fmt: skip
def test_whatever_is_written_is_wrong_and_no_crash(answer):
    """`"+-" in "+-*/"` is true, and int() has a limit of digits."""
    problem = Countdown((3, 9, 7), 30)
    assert not is_right(problem, answer)
    assert read_attempts(problem, f"{answer} = 30 reach 30 yes") == [None]
    assert read_attempts(problem, f"3 * 7 = {answer} + 9 = 30 reach 30 yes") == [None]
