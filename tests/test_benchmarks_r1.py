"""Stored benchmark results of chapters 7 and 8: complete, and they say what the book says."""

import json
from pathlib import Path

import pytest

from dsmini import zoo
from dsmini.zoo.r1_zero import SETTINGS

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def stored(name):
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def test_r1_zero_reaches_its_targets_with_every_seed():
    base, *runs = stored("r1_zero.json")["rows"]
    assert base["model"] == "base" and base["greedy"] <= 0.15
    assert {run["seed"] for run in runs} >= {0, 1, 2} and len(runs) == len({run["seed"] for run in runs})
    for run in runs:
        assert run["pass@1"] >= 0.85 and run["greedy"] >= 0.95 and run["cpu_seconds"] <= 120
        assert run["tokens"] > 2 * base["tokens"] and run["direct"] < 0.02 < base["direct"]


def test_r1_zero_curves_are_those_of_whole_runs_and_of_the_shipped_model():
    _, *runs = stored("r1_zero.json")["rows"]
    for run in runs:
        assert {len(curve) for curve in run["curves"].values()} == {SETTINGS.steps}
        direct = run["curves"]["direct"]
        assert direct[0] > 0.4 and direct[-1] < 0.05
    (stage,) = zoo.record("r1-zero")["stages"]
    assert runs[0]["curves"]["reward"] == pytest.approx(stage["curves"]["reward"], abs=0.03)
