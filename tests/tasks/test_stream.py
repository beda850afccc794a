"""A stream of problems without end: the same at every step for everybody, and none of them held out."""

import math

import pytest

from dsmini.tasks import countdown, shell_game
from dsmini.tasks.countdown import Countdown
from dsmini.tasks.stream import stream


def test_step_has_the_same_problems_whenever_it_is_asked():
    problems, again = stream(shell_game, 20, seed=3), stream(shell_game, 20, seed=3)
    first = [problems(step) for step in range(4)]
    assert [again(step) for step in (3, 2, 1, 0)] == first[::-1]
    assert all(len(asked) == 20 for asked in first)


def test_steps_and_seeds_ask_other_problems():
    asked = [stream(shell_game, 20, seed)(step) for seed in range(3) for step in range(3)]
    assert all(a != b for i, a in enumerate(asked) for b in asked[:i])
    every = [problem for problems in asked for problem in problems]
    assert len(set(every)) > 0.95 * len(every)


def test_only_problems_of_the_train_split_are_asked():
    problems = stream({shell_game: 1, countdown: 1}, 200)(0)
    assert {problem.split for problem in problems} == {"train"}


def test_tasks_get_their_shares():
    problems = [problem for step in range(10) for problem in stream({shell_game: 3, countdown: 1}, 100)(step)]
    share = sum(isinstance(problem, Countdown) for problem in problems) / len(problems)
    assert abs(share - 1 / 4) < 4 * math.sqrt(0.25 * 0.75 / 1000)


def test_task_may_have_options_of_its_own():
    easy, hard = (shell_game, (("swaps", (1, 2)),)), (shell_game, (("swaps", (8, 8)),))
    assert {problem.difficulty for problem in stream(easy, 50)(0)} == {1, 2}
    assert {problem.difficulty for problem in stream({easy: 1, hard: 1}, 50)(0)} == {1, 2, 8}


@pytest.mark.parametrize("share", [0, -1, math.nan])
def test_share_that_is_not_positive_is_named(share):
    with pytest.raises(ValueError, match=f"sources: .* has the share {share}, expected more than 0"):
        stream({shell_game: 1, countdown: share}, 4)
