"""Logits and gradients equal to transformers' own models on the same random weights.

float64: 1e-12, with their inner float32 casts lifted. float32, as shipped: 2e-5. Logits are of order 1, so these are
also relative errors.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import difference
from torch.nn import functional as F
from twins import EXPERTS, YARN, llama, make_twins, our_logits, precision, rope, their_logits, tokens_for, v2, v3

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
PREFILL_AND_DECODE = (17, 24, *range(25, 41))  # a prompt, one more chunk, then token by token

CONFIGS = {
    "v3": v3(),
    "v3, YaRN": v3(rope_parameters=YARN),
    "v3, plain queries": v3(q_lora_rank=None),
    "v3, plain queries, YaRN": v3(q_lora_rank=None, rope_parameters=YARN),
    "v3, unequal mscales": v3(rope_parameters=rope(mscale=0.7, mscale_all_dim=1.3)),
    "v3, no mscale_all_dim": v3(rope_parameters=rope(mscale=1.0)),
    "v3, mscale_all_dim alone": v3(rope_parameters=rope(mscale_all_dim=1.0)),
    "v3, no mscales": v3(rope_parameters=rope(beta_fast=32.0)),
    "v3, another ramp": v3(qk_rope_head_dim=16, rope_parameters=rope(beta_fast=16.0, beta_slow=2.0)),
    "v3, attention_factor": v3(rope_parameters=rope(mscale_all_dim=1.0, attention_factor=1.4)),
    "v3, ramp not rounded": v3(qk_rope_head_dim=16, rope_parameters=rope(truncate=False)),
    "v3, biases": v3(attention_bias=True),
    "v3, biases, plain queries": v3(attention_bias=True, q_lora_rank=None),
    "v3, half-split rope": v3(rope_interleave=False, rope_parameters=YARN),
    "v3, wide values": v3(v_head_dim=22),
    "v3, narrow values": v3(v_head_dim=3),
    "v3, values as wide as content": v3(v_head_dim=8),
    "v3, other epsilon": v3(rms_norm_eps=1e-2),
    "v3, tied embeddings": v3(tie_word_embeddings=True),
    "v3, other theta": v3(rope_parameters={**YARN, "rope_theta": 500.0}),
    "v2": v2(),
    "v2-lite, YaRN": v2(q_lora_rank=None, rope_parameters=rope(mscale=0.707, mscale_all_dim=0.707)),
    "v2, biases": v2(attention_bias=True, rope_parameters=YARN),
    "v3, experts": v3(**EXPERTS),
    "v3, experts everywhere": v3(**{**EXPERTS, "first_k_dense_replace": 0}, rope_parameters=YARN),
    "v3, experts without groups": v3(**{**EXPERTS, "n_group": 1, "topk_group": 1}),
    "v3, all groups kept": v3(**{**EXPERTS, "topk_group": 4}),
    "v3, raw expert weights": v3(**EXPERTS, norm_topk_prob=False),
    "v3, all experts": v3(**{**EXPERTS, "num_experts_per_tok": 16, "topk_group": 4}),
    "v2, greedy experts": v2(**EXPERTS),
    "v2, experts from groups": v2(**EXPERTS, topk_method="group_limited_greedy", rope_parameters=YARN),
    "llama, mha": llama(num_key_value_heads=4),
    "llama, gqa": llama(),
    "llama, mqa": llama(num_key_value_heads=1),
    "llama, biases, other head width": llama(attention_bias=True, head_dim=6),
    "llama, YaRN": llama(rope_parameters=rope(beta_fast=32.0)),
    "llama, tied embeddings": llama(tie_word_embeddings=True),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_equal_in_float64(name):
    theirs, ours = make_twins(CONFIGS[name])
    tokens = tokens_for(ours)
    expected = their_logits(theirs, tokens)
    assert 0.5 < expected.std() < 5
    assert difference(our_logits(ours, tokens), expected) <= 1e-12
    assert difference(our_logits(ours, tokens, PREFILL_AND_DECODE), expected) <= 1e-12


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", [
    "v3", "v3, YaRN", "v3, plain queries", "v3, plain queries, YaRN", "v2", "llama, gqa", "v3, experts",
    "v2, experts from groups"])  # fmt: skip
def test_prefill_and_decode_are_equal_in_both_precisions(name, dtype, seed):
    theirs, ours = make_twins(CONFIGS[name], seed, dtype)
    tokens = tokens_for(ours)
    expected = their_logits(theirs, tokens)
    for ends in (None, PREFILL_AND_DECODE):
        assert difference(our_logits(ours, tokens, ends), expected) <= TOLERANCE[dtype]
        assert difference(our_logits(ours, tokens, ends), their_logits(theirs, tokens, ends)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", [
    "v3", "v3, YaRN", "v3, biases, plain queries", "v2, biases", "llama, gqa", "v3, experts everywhere",
    "v3, raw expert weights", "v2, experts from groups"])  # fmt: skip
def test_gradients_are_equal(name):
    theirs, ours = make_twins(CONFIGS[name])
    tokens = tokens_for(ours)
    with precision(torch.float64):
        logits = theirs(tokens[:, :-1]).logits
    for output in (logits, ours(tokens[:, :-1])):
        F.cross_entropy(output.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    found = {key: parameter.grad for key, parameter in ours.named_parameters()}
    expected = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    assert found.keys() == expected.keys()
    for key, grad in expected.items():
        assert grad.any() and difference(found[key], grad) <= 1e-12 * grad.abs().max().clamp(min=1e-2), key


@st.composite
def deepseek_configs(draw):
    """A DeepseekV3Config or V2Config of any sizes, any position settings and with or without its options."""
    heads, rope_dim = draw(st.integers(1, 5)), 2 * draw(st.integers(1, 5))
    mscale = st.none() | st.floats(0.1, 2.0)
    yarn = {
        "factor": draw(st.sampled_from([1.0, 4.0, 40.0])),
        "original_max_position_embeddings": draw(st.sampled_from([16, 64, 4096])),
        "beta_fast": draw(st.sampled_from([8.0, 32.0])),
        **{name: value for name in ("mscale", "mscale_all_dim") if (value := draw(mscale)) is not None},
    }
    model = draw(st.sampled_from([v3, v3, v2]))
    layout = {"rope_interleave": draw(st.booleans())} if model is v3 else {}
    pairs = 2 if model is v2 else 1  # their V2 fails on odd widths before the rotary dimensions
    return model(
        hidden_size=heads * draw(st.integers(2, 8)),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        num_hidden_layers=draw(st.integers(1, 2)),
        q_lora_rank=draw(st.none() | st.integers(1, 12)),
        kv_lora_rank=pairs * draw(st.integers(1, 12)),
        qk_nope_head_dim=pairs * draw(st.integers(1, 8)),
        qk_rope_head_dim=rope_dim,
        v_head_dim=draw(st.integers(1, 16)),
        attention_bias=draw(st.booleans()),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-3])),
        rope_parameters=draw(st.sampled_from([rope(), rope(**yarn)])),
        **layout,
    )


@settings(max_examples=25)
@given(deepseek_configs(), st.integers(0, 99))
def test_random_configs_agree(config, seed):
    theirs, ours = make_twins(config, seed)
    tokens = tokens_for(ours, batch_size=2, length=12)
    expected = their_logits(theirs, tokens)
    assert difference(our_logits(ours, tokens), expected) <= 1e-12
    assert difference(our_logits(ours, tokens, (5, *range(6, 13))), expected) <= 1e-12


def test_far_positions_agree():
    theirs, ours = make_twins(v3(num_hidden_layers=1, rope_parameters=YARN))
    tokens = tokens_for(ours, batch_size=1, length=700)
    assert difference(our_logits(ours, tokens), their_logits(theirs, tokens)) <= 1e-12
