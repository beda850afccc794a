"""The sparse needle model: what was accepted, how near it is to the dense one, and that both stages did their part."""

import pytest

from dsmini.model.selectors import selecting, window
from dsmini.tasks.measure_needle import find_needles, recall_of_attention
from dsmini.zoo import store
from dsmini.zoo.needle_sparse import ACCEPTED, SPARSE, TEXTS, TOPK, WARMUP, texts
from dsmini.zoo.recipe import find

NAME = "needle-sparse"


@pytest.fixture(scope="module")
def dense():
    """The record of the model that it starts from."""
    return store.read(store.SHIPPED, find("needle"))[1]


@pytest.mark.parametrize(("topk", "length"), ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, topk, length):
    low, high = ACCEPTED[topk, length]
    assert low <= shipped[1]["metrics"]["accuracy"][topk][length] <= high


def test_thresholds_are_those_that_chapter_11_builds_on():
    assert ACCEPTED == {("16", "512"): (0.95, 1), ("16", "1024"): (0.92, 1)}


@pytest.mark.parametrize(("length", "points"), [("512", 2), ("1024", 4)])
def test_sixteen_tokens_are_nearly_as_good_as_all(shipped, dense, length, points):
    sparse = shipped[1]["metrics"]["accuracy"]["16"][length]
    assert sparse >= dense["metrics"]["accuracy"][length] - points / 100


def test_building_it_takes_at_most_300_cpu_seconds(shipped):
    model, record = shipped
    assert record["cpu_seconds"] <= 300 and model.config.index_topk == TOPK
    assert [(stage["name"], stage["steps"]) for stage in record["stages"]] == [
        ("warm-up", WARMUP.steps),
        ("sparse", SPARSE.steps),
    ]


def test_divergence_fell_in_the_warmup_and_stays_low_in_the_sparse_stage(shipped):
    warmup, sparse = shipped[1]["stages"]
    imitation = sparse["curves"]["divergence"]
    assert sum(warmup["losses"][-10:]) < 0.25 * sum(warmup["losses"][:10])
    assert max(imitation) < 0.25 * warmup["losses"][0]
    loss = sparse["curves"]["loss"]
    assert sum(loss[-20:]) < sum(loss[:20]), "the model gets used to seeing less"


def test_texts_are_those_of_the_train_split_in_turn():
    data = texts(3)
    assert [tuple(data(step).inputs.shape) for step in range(4)] == [*TEXTS, *TEXTS]


def test_selected_tokens_hold_nearly_all_that_so_few_can_hold(shipped):
    """The layer that looks for the record finds it; the other one pays attention to everything alike."""
    searching, _ = sorted(shipped[1]["metrics"]["recall"], key=lambda layer: -layer["needle"])
    assert searching["needle"] > 0.95 and searching["kept"] > 0.9 * searching["best"]


def test_shipped_weights_find_needles_in_other_texts(shipped):
    """Of 256 questions; four standard errors of leeway."""
    model, record = shipped
    metrics = record["metrics"]
    assert find_needles(model, 512, 8, seed=7) == pytest.approx(metrics["accuracy"]["16"]["512"], abs=0.04)
    for layer, recorded in zip(recall_of_attention(model, 512, 8, seed=7), metrics["recall"], strict=True):
        assert layer == pytest.approx(recorded, abs=0.05)
    with selecting(model, window):
        assert find_needles(model, 512, 8, seed=7) < 0.15
