"""Chains: their rules, their split, their thoughts, and who is right."""

import itertools
import re
from collections import Counter
from fractions import Fraction

import pytest

from dsmini.language.tokenizer import TOKENIZER
from dsmini.tasks.chains import STYLES, Chain, is_complete, is_right, sample, write
from dsmini.tasks.draw import Draw

CHAIN = Chain(("7", "*", "3", "-", "5", "+", "9"))


def samples(n=300, **options):
    draw = Draw("test", n)
    return [sample(draw, **options) for _ in range(n)]


def pocket_calculator(prompt):
    """The slow twin: exact fractions, key by key. Every result on the display, the first number included."""
    first, *keys = re.findall(r"\d+|[-+*/]", prompt)
    display = [Fraction(first)]
    for operator, operand in zip(keys[::2], map(Fraction, keys[1::2]), strict=True):
        x = display[-1]
        display.append({"+": x + operand, "-": x - operand, "*": x * operand, "/": x / operand}[operator])
    return display


def test_one_chain_by_hand():
    assert CHAIN.prompt == "7 * 3 - 5 + 9 =" and CHAIN.answer == "25" and CHAIN.difficulty == 3
    assert write(CHAIN, "careful", Draw(0)) == ("7 * 3 = 21 - 5 = 16 + 9 = 25", "25")
    assert write(CHAIN, "direct", Draw(0)) == ("", "25")
    assert is_right(CHAIN, " 25 ")
    for wrong in ("24", "", "2 5", "25 25", "= 25", "025", "25.0"):
        assert not is_right(CHAIN, wrong), wrong
    assert Chain(("2", "+", "3", "*", "4")).answer == "20", "from left to right"


def test_answers_are_those_of_a_pocket_calculator_that_stays_within_the_rules():
    for problem in samples(1000, steps=(1, 12)):
        display = pocket_calculator(problem.prompt)
        assert all(value.denominator == 1 and 0 <= value <= 49 for value in display)
        assert all(1 <= int(word) <= 9 for word in problem.words[::2])
        assert problem.answer == str(display[-1]) and is_right(problem, problem.answer)
        assert TOKENIZER.decode(TOKENIZER.encode(problem.prompt)) == problem.prompt


def test_every_number_of_steps_and_every_operator_is_there():
    problems = samples(4000)
    steps = Counter(problem.difficulty for problem in problems)
    assert set(steps) == {1, 2, 3, 4} and min(steps.values()) > 900
    operators = Counter(operator for problem in problems for operator in problem.words[1::2])
    assert min(operators[o] / operators.total() for o in "+-*/") > 0.1
    answers = Counter(problem.answer for problem in problems)
    assert len(answers) == 50 and max(answers.values()) / 4000 < 0.08, "guessing one number does not pay"


def test_training_never_sees_a_test_problem():
    """All 324 texts of one step, and many of two: a text is in one split, and each draw keeps to its own."""
    texts = [Chain((str(a), op, str(b))) for a, op, b in itertools.product(range(1, 10), "+-*/", range(1, 10))]
    held_out = {chain.prompt for chain in texts if chain.split == "test"}
    assert 15 < len(held_out) < 55
    train, test = ({p.prompt for p in samples(2000, split=split, steps=(1, 2))} for split in ("train", "test"))
    assert not train & test and not train & held_out
    assert {text for text in test if len(text.split()) == 4} <= held_out


@pytest.mark.parametrize("length", [1, 4, 12])
def test_both_splits_have_problems_of_every_length(length):
    for split in ("train", "test"):
        problems = samples(20, steps=(length, length), split=split)
        assert all(problem.difficulty == length and problem.split == split for problem in problems)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_in_the_vocabulary_and_ends_in_its_answer(style):
    draw = Draw(style)
    for problem in samples(steps=(1, 12)):
        thought, answer = write(problem, style, draw)
        assert TOKENIZER.decode(TOKENIZER.encode(thought)) == thought and answer.isdigit()
        if style == "direct":
            assert thought == "" and answer == problem.answer
        else:
            assert thought.split()[-1] == answer
            asked = re.sub(r" = \d+", "", thought)
            assert f"{asked} =" == problem.prompt, "a thought works on what was asked"
            assert is_complete(problem, thought) or style == "sloppy"


def test_one_sloppy_sum_in_five_is_wrong_and_the_next_goes_on_from_it():
    draw, wrong, sums, right = Draw(0), 0, 0, 0
    problems = samples(1000)
    for problem in problems:
        thought, answer = write(problem, "sloppy", draw)
        right += is_right(problem, answer)
        assert is_complete(problem, thought) <= is_right(problem, answer)
        for left, operation, result in zip(*_sums(thought), strict=True):
            sums += 1
            wrong += pocket_calculator(f"{left} {operation}")[-1] != int(result)
            assert 0 <= int(result) <= 49
    assert 0.16 < wrong / sums < 0.24
    assert 0.5 < right / len(problems) < 0.75


def _sums(thought):
    """`7 * 3 = 21 - 5 = 16` -> lefts 7, 21; operations `* 3`, `- 5`; results 21, 16."""
    words = thought.split()
    results = words[4::4]
    return [words[0], *results[:-1]], [f"{a} {b}" for a, b in zip(words[1::4], words[2::4], strict=True)], results


@pytest.mark.parametrize(
    "thought", ["", "7 * 3 = 21 - 5 = 16", "7 * 3 = 21 - 5 = 16 + 9 = 26", "7 * 3 = 20 - 5 = 16 + 9 = 25",
                "7 * 3 = 21 - 5 = 16 + 9 = 25 wait", "7 * 3 = 21 + 9 = 30 - 5 = 25"],
)  # fmt: skip
def test_a_thought_that_is_not_the_sums_asked_for_is_not_complete(thought):
    assert not is_complete(CHAIN, thought)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(Draw(0), "dev"), "split = 'dev'"),
        (lambda: sample(Draw(0), steps=(0, 3)), r"steps = \(0, 3\): expected \(fewest, most\) between 1 and 12"),
        (lambda: sample(Draw(0), steps=(4, 3)), r"steps = \(4, 3\)"),
        (lambda: write(CHAIN, "fast", Draw(0)), "style = 'fast': expected one of direct, sloppy, careful"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
