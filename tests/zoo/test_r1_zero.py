"""R1-Zero: what was accepted, what reinforcement learning did to the base model, and that the shipped weights do it."""

import pytest

from dsmini.tasks.measure import measure_countdown, measure_shell_game
from dsmini.zoo import store
from dsmini.zoo.r1_zero import ACCEPTED, SETTINGS, problems
from dsmini.zoo.recipe import find

NAME = "r1-zero"


@pytest.fixture(scope="module")
def base():
    """The record of the model that it starts from."""
    return store.read(store.SHIPPED, find("base"))[1]


@pytest.mark.parametrize(("task", "metric"), ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, task, metric):
    low, high = ACCEPTED[task, metric]
    assert low <= shipped[1]["metrics"][task][metric] <= high


def test_thresholds_are_those_that_later_chapters_build_on():
    assert ACCEPTED == {("shell_game", "greedy"): (0.95, 1), ("shell_game", "pass@1"): (0.85, 1)}


def test_recipe_is_reinforcement_alone_with_problems_of_the_train_split(shipped):
    model, record = shipped
    (stage,) = record["stages"]
    assert stage["steps"] == SETTINGS.steps and record["cpu_seconds"] <= 120
    assert set(record["parents"]) == {"base"} and not model.mtp
    asked = problems(0)(0)
    assert len(asked) == SETTINGS.prompts and {problem.split for problem in asked} == {"train"}


def test_reward_and_length_rose_while_it_was_trained(shipped):
    """The reward is accuracy alone: nobody asked for longer answers."""
    curves = shipped[1]["stages"][0]["curves"]
    last = {name: sum(curve[-5:]) / 5 for name, curve in curves.items()}
    assert curves["reward"][0] < 0.3 and last["reward"] > 0.9
    assert last["tokens"] > 1.5 * curves["tokens"][0] and last["entropy"] < curves["entropy"][0]
    assert max(curves["mismatch"]) < 1e-3 and max(curves["clip_fraction"]) == max(curves["kl"]) == 0  # on-policy
    assert all(abs(ratio - 1) < 1e-3 for ratio in curves["ratio"])


def test_likeliest_answer_was_a_guess_and_is_a_thought_now(shipped, base):
    before, after = base["metrics"]["shell_game"], shipped[1]["metrics"]["shell_game"]
    assert before["greedy"] < 0.15 and before["direct"] > 0.4 and before["complete"] < 0.3
    assert after["greedy"] > 0.95 and after["direct"] < 0.05 and after["complete"] > 0.9
    assert before["pass@32"] > 0.9, "what it does now was in the base model"


def test_shipped_weights_do_on_other_problems_what_the_record_says(shipped):
    """Other held-out problems than the record's, and fewer: four standard errors of leeway for the draw."""
    model, record = shipped
    measured = {
        "shell_game": measure_shell_game(model, problems=60, samples=8, seed=7),
        "countdown": measure_countdown(model, problems=40, samples=4, seed=7),
    }
    leeway = {("shell_game", "greedy"): 0.06, ("shell_game", "pass@1"): 0.06, ("shell_game", "direct"): 0.02,
              ("shell_game", "complete"): 0.06, ("shell_game", "tokens"): 4, ("countdown", "pass@1"): 0.2,
              ("countdown", "sums"): 0.04}  # fmt: skip
    for (task, metric), width in leeway.items():
        recorded = record["metrics"][task][metric]
        assert measured[task][metric] == pytest.approx(recorded, abs=width), f"{task} {metric}"
