"""The stored references: a reader needs nothing but this package to compare with another library.

`tests/parity/test_references.py` runs that library again.
"""

import json

import pytest
import torch
from safetensors import safe_open
from tiny import difference

import dsmini
from dsmini import ModelConfig
from dsmini.model.cache import LatentCache
from dsmini.model.layers import RotaryEmbedding
from dsmini.model.mla import LatentAttention

STORED = "deepseek_v3_attention"


def loaded_attention():
    config, tensors, _ = dsmini.reference.load(STORED)
    config = ModelConfig.from_hf(config)
    attention = LatentAttention(config).double()
    attention.load_state_dict(tensors["weights"])
    return config, attention, tensors["inputs"], tensors["outputs"]["y"]


def test_reference_is_read_in_groups():
    config, tensors, made_by = dsmini.reference.load(STORED)
    assert made_by == "transformers 5.23.0" and config["model_type"] == "deepseek_v3"
    assert {group: set(members) for group, members in tensors.items()} == {
        "weights": {f"{name}.weight" for name in ("q_a_proj", "q_a_layernorm", "q_b_proj", "kv_a_proj_with_mqa",
                                                  "kv_a_layernorm", "kv_b_proj", "o_proj")},
        "inputs": {"x", "positions"},
        "outputs": {"y"},
    }  # fmt: skip
    assert tensors["outputs"]["y"].dtype == torch.float64


def test_reference_is_worth_comparing_with():
    config, _, _, y = loaded_attention()
    assert config.q_lora_rank and config.rope_scaling.factor == 40
    assert y.shape == (2, 24, 64) and 0.8 < y.std() < 1.2


def test_our_attention_equals_the_stored_outputs():
    config, attention, inputs, y = loaded_attention()
    with torch.no_grad():
        ours = attention(inputs["x"], RotaryEmbedding(config)(inputs["positions"], torch.float64))
    assert difference(ours, y) < 1e-12


def test_prefill_and_decode_equal_the_stored_outputs():
    config, attention, inputs, y = loaded_attention()
    cache, pieces = LatentCache(config, batch_size=2, max_tokens=24, dtype=torch.float64), []
    for start, end in [(0, 10), *((t, t + 1) for t in range(10, 24))]:
        positions = cache.begin(end - start)
        rope = RotaryEmbedding(config)(positions, torch.float64)
        with torch.no_grad():
            pieces.append(attention(inputs["x"][:, start:end], rope, cache.mask(positions), cache.layers[0]))
        cache.finish()
    assert difference(torch.cat(pieces, dim=1), y) < 1e-12


def test_unknown_reference_lists_what_there_is():
    with pytest.raises(ValueError, match=rf"name = 'deepseek_v4': expected one of .*{STORED}"):
        dsmini.reference.load("deepseek_v4")


def test_files_are_small_and_say_where_they_come_from():
    folder = dsmini.reference.__path__[0]
    path = f"{folder}/{STORED}.safetensors"
    with open(path, "rb") as file:
        assert len(file.read()) <= 100_000
    with safe_open(path, framework="pt") as file:
        assert set(file.metadata()) == {"config", "made_by"}
        assert json.loads(file.metadata()["config"])["transformers_version"] == "5.23.0"
