"""Stored results of the sparse needle models: complete, from the shipped recipes, and they say what the book says."""

import pytest
from arms import stored

from dsmini import zoo

BLIND = ("untrained", "window", "random")


@pytest.fixture(scope="module")
def result():
    return stored("sparse_training")[0]


@pytest.fixture(scope="module")
def arms():
    return stored("sparse_training")[1]


def mean(rows, length):
    return sum(row["accuracy"][str(length)] for row in rows.values()) / len(rows)


def test_every_arm_has_three_seeds_of_the_shipped_recipe(result, arms):
    assert result["conditions"]["recipe"] == zoo.record("needle-sparse")["recipe"]
    assert len(result["rows"]) == sum(map(len, arms.values()))
    wrong = ("no warm-up", "input not detached", "interleaved rope")
    right = ("dense", *BLIND, "block mean", "oracle", "warm-up", "sparse", "sparse, 8 tokens", "sparse, 4 tokens",
             "sparse, oracle")  # fmt: skip
    assert arms.keys() == {*right, *wrong}
    assert all(rows.keys() >= {0, 1, 2} for rows in arms.values())
    for arm in ("dense", "warm-up", "sparse"):
        assert all(row["cpu_seconds"] <= 300 for row in arms[arm].values())


def test_first_seed_is_the_shipped_model(arms):
    for name, arm in (("needle", "dense"), ("needle-sparse", "sparse")):
        accuracy = zoo.record(name)["metrics"]["accuracy"]
        for length in ("512", "1024"):
            shipped = accuracy[length] if arm == "dense" else accuracy["16"][length]
            assert arms[arm][0]["accuracy"][length] == pytest.approx(shipped, abs=0.015)


def test_targets_are_reached_in_the_mean_of_the_seeds(arms):
    assert mean(arms["dense"], 512) >= 0.93 and mean(arms["dense"], 1024) >= 0.85
    assert mean(arms["sparse"], 512) >= mean(arms["dense"], 512) - 0.02
    assert mean(arms["sparse"], 1024) >= mean(arms["dense"], 1024) - 0.04
    for arm in BLIND:
        assert mean(arms[arm], 512) <= 0.15 and mean(arms[arm], 1024) <= 0.15


def test_each_stage_brings_something_with_every_seed(arms):
    for seed in (0, 1, 2):
        steps = [arms[arm][seed]["accuracy"]["512"] for arm in ("untrained", "warm-up", "sparse")]
        assert steps[0] < 0.15 < 0.8 < steps[1] < steps[2]
        fewer = [arms[arm][seed]["accuracy"]["512"] for arm in ("sparse, 4 tokens", "sparse, 8 tokens", "sparse")]
        assert fewer == sorted(fewer)


def test_indexer_finds_the_record_and_keeps_nearly_what_the_oracle_keeps(arms):
    for seed in (0, 1, 2):
        recalls = [arms[arm][seed]["recall"] for arm in ("untrained", "sparse")]
        searching = max((0, 1), key=lambda layer: recalls[1][layer]["needle"])
        before, after = (recall[searching] for recall in recalls)
        assert before["needle"] < 0.15 and after["needle"] > 0.9
        assert before["kept"] < 0.15 * before["best"] and after["kept"] > 0.9 * after["best"]


def test_without_a_warmup_the_indexer_learns_late(arms):
    """Sparse steps alone, as many as both stages have together, which takes longer."""
    for seed in (0, 1, 2):
        alone, sparse = arms["no warm-up"][seed], arms["sparse"][seed]
        assert alone["accuracy"]["512"] < sparse["accuracy"]["512"] - 0.03
        assert seed == 0 or alone["cpu_seconds"] > sparse["cpu_seconds"]


def test_two_mistakes_cost_next_to_nothing_here(arms):
    """A needle is found by what it says, not by where it is, and the indexers' loss bends the model to no harm:
    that answers are right proves neither the graph nor the rotary layout. Tests of their own do."""
    for mistake in ("input not detached", "interleaved rope"):
        for seed in (0, 1, 2):
            wrong, right = (arms[arm][seed]["accuracy"]["512"] for arm in (mistake, "sparse"))
            assert abs(wrong - right) < 0.02


def test_wrong_rotary_layout_shows_in_the_recall_of_the_layer_that_attends_by_position(arms):
    """The mistake of the first release, with trained weights: what is kept shows it before the answers do."""
    for seed in (0, 1, 2):
        kept = [arms[arm][seed]["recall"][1]["kept"] for arm in ("interleaved rope", "sparse")]
        assert kept[0] < 0.8 * kept[1]
