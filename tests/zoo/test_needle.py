"""The dense needle model: what was accepted, and that its indexers were never trained and never decide."""

import pytest
import torch

from dsmini.model.selectors import selecting
from dsmini.model.transformer import Transformer
from dsmini.tasks.measure_needle import find_needles
from dsmini.zoo.needle import ACCEPTED, CONFIG, RECIPE, STAGES

NAME = "needle"


@pytest.mark.parametrize(("metric", "length"), ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, metric, length):
    low, high = ACCEPTED[metric, length]
    assert low <= shipped[1]["metrics"][metric][length] <= high


def test_thresholds_are_those_that_chapters_10_and_11_build_on():
    assert ACCEPTED == {("accuracy", "512"): (0.97, 1), ("accuracy", "1024"): (0.95, 1)}


def test_building_it_takes_at_most_300_cpu_seconds(shipped):
    record = shipped[1]
    assert record["cpu_seconds"] <= 300
    assert [stage["steps"] for stage in record["stages"]] == [settings.steps for settings in STAGES]


def test_indexers_are_as_they_were_drawn_and_everything_else_is_not(shipped):
    with torch.random.fork_rng():
        torch.manual_seed(RECIPE.seed)
        drawn = Transformer(CONFIG).bfloat16().state_dict()
    for name, weight in shipped[0].state_dict().items():
        assert torch.equal(weight.bfloat16(), drawn[name]) == (".indexer." in name), name


def test_it_attends_to_everything_that_it_was_trained_on(shipped):
    assert shipped[0].config.index_topk == CONFIG.index_topk == max(settings.context for settings in STAGES)


def test_shipped_weights_find_needles_in_other_texts(shipped):
    """Of 256 questions; four standard errors of leeway. With 16 tokens that untrained indexers select, next to none."""
    model, record = shipped
    assert find_needles(model, 512, 8, seed=7) == pytest.approx(record["metrics"]["accuracy"]["512"], abs=0.035)
    with selecting(model, topk=16):
        assert find_needles(model, 512, 8, seed=7) < 0.15
