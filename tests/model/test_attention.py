"""The baselines against loops that a reader could write, and their gradients, leaks and biases."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIGS, difference, shake
from torch.nn import functional as F

from dsmini.model.attention import Attention, attend
from dsmini.model.layers import RotaryEmbedding, apply_rope
from dsmini.probes import gradient_census, leak_probe

BASELINES = ["mha", "gqa", "mqa"]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def attend_slowly(q, k, v, scale, visible):
    """Softmax attention, one query at a time; visible(row, query, key) -> bool."""
    B, H, T, _ = q.shape
    out = q.new_zeros(B, H, T, v.shape[-1])
    for b in range(B):
        for h in range(H):
            group = h * k.shape[1] // H
            for t in range(T):
                seen = [s for s in range(k.shape[2]) if visible(b, t, s)]
                scores = [scale * float(q[b, h, t] @ k[b, group, s]) for s in seen]
                weights = [math.exp(score - max(scores)) for score in scores]
                for s, weight in zip(seen, weights, strict=True):
                    out[b, h, t] += weight / sum(weights) * v[b, group, s]
    return out


@given(
    heads=st.sampled_from([(1, 1), (4, 4), (4, 2), (4, 1), (6, 3)]),
    length=st.integers(1, 5),
    d_k=st.integers(1, 6),
    d_v=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_attend_is_causal_softmax_attention(heads, length, d_k, d_v, seed):
    H, G = heads
    q, k = random(2, H, length, d_k, seed=seed), random(2, G, length, d_k, seed=seed + 1)
    v = random(2, G, length, d_v, seed=seed + 2)
    slow = attend_slowly(q, k, v, 0.7, lambda b, t, s: s <= t)
    assert difference(attend(q, k, v, 0.7), slow) < 1e-13


@pytest.mark.parametrize(("d_k", "d_v"), [(4, 4), (6, 3), (3, 6)])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_attend_follows_a_mask(groups, d_k, d_v):
    q, k, v = random(2, 4, 3, d_k), random(2, groups, 7, d_k, seed=1), random(2, groups, 7, d_v, seed=2)
    mask = torch.rand(2, 1, 3, 7, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[..., 0] = True
    slow = attend_slowly(q, k, v, 0.5, lambda b, t, s: bool(mask[b, 0, t, s]))
    assert difference(attend(q, k, v, 0.5, mask), slow) < 1e-13


@pytest.mark.parametrize("groups", [4, 2, 1])
def test_one_query_sees_every_key(groups):
    q, k, v = random(2, 4, 1, 6), random(2, groups, 7, 6, seed=1), random(2, groups, 7, 5, seed=2)
    slow = attend_slowly(q, k, v, 0.5, lambda b, t, s: True)
    assert difference(attend(q, k, v, 0.5), slow) < 1e-13


def attention_of(name):
    config = CONFIGS[name]
    return config, shake(Attention(config)).double()


@pytest.mark.parametrize("name", BASELINES)
def test_layer_is_projections_rope_and_attention(name):
    config, layer = attention_of(name)
    x, rope = random(2, 5, config.hidden_size), RotaryEmbedding(config)(torch.arange(5), torch.float64)

    def heads(projection, count):
        return F.linear(x, projection.weight, projection.bias).view(2, 5, count, config.head_dim)

    q = apply_rope(heads(layer.q_proj, 4), *rope, config.rope_interleave).transpose(1, 2)
    k = apply_rope(heads(layer.k_proj, config.num_key_value_heads), *rope, config.rope_interleave).transpose(1, 2)
    v = heads(layer.v_proj, config.num_key_value_heads).transpose(1, 2)
    mixed = attend_slowly(q, k, v, config.head_dim**-0.5, lambda b, t, s: s <= t)
    assert difference(layer(x, rope), layer.o_proj(mixed.transpose(1, 2).reshape(2, 5, -1))) < 1e-13


@pytest.mark.parametrize("name", BASELINES)
def test_future_never_moves_the_past(name):
    config, layer = attention_of(name)
    rope = RotaryEmbedding(config)(torch.arange(24), torch.float64)
    assert leak_probe(lambda x: layer(x, rope), random(2, 24, config.hidden_size)) == 0.0


@pytest.mark.parametrize("name", BASELINES)
def test_every_parameter_learns(name):
    config, layer = attention_of(name)
    rope = RotaryEmbedding(config)(torch.arange(6), torch.float64)
    layer(random(2, 6, config.hidden_size), rope).pow(2).sum().backward()
    census = gradient_census(layer)
    assert census.all_learn, str(census)
    assert len(census.learning) == (8 if config.attention_bias else 4)


def test_groups_decide_the_size_of_keys_and_values():
    for name, width in (("mha", 4 * 8), ("gqa", 2 * 6), ("mqa", 1 * 8)):
        _, layer = attention_of(name)
        assert layer.k_proj.weight.shape == layer.v_proj.weight.shape == (width, 32)
