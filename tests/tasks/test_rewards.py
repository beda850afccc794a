"""Rewards by rule: what is right, what has the form, and what a text can do to look as if."""

import pytest

from dsmini.language.frame import response_text
from dsmini.language.tokenizer import END_THINK, EOS, PAD, THINK, USER
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.countdown import Countdown
from dsmini.tasks.draw import Draw
from dsmini.tasks.rewards import accuracy, combined, is_right, language_consistency, well_formed
from dsmini.tasks.shell_game import ShellGame

GAME = ShellGame((2, 4), ((1, 2), (3, 4)))  # the balls end under cups 1 and 3
SUM = Countdown((3, 9, 7), 30)


def said(answer, thought="a 1-2 1 4 b 3-4 1 3"):
    return response_text(thought, answer)


def test_each_task_has_its_own_judge():
    assert is_right(GAME, "1 3") and not is_right(GAME, "3 1") and not is_right(GAME, "3 * 7 + 9")
    assert is_right(SUM, "3 * 7 + 9") and is_right(SUM, "7 * 3 + 9") and not is_right(SUM, "1 3")


@pytest.mark.parametrize("task", [shell_game, countdown])
def test_what_the_task_writes_is_accurate_and_well_formed(task):
    draw = Draw("rewards", task.__name__)
    careful = {shell_game: "careful", countdown: "solve"}[task]
    for _ in range(20):
        problem = task.sample(draw)
        thought, answer = task.write(problem, careful, draw)
        text = response_text(thought, answer)
        assert accuracy(problem, text) == well_formed(problem, text) == 1.0
        assert accuracy(problem, response_text("", problem.answer)) == 1.0  # the thought is not judged


@pytest.mark.parametrize(
    ("text", "right", "formed"),
    [
        (said("1 3"), 1, 1),
        (said("1 3", ""), 1, 1),
        (said("1 3", "nonsense is not read"), 1, 1),
        (said(" 1 3 "), 1, 1),
        (said("3 1"), 0, 1),
        (said("1 3 1 3"), 0, 1),
        (said("1"), 0, 1),
        (said(""), 0, 1),
        (said("1 3").removesuffix(EOS), 0, 0),  # cut off
        ("1 3" + EOS, 0, 0),  # no answer, a thought that never closes
        ("", 0, 0),
        (EOS, 0, 0),
        (f"{END_THINK}{EOS}", 0, 1),
        (said(f"3 1{END_THINK}1 3"), 0, 0),  # two answers, one of them right
        (said("1 3", f"{THINK}a"), 0, 0),
        (said(f"1 3{USER}cups 1 2"), 0, 0),
        (said(f"1 3{PAD}"), 0, 0),
        (said("3 1") + said("1 3"), 0, 1),  # what comes behind the end does not count
        (said("1 3") + "rubbish", 1, 1),
    ],
)
def test_only_one_closed_answer_counts(text, right, formed):
    assert (accuracy(GAME, text), well_formed(GAME, text)) == (right, formed)
    assert type(accuracy(GAME, text)) is type(well_formed(GAME, text)) is float


@pytest.mark.parametrize(
    ("thought", "share"),
    [
        ("a 1-2 1 4 b 3-4 1 3", 1.0),
        ("a 1-2 one four b 3-4 one three", 0.0),
        ("a 1-2 1 4 b 3-4 one three", 0.5),
        ("a 1-2 1 four", 0.5),
        ("a 1-2 one four b 3-4 1 3 c 1-2 2 3", 2 / 3),
        ("", 1.0),
        ("a 1-2 wait b", 1.0),  # labels and swaps belong to both languages
    ],
)
def test_share_of_the_users_language_is_that_of_the_words_that_have_one(thought, share):
    assert language_consistency(GAME, said("one three", thought)) == pytest.approx(share)


def test_thought_that_is_no_thought_is_in_no_language():
    assert language_consistency(GAME, "a 1-2 1 4") == 0.0
    assert language_consistency(GAME, said("1 3").removesuffix(EOS)) == 0.0


def test_rewards_are_weighed_under_their_names():
    reward = combined(accuracy=(accuracy, 1.0), form=(well_formed, 0.5), language=(language_consistency, 0.1))
    assert reward(GAME, said("1 3")) == {"accuracy": 1.0, "form": 0.5, "language": 0.1}
    assert reward(GAME, said("3 1", "a 1-2 one four")) == {"accuracy": 0.0, "form": 0.5, "language": 0.0}
    assert reward(GAME, "1 3") == {"accuracy": 0.0, "form": 0.0, "language": 0.0}


def test_what_is_no_problem_is_named():
    with pytest.raises(ValueError, match="problem = 'a': expected a problem of a task"):
        is_right("a", "b")


def test_part_without_a_weight_is_named():
    with pytest.raises(ValueError, match=r"accuracy = <function accuracy.*expected a pair \(reward, weight\)"):
        combined(accuracy=accuracy)
