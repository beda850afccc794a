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


@pytest.fixture(scope="module")
def speed():
    """(conditions, rows by what, batch size and tokens) of the stored comparison with transformers."""
    result = stored("model_speed.json")
    return result["conditions"], {(row["what"], row["batch_size"], row["tokens"]): row for row in result["rows"]}


def test_speed_rows_are_complete_and_agree_with_themselves(speed):
    _, rows = speed
    contexts = (512, 4096, 16384, 32768)
    assert {("decode", batch_size, tokens) for batch_size in (1, 16) for tokens in contexts} <= rows.keys()
    assert {("decode after a prompt", 1, tokens) for tokens in contexts} <= rows.keys()
    assert {("prefill", 1, tokens) for tokens in (512, 2048, 8192)} | {("training", 16, 256)} <= rows.keys()
    for (what, batch_size, tokens), row in rows.items():
        if "ratio" in row:
            read = batch_size * (tokens if what in ("prefill", "training") else 1)
            assert row["ratio"] == pytest.approx(row["seconds"]["transformers"] / row["seconds"]["dsmini"], rel=0.01)
            for side, seconds in row["seconds"].items():
                assert row["tokens_per_second"][side] == pytest.approx(read / seconds, rel=0.01)


def test_speed_was_measured_on_the_model_and_the_caches_of_the_accounting(speed):
    conditions, rows = speed
    config = dsmini.ModelConfig.from_hf({"model_type": "deepseek_v3", **conditions["config"]})
    biases = sum(config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)) * config.n_routed_experts
    assert conditions["parameters"] == count_parameters(config).total - biases
    for (what, batch_size, tokens), row in rows.items():
        if what.startswith("decode"):
            held = kv_cache_bytes(config, tokens, batch_size, bytes_per_value=4)
            assert row["cache_bytes"] == {"dsmini": held, "transformers": held}


def test_speed_reaches_what_the_book_says(speed):
    _, rows = speed
    assert rows["decode", 1, 4096]["ratio"] >= 7 and rows["decode", 1, 32768]["ratio"] >= 30
    assert rows["prefill", 1, 2048]["ratio"] >= 3 and rows["training", 16, 256]["ratio"] >= 1.15
    ours, theirs = (rows[f"memory of a prefill, {side}", 1, 8192]["mib"][side] for side in ("dsmini", "transformers"))
    assert theirs > 20 * ours


@pytest.fixture(scope="module")
def grpo_step():
    """(conditions, rows by what) of the stored comparison with TRL."""
    result = stored("grpo_step.json")
    return result["conditions"], {row["what"]: row for row in result["rows"]}


def test_grpo_step_rows_are_complete_and_agree_with_themselves(grpo_step):
    conditions, rows = grpo_step
    assert rows.keys() == {"rollout", "update", "step"}
    tokens = conditions["prompts"] * conditions["group_size"] * conditions["new_tokens"]
    for row in rows.values():
        assert row["samples"] >= 5 and row["ratio_lowest"] <= row["ratio"] <= row["ratio_highest"]
        assert row["ratio"] == pytest.approx(row["seconds"]["trl"] / row["seconds"]["dsmini"], rel=0.15)
        for side, seconds in row["seconds"].items():
            assert row["tokens_per_second"][side] == pytest.approx(tokens / seconds, rel=0.01)
    for side in ("dsmini", "trl"):
        parts = rows["rollout"]["seconds"][side] + rows["update"]["seconds"][side]
        assert rows["step"]["seconds"][side] == pytest.approx(parts, rel=0.1)


def test_grpo_step_was_measured_on_a_model_of_the_accounting(grpo_step):
    conditions, _ = grpo_step
    config = dsmini.ModelConfig.from_hf({"model_type": "deepseek_v3", **conditions["config"]})
    biases = sum(config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)) * config.n_routed_experts
    assert conditions["parameters"] == count_parameters(config).total - biases


def test_grpo_step_reaches_what_the_book_says(grpo_step):
    _, rows = grpo_step
    assert rows["rollout"]["ratio"] >= 2.5 and rows["step"]["ratio"] >= 1.7 and rows["update"]["ratio"] >= 1


