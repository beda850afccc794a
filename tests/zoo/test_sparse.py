"""The mini V3.2: what was accepted, how near it is to the hybrid it was made from, and that the budget is one."""

import math

import pytest
import torch

from dsmini.model.selectors import selecting, window
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.measure import held_out
from dsmini.tasks.measure_modes import figures
from dsmini.tasks.modes import in_mode
from dsmini.zoo import store
from dsmini.zoo.recipe import find
from dsmini.zoo.sparse import ACCEPTED, SPARSE, TASKS, TOPK, WARMUP, prompt_tokens, texts

NAME = "sparse"


@pytest.fixture(scope="module")
def hybrid():
    """The record of the model that it starts from."""
    return store.read(store.SHIPPED, find("hybrid"))[1]


@pytest.mark.parametrize(("mode", "task", "metric"), ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, mode, task, metric):
    low, high = ACCEPTED[mode, task, metric]
    assert low <= shipped[1]["metrics"][mode][task]["all"][metric] <= high


def test_thinking_is_kept_within_three_points(shipped, hybrid):
    for task in ("shell_game", "countdown"):
        dense, sparse = (record["metrics"]["thinking"][task]["all"] for record in (hybrid, shipped[1]))
        assert sparse["pass@1"] >= dense["pass@1"] - 0.03


def test_answers_at_once_are_kept_within_five_points(shipped, hybrid):
    """Of 200 problems and fewer: their own noise is three points and more."""
    for task in ("shell_game", "countdown"):
        dense, sparse = (record["metrics"]["direct"][task]["all"] for record in (hybrid, shipped[1]))
        assert sparse["pass@1"] >= dense["pass@1"] - 0.05


def test_the_budget_is_at_most_a_quarter_of_a_prompt_with_its_thought(shipped):
    model, record = shipped
    assert model.config.index_topk == TOPK
    for name, task in TASKS:
        length = record["metrics"]["length"][name]
        assert length / 4 >= TOPK
        tokens = record["metrics"]["thinking"][name]["all"]["tokens"]
        assert length == pytest.approx(prompt_tokens(task) + tokens)


def test_no_stage_takes_more_than_300_cpu_seconds(shipped):
    record = shipped[1]
    assert record["cpu_seconds"] <= 300 and record["bytes"] <= 2_000_000
    assert [(stage["name"], stage["steps"]) for stage in record["stages"]] == [
        ("warm-up", WARMUP.steps),
        ("sparse", SPARSE.steps),
    ]


def test_divergence_fell_in_the_warmup_and_stays_low_in_the_sparse_stage(shipped):
    warmup, sparse = shipped[1]["stages"]
    assert sum(warmup["losses"][-10:]) < 0.25 * sum(warmup["losses"][:10])
    assert max(sparse["curves"]["divergence"]) < 0.25 * warmup["losses"][0]


def test_texts_say_how_far_each_row_goes():
    own = [("1 2 3", "4 5"), ("1", "2"), ("1 2", "3 4 5 6")]
    inputs, targets, mask, lengths = texts(own, 3, seed=0)(0)
    assert sorted(lengths.tolist()) == [1, 4, 5] and inputs.shape == targets.shape == (3, 5)
    assert sorted(mask.sum(1).tolist()) == [1, 2, 4]
    for row, length in zip(mask, lengths, strict=True):
        assert row.nonzero().max() == length - 1


def test_each_text_comes_once_before_one_comes_again():
    own = [(str(i), "9") for i in range(6)]
    data = texts(own, 2, seed=1)
    first = torch.cat([data(step)[0][:, 0] for step in range(3)])
    assert len(set(first.tolist())) == 6


def test_shipped_weights_think_under_their_budget_and_not_under_a_window(shipped):
    """On other problems than the recorded ones; four standard errors of leeway."""
    model, record = shipped
    games = in_mode(held_out(shell_game, 60, seed=7, swaps=(3, 9)), True)
    recorded = record["metrics"]["thinking"]["shell_game"]["all"]["pass@1"]
    assert figures(model, games, samples=1, seed=7)["pass@1"] > recorded - 0.1
    sums = in_mode(held_out(countdown, 60, seed=7), True)
    recorded = record["metrics"]["thinking"]["countdown"]["all"]["pass@1"]
    assert figures(model, sums, samples=2, seed=7)["pass@1"] == pytest.approx(recorded, abs=0.2)
    with selecting(model, window):
        assert figures(model, games, samples=1, seed=7)["pass@1"] < 0.5
    with selecting(model, topk=math.inf):
        assert figures(model, games, samples=1, seed=7)["pass@1"] > 0.8
