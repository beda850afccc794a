"""Stored cost of sparse attention: complete, of the sizes it names, and it says what the book says, losses included."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

import dsmini
from dsmini.accounting import attention_flops

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "sparse_decode.json"
CONTEXTS, TOPKS = (4096, 16384, 32768, 65536), ("64", "256", "512", "2048")
LENGTHS = (1024, 2048, 4096, 8192)
NOISE = 1.1  # two figures of one row are no nearer than that


@pytest.fixture(scope="module")
def result():
    return json.loads(RESULT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows(result):
    found = {(row["what"], row["part"], row["size"], row["batch_size"], row["tokens"]): row for row in result["rows"]}
    assert len(found) == len(result["rows"])
    return found


@pytest.fixture(scope="module")
def gain(rows):
    """(part, size, context, batch size) -> topk -> how many times faster than dense a step is."""
    return lambda part, size, context, batch_size=1: rows["decode", part, size, batch_size, context]["ratio"]


def test_rows_are_complete_and_agree_with_themselves(result, rows):
    decode = {(size, 1, context) for size in ("mini", "tiny", "small") for context in CONTEXTS}
    decode |= {("tiny", 8, 16384), ("small", 4, 16384)}
    expected = {("decode", part, *row) for part in ("attention", "model") for row in decode}
    expected |= {("prefill", "model", "tiny", 1, length) for length in LENGTHS}
    assert rows.keys() == expected | {("memory of a prefill", "model", "tiny", 1, 8192)}
    assert [str(topk) for topk in result["conditions"]["topks"]] == list(TOPKS)
    assert result["conditions"]["threads"] == 1
    for (what, *_), row in rows.items():
        if what in ("decode", "prefill"):
            assert row["samples"] >= (5 if what == "decode" else 2)
            for times, ratio in (("seconds", "ratio"), ("fastest", "ratio_of_fastest")):
                dense = row[times]["dense"]
                assert row[ratio] == {k: pytest.approx(dense / row[times][k], rel=0.01) for k in row[ratio]}
            assert row["ratio"].keys() == set(TOPKS if what == "decode" else ("64", "512"))


def test_small_is_v32_with_an_eighth_of_its_heads(result):
    """The proportion that decides: what a token in the cache costs the indexer, and what it costs dense attention."""
    small, v32 = dsmini.ModelConfig(**result["conditions"]["configs"]["small"]), dsmini.PRESETS["deepseek-v3.2"]
    for name in ("num_attention_heads", "hidden_size", "q_lora_rank", "index_n_heads"):
        assert 8 * getattr(small, name) == getattr(v32, name)
    for name in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "index_head_dim"):
        assert getattr(small, name) == getattr(v32, name)
    for form in ("absorbed", "sparse"):
        cost = [attention_flops(c, 65536, form) - attention_flops(c, 32768, form) for c in (small, v32)]
        assert 8 * cost[0] == cost[1]


def test_aim_is_reached_with_the_proportions_of_v32(rows, gain):
    assert gain("attention", "small", 32768)["512"] >= 2.5
    assert rows["decode", "attention", "small", 1, 32768]["ratio_of_fastest"]["512"] >= 2.5
    assert gain("model", "small", 32768)["512"] >= 2
    assert gain("model", "small", 65536)["512"] >= 2.5


def test_longer_contexts_gain_more(gain):
    for part in ("attention", "model"):
        for size in ("mini", "tiny", "small"):
            for shorter, longer in pairwise(CONTEXTS):
                for topk in TOPKS:
                    assert gain(part, size, longer)[topk] > gain(part, size, shorter)[topk] / NOISE
            assert gain(part, size, 65536)["512"] > NOISE * gain(part, size, 4096)["512"]


def test_more_tokens_kept_gain_less(gain):
    for part in ("attention", "model"):
        for size in ("mini", "tiny", "small"):
            for context in CONTEXTS:
                ratios = gain(part, size, context)
                assert all(ratios[fewer] > ratios[more] / NOISE for fewer, more in pairwise(TOPKS))
                assert ratios["64"] > ratios["2048"]


def test_the_smaller_the_model_the_smaller_the_gain(gain):
    """The mini's indexer has as many heads as its attention, the tiny's half of them and keys nearly half as wide as
    its latents: the choice costs a good part of what it saves."""
    for context in (32768, 65536):
        for part in ("attention", "model"):
            for topk in TOPKS:
                mini, tiny, small = (gain(part, size, context)[topk] for size in ("mini", "tiny", "small"))
                assert mini < tiny < small


def test_sparse_loses_where_contexts_are_short(gain):
    for size in ("mini", "tiny", "small"):
        for part in ("attention", "model"):
            assert gain(part, size, 4096)["2048"] < 1, "half of all tokens, and the indexer on top"
    for topk in TOPKS:
        assert gain("attention", "mini", 4096)[topk] < 1 and gain("attention", "tiny", 4096)[topk] < 1
        assert gain("model", "mini", 4096)[topk] < 1 and gain("model", "mini", 32768)[topk] < 1.1


def test_gain_outlives_a_batch(gain):
    for size, batch_size in (("tiny", 8), ("small", 4)):
        assert gain("model", size, 16384, batch_size)["512"] > NOISE
        assert gain("attention", size, 16384, batch_size)["512"] > NOISE


def test_prefill_is_slower_at_every_length_on_a_cpu(rows):
    """Dense prefill is expanded, one product for many queries; each sparse query has rows of its own to fetch."""
    for length in LENGTHS:
        ratio = rows["prefill", "model", "tiny", 1, length]["ratio"]
        assert ratio["512"] < ratio["64"] < 1


def test_memory_of_a_prefill_is_no_more_than_dense_and_a_sixth_of_transformers(rows):
    mib = rows["memory of a prefill", "model", "tiny", 1, 8192]["mib"]
    assert mib["sparse"] <= mib["dense"] and 6 * mib["sparse"] <= mib["transformers"]