def test_multi_token_rows_are_complete_and_agree_with_themselves():
    rows = stored("multi_token.json")["rows"]
    runs = {(row["text"], row["variant"], row["seed"]): row for row in rows}
    seeds = {row["seed"] for row in rows}
    variants = [("python", name) for name in ("none", "sequential", "parallel", "deeper", "neighbour")]
    variants += [("tasks", name) for name in ("none", "sequential", "parallel")]
    assert len(seeds) >= 3 and runs.keys() == {(*variant, seed) for variant in variants for seed in seeds}
    for row in rows:
        assert abs(row["held_out_loss"] - row["same_targets_loss"]) < 0.05
        for how in ("greedy", "sampled"):
            if f"acceptance_{how}" in row:
                assert 1 < row[f"tokens_per_forward_{how}"] <= 1 + row[f"acceptance_{how}"]


def test_multi_token_results_say_what_the_book_says():
    rows = stored("multi_token.json")["rows"]
    runs = {(row["text"], row["variant"], row["seed"]): row for row in rows}
    for text, variant, seed in runs:
        if variant == "sequential":
            sees, blind = runs[text, variant, seed], runs[text, "parallel", seed]
            assert sees["next_but_one_loss"] < sees["same_targets_loss"] < blind["next_but_one_loss"]
            assert sees["overlap"] > blind["overlap"] and sees["same_best_token"] > blind["same_best_token"]
    for seed in {row["seed"] for row in rows}:
        loss = {name: runs["python", name, seed]["same_targets_loss"] for name in ("none", "deeper", "neighbour")}
        assert loss["none"] - loss["neighbour"] > 3 * abs(loss["none"] - loss["deeper"])


def test_moe_rows_are_complete_and_compare_equal_weights():
    result = stored("moe_quality.json")
    runs = {(row["task"], row["arm"], row["seed"]): row for row in result["rows"]}
    arms = {(task, arm) for task, arm, _ in runs}
    seeds = {seed for _, _, seed in runs}
    assert len(runs) == len(result["rows"]) == len(arms) * len(seeds) and len(seeds) >= 3
    experts = result["conditions"]["experts"]
    width = experts["moe_intermediate_size"] * (experts["n_routed_experts"] + experts["n_shared_experts"])
    for (task, arm, _), row in runs.items():
        active, every = (64, 256) if task == "facts" else (experts["intermediate_size"], width)
        hidden_size = 64 if task == "facts" else 128
        assert row["weights"] == 3 * hidden_size * (active if arm == "dense" else every)
        if "load" in row:
            assert sum(row["load"]) == pytest.approx(1, abs=1e-3)
            assert max(row["load"]) * len(row["load"]) - 1 == pytest.approx(row["max_violation"], abs=2e-3)


def test_moe_results_say_what_the_book_says():
    rows = stored("moe_quality.json")["rows"]

    def runs(task, arm, field):
        return [row[field] for row in rows if row["task"] == task and row["arm"] == arm]

    order = ("dense", "coarse", "fine", "dense, all weights")
    for smaller, larger in zip(order, order[1:], strict=False):
        assert max(runs("facts", smaller, "recall")) < min(runs("facts", larger, "recall"))
    for arm in ("bias", "loss 0.01", "loss 1", "loss 10"):
        assert max(runs("text", arm, "max_violation")) < 1 < min(runs("text", "none", "max_violation"))
    assert min(runs("text", "loss 10", "held_out_loss")) > max(runs("text", "none", "held_out_loss"))


def test_hacked_verifier_is_satisfied_and_the_truth_is_not():
    rows = stored("reward_hacking.json")["rows"]
    (base,) = [row for row in rows if row["reward"] == "none"]
    runs = {name: [row for row in rows if row["reward"] == name] for name in ("mark", "accuracy")}
    for found in runs.values():
        assert sorted(row["seed"] for row in found) == [0, 1, 2]
    assert min(row["says_yes"] for row in runs["mark"]) > 0.9 > base["says_yes"]
    assert max(row["right"] for row in runs["mark"]) < base["right"] / 2
    assert min(row["right"] for row in runs["accuracy"]) > base["right"] + 0.05
    for row in runs["accuracy"]:
        assert row["curves"]["reward"] == row["curves"]["truth"]


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
