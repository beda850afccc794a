"""Stored results of the mini V3.2: complete, from the shipped recipe, and they say what chapter 11 says."""

import pytest
from arms import stored

from dsmini import zoo

BLIND = ("untrained", "window", "random")
CELLS = [(mode, task) for mode in ("thinking", "direct") for task in ("shell_game", "countdown")]


@pytest.fixture(scope="module")
def result():
    return stored("sparse_hybrid")[0]


@pytest.fixture(scope="module")
def arms():
    return stored("sparse_hybrid")[1]


def right(rows, mode, task):
    return [row[mode][task]["pass@1"] for _, row in sorted(rows.items())]


def mean(rows, mode, task):
    return sum(right(rows, mode, task)) / len(rows)


def test_every_arm_has_three_seeds_of_the_shipped_recipe(result, arms):
    assert result["conditions"]["recipe"] == zoo.record("sparse")["recipe"]
    assert arms.keys() == {"hybrid", *BLIND, "oracle", "warm-up", "sparse", "control, all tokens"}
    assert len(result["rows"]) == sum(map(len, arms.values()))
    assert all(rows.keys() >= {0, 1, 2} for rows in arms.values())


def test_first_seed_is_the_shipped_model(arms):
    metrics = zoo.record("sparse")["metrics"]
    for mode, task in CELLS:
        shipped = metrics[mode][task]["all"]["pass@1"]
        assert arms["sparse"][0][mode][task]["pass@1"] == pytest.approx(shipped, abs=0.015)


def test_accuracy_is_kept_within_three_points_with_every_seed(arms):
    for mode, task in CELLS:
        pairs = zip(right(arms["sparse"], mode, task), right(arms["hybrid"], mode, task), strict=True)
        assert all(sparse >= dense - 0.03 for sparse, dense in pairs), (mode, task)


def test_nothing_leaks_into_the_other_mode(arms):
    for mode, task in CELLS:
        assert all(row[mode][task]["leaks"] <= 0.01 for row in arms["sparse"].values())


def test_a_blind_choice_leaves_nothing_of_a_thought(arms):
    for arm in BLIND:
        assert mean(arms[arm], "thinking", "shell_game") < 0.25 and mean(arms[arm], "thinking", "countdown") < 0.05


def test_each_stage_brings_something_with_every_seed(arms):
    for task in ("shell_game", "countdown"):
        stages = [right(arms[arm], "thinking", task) for arm in ("untrained", "warm-up", "sparse")]
        assert all(before < middle < after for before, middle, after in zip(*stages, strict=True))


def test_the_control_is_better_and_most_so_in_countdown(arms):
    """Right answers alone would have raised the hybrid; that much is the price of the budget."""
    price = {}
    for task in ("shell_game", "countdown"):
        pairs = zip(right(arms["control, all tokens"], "thinking", task), right(arms["sparse"], "thinking", task),
                    strict=True)  # fmt: skip
        price[task] = [control - sparse for control, sparse in pairs]
        assert min(price[task]) > 0
    assert max(price["shell_game"]) < 0.02 and 0.02 < sum(price["countdown"]) / 3 < 0.04
