"""RMSNorm, SwiGLU, rotary positions and YaRN, each against its formula."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIGS, YARN, difference

from dsmini.config import PRESETS, RopeScaling
from dsmini.model.layers import (
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    apply_rope,
    rope_frequencies,
    yarn_factors,
    yarn_frequencies,
    yarn_mscale,
    yarn_ramp,
)
from dsmini.model.mla import LatentAttention

V3 = PRESETS["deepseek-v3"].rope_scaling


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def angles(positions, dim, theta=10000.0):
    """(T, dim/2) in float64, from the paper's formula: position times theta^(-2i/dim)."""
    turns = [[p * theta ** (-2 * i / dim) for i in range(dim // 2)] for p in positions]
    return torch.tensor(turns, dtype=torch.float64)


def test_rmsnorm_divides_by_the_root_mean_square():
    norm = RMSNorm(6, eps=1e-3).double()
    torch.nn.init.normal_(norm.weight)
    x = random(2, 3, 6)
    slow = torch.stack([row / math.sqrt(sum(v**2 for v in row) / 6 + 1e-3) for row in x.view(-1, 6)]).view_as(x)
    assert difference(norm(x), norm.weight * slow) < 1e-14


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rmsnorm_of_half_precision_is_computed_in_float32(dtype):
    x = (300 * random(4, 64)).to(dtype)  # squares beyond float16's largest number
    half = RMSNorm(64).to(dtype)(x)
    assert half.dtype == dtype
    assert torch.equal(half, RMSNorm(64)(x.float()).to(dtype))


def test_swiglu_is_its_formula():
    mlp = SwiGLU(6, 10).double()
    x = random(2, 3, 6)
    gate, up = x @ mlp.gate_proj.weight.T, x @ mlp.up_proj.weight.T
    assert difference(mlp(x), (gate * torch.sigmoid(gate) * up) @ mlp.down_proj.weight.T) < 1e-15
    assert all(name.endswith("weight") for name, _ in mlp.named_parameters())


def test_rope_frequencies_are_a_geometric_series():
    assert rope_frequencies(8, 10000.0).tolist() == pytest.approx([1, 0.1, 0.01, 0.001])
    assert rope_frequencies(64).dtype == torch.float32


def test_interleaved_rope_turns_neighbours_as_complex_numbers():
    x, turn = random(1, 5, 2, 8), angles(range(5), 8)
    turned = torch.view_as_complex(x.unflatten(-1, (4, 2))) * torch.polar(torch.ones_like(turn), turn)[:, None]
    assert difference(apply_rope(x, turn.cos(), turn.sin()), torch.view_as_real(turned).flatten(-2)) < 1e-14


def test_both_layouts_are_one_rotation_of_permuted_dimensions():
    x, turn = random(2, 5, 3, 8), angles(range(5), 8)
    evens_first = [0, 2, 4, 6, 1, 3, 5, 7]
    interleaved = apply_rope(x, turn.cos(), turn.sin(), interleaved=True)
    halves = apply_rope(x[..., evens_first], turn.cos(), turn.sin(), interleaved=False)
    assert torch.equal(interleaved[..., evens_first], halves)
    assert difference(interleaved, apply_rope(x, turn.cos(), turn.sin(), interleaved=False)) > 0.1


@pytest.mark.parametrize("interleaved", [True, False])
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 6))
def test_scores_depend_on_the_distance_alone(interleaved, query_at, key_at, shift, pairs):
    q, k = random(1, 1, 1, 2 * pairs), random(1, 1, 1, 2 * pairs, seed=1)

    def score(query_at, key_at):
        q_turn, k_turn = angles([query_at], 2 * pairs), angles([key_at], 2 * pairs)
        turned_q = apply_rope(q, q_turn.cos(), q_turn.sin(), interleaved)
        return (turned_q * apply_rope(k, k_turn.cos(), k_turn.sin(), interleaved)).sum()

    assert score(query_at, key_at).item() == pytest.approx(score(query_at + shift, key_at + shift).item(), abs=1e-10)


def test_rope_keeps_lengths_and_leaves_position_zero_alone():
    x, turn = random(1, 4, 2, 6), angles(range(4), 6)
    turned = apply_rope(x, turn.cos(), turn.sin())
    assert difference(turned.norm(dim=-1), x.norm(dim=-1)) < 1e-14
    assert torch.equal(turned[:, 0], x[:, 0])


def test_every_row_has_its_own_positions():
    rope = RotaryEmbedding(CONFIGS["mla"])
    x = random(2, 3, 4, 6)
    positions = torch.tensor([[0, 1, 2], [7, 8, 9]])
    both = apply_rope(x, *rope(positions, torch.float64))
    for row in range(2):
        alone = apply_rope(x[row : row + 1], *rope(positions[row], torch.float64))
        assert torch.equal(both[row : row + 1], alone)


@pytest.mark.parametrize(("name", "dim"), [("mla", 6), ("mha", 8), ("gqa", 6)])
def test_rotary_embedding_turns_the_rotary_dimensions(name, dim):
    cos, sin = RotaryEmbedding(CONFIGS[name])(torch.arange(9), torch.float64)
    assert difference(cos, angles(range(9), dim).cos()) < 1e-6
    assert difference(sin, angles(range(9), dim).sin()) < 1e-6
    assert difference(cos**2 + sin**2, torch.ones(9, dim // 2)) < 1e-15


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_angles_keep_their_precision_in_a_half_precision_model(dtype):
    positions = torch.tensor([3, 1000, 4095])
    exact = RotaryEmbedding(CONFIGS["mla"])(positions)
    half = RotaryEmbedding(CONFIGS["mla"]).to(dtype)(positions, dtype)
    assert all(torch.equal(ours, theirs.to(dtype)) for ours, theirs in zip(half, exact, strict=True))


def test_rotary_embedding_survives_the_meta_device():
    with torch.device("meta"):
        rope = RotaryEmbedding(CONFIGS["mla"])
    here = rope.to_empty(device="cpu")(torch.arange(5))
    assert torch.equal(here[0], RotaryEmbedding(CONFIGS["mla"])(torch.arange(5))[0])


def test_yarn_ramp_of_v3_runs_from_pair_10_to_pair_23():
    ramp = yarn_ramp(64, 10000.0, V3)
    assert ramp.shape == (32,)
    assert ramp[:11].tolist() == [0.0] * 11 and ramp[23:].tolist() == [1.0] * 9
    assert ramp[10:24].tolist() == pytest.approx([i / 13 for i in range(14)])


def test_yarn_ramp_ends_between_pairs_if_it_is_not_rounded():
    ramp = yarn_ramp(64, 10000.0, RopeScaling(40.0, 4096, truncate=False))
    low, high = 10.47, 22.51
    assert ramp[11:23].tolist() == pytest.approx([(i - low) / (high - low) for i in range(11, 23)], abs=1e-3)


def test_yarn_ramp_stays_inside_the_head():
    assert yarn_ramp(8, 10000.0, RopeScaling(4.0, 16)).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert yarn_ramp(8, 10000.0, RopeScaling(4.0, 6)).tolist() == [0.0, 1.0, 1.0, 1.0]  # both ends at pair 0: a step
    assert yarn_ramp(8, 10000.0, RopeScaling(4.0, 10**9)).tolist() == pytest.approx([0, 0, 0, 0])


def test_yarn_keeps_fast_pairs_and_slows_slow_ones_by_the_factor():
    plain, slowed = rope_frequencies(64), yarn_frequencies(64, 10000.0, V3)
    torch.testing.assert_close(slowed[:11], plain[:11])
    torch.testing.assert_close(slowed[23:], plain[23:] / 40)
    assert (slowed[11:23] < plain[11:23]).all() and (slowed[11:23] > plain[11:23] / 40).all()
    torch.testing.assert_close(slowed[16], plain[16] * (7 / 13 + 6 / 13 / 40))


def test_factor_one_changes_nothing():
    scaling = RopeScaling(1.0, 64, mscale=1.0, mscale_all_dim=1.0)
    torch.testing.assert_close(yarn_frequencies(16, 10000.0, scaling), rope_frequencies(16))
    assert yarn_factors(scaling) == (1.0, 1.0)


@pytest.mark.parametrize(("mscale", "value", "squared"), [(1.0, 1.368888, 1.873854), (0.707, 1.260804, 1.589626)])
def test_yarn_temperature(mscale, value, squared):
    assert yarn_mscale(40, mscale) == pytest.approx(value, abs=5e-7)
    assert yarn_mscale(40, mscale) ** 2 == pytest.approx(squared, abs=5e-7)
    assert yarn_mscale(0.5, mscale) == yarn_mscale(1, mscale) == 1.0


@pytest.mark.parametrize(
    ("settings", "on_the_logit", "on_cos_and_sin"),
    [
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.873854, 1.0),
        ({"mscale": 0.707, "mscale_all_dim": 0.707}, 1.589626, 1.0),
        ({"mscale": 0.707, "mscale_all_dim": 1.0}, 1.873854, 1.260804 / 1.368888),
        ({"mscale_all_dim": 1.0}, 1.873854, 1.368888),
        ({"mscale": 1.0}, 1.0, 1.368888),
        ({"mscale": 0.707}, 1.0, 1.368888),
        ({}, 1.0, 1.368888),
        ({"mscale_all_dim": 1.0, "attention_factor": 1.5}, 1.873854, 1.5),
    ],
)
def test_where_the_temperature_goes(settings, on_the_logit, on_cos_and_sin):
    found = yarn_factors(RopeScaling(40.0, 4096, **settings))
    assert found == pytest.approx((on_the_logit, on_cos_and_sin), abs=2e-6)


def test_without_yarn_there_is_no_temperature():
    assert yarn_factors(None) == (1.0, 1.0)


def test_rotary_embedding_multiplies_cos_and_sin_by_the_attention_factor():
    config = CONFIGS["mla, YaRN"].replace(rope_scaling=RopeScaling(40.0, 64))
    cos, sin = RotaryEmbedding(config)(torch.arange(9), torch.float64)
    assert difference(cos**2 + sin**2, torch.full((9, 3), yarn_mscale(40) ** 2)) < 1e-6
    assert YARN.mscale == YARN.mscale_all_dim  # DeepSeek's own: the factor is one
    cos, sin = RotaryEmbedding(CONFIGS["mla, YaRN"])(torch.arange(9), torch.float64)
    assert difference(cos**2 + sin**2, torch.ones(9, 3)) < 1e-15


@pytest.mark.parametrize(("name", "scale"), [("deepseek-v3", 0.135234), ("deepseek-v2", 192**-0.5 * 1.589626)])
def test_softmax_scale_of_the_real_models(name, scale):
    with torch.device("meta"):
        assert LatentAttention(PRESETS[name]).scale == pytest.approx(scale, abs=5e-7)
