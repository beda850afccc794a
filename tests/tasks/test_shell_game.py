"""The shell game: its problems, its split, its thoughts, and who is right."""

import itertools

import pytest

from dsmini.language.tokenizer import TOKENIZER
from dsmini.tasks.draw import Draw
from dsmini.tasks.shell_game import (
    LABELS,
    STYLES,
    SWAPS,
    ShellGame,
    is_complete,
    is_right,
    sample,
    swapped,
    write,
)

GAME = ShellGame((2, 4), ((1, 2), (3, 4), (4, 5)))


def samples(n=300, **options):
    draw = Draw("test", n)
    return [sample(draw, **options) for _ in range(n)]


def shuffle_cups(problem):
    """The slow twin: real cups in a row, of which two hold a ball."""
    cups = [None] * 5
    for ball, cup in zip("AB", problem.balls, strict=True):
        cups[cup - 1] = ball
    for i, j in problem.swaps:
        cups[i - 1], cups[j - 1] = cups[j - 1], cups[i - 1]
    return f"{cups.index('A') + 1} {cups.index('B') + 1}"


def test_one_game_by_hand():
    assert GAME.prompt == "cups 2 4 a 1-2 b 3-4 c 4-5"
    assert GAME.answer == "1 3" and GAME.difficulty == 3
    assert write(GAME, "careful", Draw(0)) == ("a 1-2 1 4 b 3-4 1 3 c 4-5 1 3", "1 3")
    assert write(GAME, "direct", Draw(0)) == ("", "1 3")


def test_answers_are_those_of_real_cups():
    for problem in samples(swaps=(0, 12)):
        assert problem.answer == shuffle_cups(problem)
        assert is_right(problem, problem.answer) and not is_right(problem, problem.answer[::-1])


def test_answers_come_in_every_number_of_swaps_alike():
    lengths = [problem.difficulty for problem in samples(3500)]
    assert set(lengths) == set(range(3, 10)) and min(map(lengths.count, range(3, 10))) > 400
    answers = [problem.answer for problem in samples(4000)]
    assert len(set(answers)) == 20 and max(map(answers.count, set(answers))) / 4000 < 0.065, "guessing is chance"


def test_training_never_sees_a_test_problem():
    """All 20,000 games of three swaps, and many of four: a text is in one split, and each draw keeps to its own."""
    held_out = {
        game.prompt
        for balls in itertools.permutations(range(1, 6), 2)
        for swaps in itertools.product(SWAPS, repeat=3)
        if (game := ShellGame(balls, swaps)).split == "test"
    }
    assert 1800 < len(held_out) < 2200
    for swaps in ((3, 3), (4, 4)):
        train = {problem.prompt for problem in samples(3000, swaps=swaps)}
        test = {problem.prompt for problem in samples(3000, swaps=swaps, split="test")}
        assert not train & test
        assert swaps == (4, 4) or (not train & held_out and test <= held_out)


@pytest.mark.parametrize("length", [0, 1, 2, 12])
def test_both_splits_have_problems_of_every_length(length):
    for split in ("train", "test"):
        problems = samples(20, swaps=(length, length), split=split)
        assert all(problem.difficulty == length and problem.split == split for problem in problems)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_in_the_vocabulary_and_ends_in_its_answer(style):
    draw = Draw(style)
    for problem in samples(swaps=(0, 12)):
        thought, answer = write(problem, style, draw)
        assert TOKENIZER.decode(TOKENIZER.encode(thought)) == thought
        assert len(answer.split()) == 2
        if thought:
            assert thought.split()[-2:] == answer.split()


def test_who_thinks_carefully_is_right_and_who_is_sloppy_seldom():
    draw = Draw(0)
    rights = {
        style: sum(is_right(problem, write(problem, style, draw)[1]) for problem in samples(600)) / 600
        for style in STYLES
    }
    assert rights["careful"] == rights["wait"] == rights["direct"] == 1
    assert 0.2 < rights["sloppy"] < 0.5 and 0.1 < rights["skip"] < 0.4 and 0.03 < rights["quit"] < 0.3


def test_only_complete_thoughts_are_called_complete():
    draw = Draw(0)
    for problem in samples(100):
        for style in ("careful", "wait"):
            thought, _ = write(problem, style, draw)
            assert is_complete(problem, thought)
            assert not is_complete(problem, thought + " a")
            assert not is_complete(problem, thought.rsplit(" ", 4)[0])
        for style in ("direct", "quit"):
            assert not is_complete(problem, write(problem, style, draw)[0])
        thought, answer = write(problem, "sloppy", draw)
        assert not is_complete(problem, thought) or is_right(problem, answer)


def test_a_wait_takes_back_a_wrong_step_and_not_a_right_one():
    draw, waits = Draw(0), 0
    for problem in samples(50):
        thought, _ = write(problem, "wait", draw)
        parts = thought.split(" wait ")
        waits += len(parts) - 1
        for before, after in itertools.pairwise(parts):
            wrong, again = before.split()[-4:], after.split()[:4]
            assert wrong[:2] == again[:2] and wrong[2:] != again[2:]
    assert waits > 50


def test_a_thought_whose_step_is_wrong_is_not_complete():
    assert is_complete(GAME, "a 1-2 1 4 b 3-4 1 3 c 4-5 1 3")
    assert is_complete(GAME, "a 1-2 1 4 b 3-4 1 4 wait b 3-4 1 3 c 4-5 1 3")
    assert not is_complete(GAME, "a 1-2 1 4 b 3-4 1 4 c 4-5 1 3")
    assert not is_complete(GAME, "a 1-2 1 4 b 3-4 1 4 wait c 4-5 1 3")
    assert not is_complete(GAME, "a 1-2 1 4 b 3-5 1 4 c 4-5 1 5")


def test_swapping_twice_changes_nothing():
    for swap in SWAPS:
        assert swapped(swapped((2, 4), swap), swap) == (2, 4)
    assert len(LABELS) == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(Draw(0), "dev"), "split = 'dev'"),
        (lambda: sample(Draw(0), swaps=(3, 13)), r"swaps = \(3, 13\): expected \(fewest, most\) between 0 and 12"),
        (lambda: sample(Draw(0), swaps=(4, 3)), r"swaps = \(4, 3\)"),
        (lambda: write(GAME, "fast", Draw(0)), "style = 'fast': expected one of direct, quit, skip"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
