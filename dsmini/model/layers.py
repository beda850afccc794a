"""The small parts that every layer uses: RMSNorm, rotary positions (RoPE, YaRN), SwiGLU.

Sources: Zhang and Sennrich 2019 (RMSNorm), Su et al. 2021 (RoPE), Peng et al. 2023 (YaRN), Shazeer 2020 (SwiGLU);
the details that the papers leave open follow DeepSeek's released code and weights. Inverse frequencies are computed
in float32 in every precision, as the reference implementations do: computing them in float64 would move the angle
at position 100,000 by more than float32 can tell apart.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def at_least_float32(x):
    """Half precision as float32, everything else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class RMSNorm(nn.Module):
    """Divide a vector by its root mean square, then scale each dimension: (..., dim) -> (..., dim).

    No mean is subtracted and there is no bias. Half precision is normalised in float32.
    """

    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        wide = at_least_float32(x)
        mean_square = wide.pow(2).mean(-1, keepdim=True)
        return self.weight * (wide * torch.rsqrt(mean_square + self.eps)).to(x.dtype)


class SwiGLU(nn.Module):
    """Gated feed-forward: down(silu(gate(x)) * up(x)), (..., hidden) -> (..., hidden)."""

    def __init__(self, hidden_size, intermediate_size):
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def rope_frequencies(dim, theta=10000.0):
    """Angles per position of the dim/2 pairs: theta^(-2i/dim). Su et al. 2021, section 3.2.2.

    Returns (dim/2,), float32.
    """
    return 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def yarn_ramp(dim, theta, scaling):
    """How far each pair is interpolated: 0 keeps its frequency, 1 divides it by `factor`.

    A pair that turns more than `beta_fast` times over the original context already knows
    every position and is kept; one that turns less than `beta_slow` times would see angles it
    never met, so it is slowed down. Between the two the ramp is linear in the pair's index.
    Returns (dim/2,), float32. Peng et al. 2023, section 3.2.
    """

    def pair_that_turns(times):
        wavelengths = scaling.original_max_position_embeddings / (times * 2 * math.pi)
        return dim * math.log(wavelengths) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001  # a step, without dividing by zero
    pairs = torch.arange(dim // 2, dtype=torch.float32)
    return ((pairs - low) / (high - low)).clamp(0, 1)


def yarn_frequencies(dim, theta, scaling):
    """RoPE frequencies for a context `scaling.factor` times longer. Peng et al. 2023, eq. 13.

    Returns (dim/2,), float32.
    """
    wavelength = theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    kept = 1 - yarn_ramp(dim, theta, scaling)
    return 1.0 / (scaling.factor * wavelength) * (1 - kept) + 1.0 / wavelength * kept


def yarn_mscale(factor, mscale=1.0):
    """YaRN's temperature, 1 where nothing is stretched. Peng et al. 2023, eq. 15."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def yarn_factors(scaling):
    """The two places where YaRN's temperature can go: (on the whole logit, on cos and sin).

    With `mscale_all_dim` (all DeepSeek configs) the logit of all dimensions is multiplied by
    its square, and cos and sin by mscale / mscale_all_dim = 1. Without it only cos and sin
    grow, so only the rotary part of the logit does: another model.
    Returns (1.0, 1.0) for scaling = None.
    """
    if scaling is None:
        return 1.0, 1.0
    of_all, of_rope = scaling.mscale_all_dim, scaling.mscale
    logit = yarn_mscale(scaling.factor, of_all) ** 2 if of_all else 1.0
    if scaling.attention_factor is not None:
        return logit, scaling.attention_factor
    if of_rope and of_all:
        of_all = yarn_mscale(scaling.factor, of_all)
        return logit, yarn_mscale(scaling.factor, of_rope) / of_all
    return logit, yarn_mscale(scaling.factor)


class RotaryEmbedding(nn.Module):
    """Cosines and sines of every position for the rotary dimensions of a config.

    forward(positions, dtype): (B, T) or (T,) int64 -> cos, sin, each (..., T, d_r/2), d_r the rotary dimensions
    (qk_rope_head_dim for MLA, head_dim for the baselines).
    """

    def __init__(self, config):
        super().__init__()
        dim = config.qk_rope_head_dim if config.attention == "mla" else config.head_dim
        scaling = config.rope_scaling
        with torch.device("cpu"):  # not a buffer: `.bfloat16()` would blur the angles, `to_empty` lose them
            if scaling is None:
                self.frequencies = rope_frequencies(dim, config.rope_theta)
            else:
                self.frequencies = yarn_frequencies(dim, config.rope_theta, scaling)
        self.attention_factor = yarn_factors(scaling)[1]

    def forward(self, positions, dtype=torch.float32):
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        angles = positions.to(wide)[..., None] * self.frequencies.to(positions.device, wide)  # (..., T, d_r/2)
        return (angles.cos() * self.attention_factor).to(dtype), (angles.sin() * self.attention_factor).to(dtype)


def apply_rope(x, cos, sin, interleaved=True):
    """Rotate pairs of dimensions by their position's angle.

    x: (B, T, H, d_r)   cos, sin: (B or 1, T, d_r/2) or (T, d_r/2)   returns (B, T, H, d_r).
    interleaved=True pairs dimensions (0, 1), (2, 3), ... as DeepSeek's attention weights
    expect; False pairs (i, i + d_r/2), the layout of Llama and of V3.2's indexer. Both are the
    same rotation up to a fixed permutation of the dimensions, so a dot product only agrees if
    query and key use the same one.
    """
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)  # (..., T, 1, d_r/2): the same for all heads
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.stack(turned, dim=-1).flatten(-2) if interleaved else torch.cat(turned, dim=-1)
