"""KV-cache bytes: the published figures, and what a cache of this book really allocates."""

import pytest
from tiny import CONFIGS, make_model

from dsmini.accounting import LAYOUTS, kv_cache_bytes, kv_elements, tokens_that_fit
from dsmini.config import PRESETS

V2_LITE, V2, V3, V32 = (PRESETS[f"deepseek-{name}"] for name in ("v2-lite", "v2", "v3", "v3.2"))
GIB = 2**30


@pytest.mark.parametrize(
    ("config", "elements", "bytes_per_token"),
    [
        (V2_LITE, 576, 31_104),
        (V2_LITE.with_attention("mha"), 4096, 221_184),
        (V2, 576, 69_120),
        (V2.with_attention("mha"), 32_768, 3_932_160),
        (V3, 576, 70_272),
        (V3.with_attention("mha"), 32_768, 3_997_696),
        (V3.with_attention("gqa", 8), 2048, 249_856),
        (V3.with_attention("mqa"), 256, 31_232),
        (V32, 704, 85_888),
        (PRESETS["llama-3.1-405b"], 2048, 516_096),
        (PRESETS["llama-3-70b"], 2048, 327_680),
        (PRESETS["qwen2.5-72b"], 2048, 327_680),
        (PRESETS["qwen3-235b-a22b"], 1024, 192_512),
        (PRESETS["deepseek-67b"], 2048, 389_120),
    ],
)
def test_plain_cache_is_exact(config, elements, bytes_per_token):
    assert kv_elements(config) == elements
    assert kv_cache_bytes(config, 1) == bytes_per_token


@pytest.mark.parametrize(
    ("config", "layout", "bytes_per_token"),
    [
        (V3, "expanded", 4_997_120),
        (V3, "production", 61 * 656),
        (V32, "fp8-index", 78_324),
        (V32, "production", 48_068),
        (V32, "expanded", 4_997_120),
    ],
)
def test_other_layouts_are_exact(config, layout, bytes_per_token):
    assert kv_cache_bytes(config, 1, layout=layout) == bytes_per_token


@pytest.mark.parametrize(
    ("config", "layout", "gib"),
    [
        (V2_LITE, "plain", 3.80),
        (V3, "plain", 8.58),
        (V3, "expanded", 610),
        (V3.with_attention("mha"), "plain", 488),
        (V32, "production", 5.87),
        (PRESETS["llama-3.1-405b"], "plain", 63.0),
    ],
)
def test_cache_of_128k_tokens_in_gib(config, layout, gib):
    assert kv_cache_bytes(config, 131_072, layout=layout) / GIB == pytest.approx(gib, abs=0.005)


def test_the_93_percent_need_six_bits():
    per_token = kv_elements(V2) * V2.num_hidden_layers
    before = kv_cache_bytes(PRESETS["deepseek-67b"], 1)
    assert 1 - per_token * 6 / 8 / before == pytest.approx(0.933, abs=0.0005)
    assert 1 - kv_cache_bytes(V2, 1) / before == pytest.approx(0.822, abs=0.0005)


def test_bytes_are_proportional_to_batch_tokens_and_width():
    assert kv_cache_bytes(V3, tokens=10, batch_size=3, bytes_per_value=4) == 10 * 3 * 2 * 70_272
    assert kv_cache_bytes(V3, tokens=0) == 0


def test_scales_are_counted_per_started_tile():
    odd = CONFIGS["mla"].replace(kv_lora_rank=130)
    assert kv_cache_bytes(odd, 1, layout="production") == 2 * (130 + 2 * 4 + 6 * 2)


def test_production_layout_does_not_depend_on_bytes_per_value():
    assert kv_cache_bytes(V32, 1, bytes_per_value=4, layout="production") == 48_068


@pytest.mark.parametrize("name", CONFIGS)
def test_arithmetic_is_what_new_cache_allocates(name):
    cache = make_model(CONFIGS[name]).new_cache(batch_size=3, max_tokens=7)
    assert cache.nbytes == kv_cache_bytes(CONFIGS[name], tokens=7, batch_size=3, bytes_per_value=8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_token_more_would_not_fit(layout):
    for memory in (0, 48_067, 10**9, 80 * GIB):
        fit = tokens_that_fit(V32, memory, batch_size=3, layout=layout)
        assert kv_cache_bytes(V32, fit, 3, layout=layout) <= memory < kv_cache_bytes(V32, fit + 1, 3, layout=layout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": -1}, "tokens = -1: expected 0 or more"),
        ({"tokens": 1, "batch_size": -2}, "batch_size = -2: expected 0 or more"),
        ({"tokens": 1, "bytes_per_value": -2}, "bytes_per_value = -2: expected 0 or more"),
        ({"tokens": 1, "layout": "fp8"}, "layout = 'fp8': expected one of plain, expanded, fp8-index, production"),
        ({"tokens": 1, "layout": "fp8-index"}, "layout = 'fp8-index' needs a model with an indexer"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        kv_cache_bytes(V3, **arguments)


@pytest.mark.parametrize("layout", ["expanded", "production"])
def test_baselines_have_no_latent_layouts(layout):
    with pytest.raises(ValueError, match=f"layout = '{layout}' needs a model with MLA"):
        kv_cache_bytes(PRESETS["llama-3-70b"], 1, layout=layout)


def test_elements_exist_only_where_values_are_alike():
    with pytest.raises(ValueError, match="layout = 'production': expected 'plain' or 'expanded'"):
        kv_elements(V3, "production")
    assert kv_elements(V3, "expanded") == 40_960


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_bytes": -1}, "memory_bytes = -1: expected 0 or more"),
        ({"memory_bytes": 9, "batch_size": 0}, "batch_size = 0: expected more than 0"),
        ({"memory_bytes": 9, "bytes_per_value": 0}, "bytes_per_value = 0: expected more than 0"),
    ],
)
def test_memory_without_end_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tokens_that_fit(V3, **arguments)
