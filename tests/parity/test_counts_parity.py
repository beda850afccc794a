"""The arithmetic of `dsmini.accounting` against models that transformers builds, on the meta device."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, DeepseekV2Config, DeepseekV3Config, DeepseekV32Config, DynamicCache
from twins import llama, make_twins, our_config, precision, tokens_for, v2, v3

from dsmini.accounting import count_parameters, kv_cache_bytes
from dsmini.config import PRESETS, ModelConfig

TYPES = {"deepseek_v2": DeepseekV2Config, "deepseek_v3": DeepseekV3Config, "deepseek_v32": DeepseekV32Config}


def build(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def sizes(model):
    """Every parameter's size by name, and every router bias's: a buffer there, counted by us."""
    found = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return found | {n: b.numel() for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")}


def by_component(model):
    parts = {
        "embedding": "embed_tokens.", "head": "lm_head.", "indexer": ".indexer.", "attention": ".self_attn.",
        "shared experts": ".shared_experts.", "routed experts": ".experts.", "router": ".mlp.gate.",
        "dense feed-forward": ".mlp.", "norms": "norm.",
    }  # fmt: skip
    totals = {}
    for name, size in sizes(model).items():
        part = next(part for part, mark in parts.items() if mark in name)
        totals[part] = totals.get(part, 0) + size
    return totals


def draw_config(model_type, seed):
    """A config that nobody has written down: all sizes random, groups and experts fitting."""
    rng = random.Random(seed)
    heads, groups = rng.randint(1, 8), rng.choice([1, 2, 4])
    topk_group = rng.randint(1, groups)
    experts = groups * rng.randint(2, 5)
    layers = rng.randint(1, 6)
    config = {
        "vocab_size": rng.randint(50, 999), "hidden_size": heads * rng.randint(8, 40), "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": heads, "q_lora_rank": rng.randint(3, 50),
        "kv_lora_rank": rng.randint(3, 50), "qk_nope_head_dim": rng.randint(2, 30),
        "qk_rope_head_dim": 2 * rng.randint(1, 8), "v_head_dim": rng.randint(2, 30),
        "intermediate_size": rng.randint(10, 200), "moe_intermediate_size": rng.randint(3, 60),
        "n_routed_experts": experts, "n_shared_experts": rng.randint(1, 3), "n_group": groups,
        "topk_group": topk_group, "num_experts_per_tok": rng.randint(1, experts // groups * topk_group),
        "first_k_dense_replace": rng.randint(0, layers + 1), "attention_bias": rng.random() < 0.5,
        "tie_word_embeddings": rng.random() < 0.3,
    }  # fmt: skip
    if model_type == "deepseek_v32":
        config |= {"index_n_heads": rng.randint(1, 6), "index_head_dim": config["qk_rope_head_dim"] + rng.randint(1, 9),
                   "index_topk": rng.randint(1, 99)}  # fmt: skip
    elif rng.random() < 0.4:
        config["q_lora_rank"] = None
    return TYPES[model_type](**config)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("model_type", TYPES)
def test_count_of_a_random_config_is_their_models(model_type, seed):
    theirs = draw_config(model_type, seed)
    ours = our_config(theirs)
    model, count = build(theirs), count_parameters(ours)
    found = by_component(model)
    if ours.tie_word_embeddings:
        found.pop("head", None)
    assert count.components == found
    assert count.total == sum(found.values())
    idle = found.get("routed experts", 0) * (1 - ours.num_experts_per_tok / ours.n_routed_experts)
    assert count.active == pytest.approx(count.total - idle, abs=0.5)


@pytest.mark.parametrize("name", ["deepseek-v2-lite", "deepseek-v2", "deepseek-v3", "deepseek-v3.2"])
def test_count_of_the_real_models_is_theirs(name):
    written = PRESETS[name].to_hf()
    model = build(TYPES[written.pop("model_type")](**written))
    count = count_parameters(PRESETS[name])
    assert count.total == sum(sizes(model).values())
    assert count.components == by_component(model)


def test_router_bias_is_a_buffer_there_and_v2_has_none():
    v3_model = build(v3(first_k_dense_replace=0, n_routed_experts=16))
    short = count_parameters(our_config(v3_model.config)).total - sum(p.numel() for p in v3_model.parameters())
    assert short == 2 * 16
    v2_model = build(v2(first_k_dense_replace=0, n_routed_experts=16))
    assert count_parameters(our_config(v2_model.config)).total == sum(p.numel() for p in v2_model.parameters())


@pytest.mark.parametrize("config", [v3(), v3(q_lora_rank=None), v2(), llama(), llama(num_key_value_heads=1)])
def test_bytes_are_what_their_cache_holds(config):
    theirs, ours = make_twins(config)
    tokens = tokens_for(ours, batch_size=3, length=7)
    cache = DynamicCache(config=config)
    with torch.no_grad(), precision(torch.float64):
        theirs(tokens, past_key_values=cache)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == kv_cache_bytes(ours.config, tokens=7, batch_size=3, bytes_per_value=8)
    assert held == ours.new_cache(3, 7).nbytes


def test_random_configs_read_back_what_they_say():
    for seed in range(6):
        for model_type in TYPES:
            theirs = draw_config(model_type, seed).to_dict()
            ours = ModelConfig.from_hf(theirs)
            for field in ("hidden_size", "q_lora_rank", "kv_lora_rank", "n_group", "num_experts_per_tok", "v_head_dim"):
                assert getattr(ours, field) == theirs[field], field
