"""Stored benchmark results: complete, consistent with the package, and written in one step."""

import importlib.util
import json
from pathlib import Path

import pytest

import dsmini
from dsmini.accounting import count_parameters, kv_cache_bytes

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def stored(name):
    return json.loads((BENCHMARKS / "results" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def store():
    spec = importlib.util.spec_from_file_location("store", BENCHMARKS / "store.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quality_has_every_attention_from_the_same_seeds():
    rows = stored("attention_quality.json")["rows"]
    runs = {(row["attention"], row["seed"]) for row in rows}
    seeds = {row["seed"] for row in rows}
    assert len(rows) == len(runs) and len(seeds) >= 3
    assert runs == {(attention, seed) for attention in ("mha", "gqa", "mqa", "mla") for seed in seeds}


def test_quality_was_measured_on_the_minis_of_this_package():
    for row in stored("attention_quality.json")["rows"]:
        config = dsmini.PRESETS[f"mini-{row['attention']}"]
        assert row["cache_bytes_per_token"] == kv_cache_bytes(config, 1, bytes_per_value=4)
        assert row["parameters"] == count_parameters(config).total


def test_memory_bound_rows_agree_with_themselves():
    rows = stored("memory_bound_cpu_float32.json")["rows"]
    assert {row["name"] for row in rows} >= {1, 128, "MHA", "GQA-8", "MQA", "MLA"}
    for row in rows:
        assert row["gflops_per_second"] == pytest.approx(row["flops_per_byte"] * row["gb_per_second"], rel=0.01)


def test_absorbed_mla_has_the_intensity_of_the_accounting():
    v3 = dsmini.PRESETS["deepseek-v3"]
    flops = [dsmini.accounting.attention_flops(v3, context, "absorbed") for context in (1, 2)]
    read = dsmini.accounting.attention_bytes(v3, 1, "absorbed", bytes_per_value=4)
    row = next(row for row in stored("memory_bound_cpu_float32.json")["rows"] if row["name"] == "MLA")
    assert row["flops_per_byte"] == pytest.approx((flops[1] - flops[0]) / read, abs=1e-3)


def test_rows_come_back_only_under_the_same_conditions(store, tmp_path):
    path, rows = tmp_path / "results" / "x.json", [{"seed": 0, "loss": 1.5}, {"seed": 1, "loss": 1.25}]
    assert store.read(path, {"steps": 3}) == []
    store.write(path, {"steps": 3}, rows)
    assert store.read(path, {"steps": 3}) == rows
    assert store.read(path, {"steps": 4}) == []


def test_a_failed_write_leaves_the_old_result(store, tmp_path):
    path = tmp_path / "x.json"
    store.write(path, {"steps": 3}, [{"seed": 0}])
    with pytest.raises(TypeError):
        store.write(path, {"steps": 3}, [{"seed": object()}])
    assert store.read(path, {"steps": 3}) == [{"seed": 0}]
    assert list(tmp_path.iterdir()) == [path]
