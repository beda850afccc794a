"""FP8 as DeepSeek-V3 uses it: E4M3 numbers with one scale per small block, simulated on a CPU with real float8 values.

V3 report, section 3.3; the scales of V3.1 and later are powers of two (UE8M0). Activations have a scale per 1 x 128
tile of a row, weights one per 128 x 128 block, so an outlier spoils only its own block. A stored scale is a
multiplier: value = float8 * scale, although checkpoints call it `weight_scale_inv`.
"""

import torch
from torch import nn
from torch.nn import functional as F

from dsmini.accounting.float8 import E4M3_MAX, SMALLEST_AMAX


def block_scales(amax, power_of_two=True):
    """The multiplier of a block whose largest absolute value is `amax`: amax / 448.

    power_of_two: rounded up to the next one, and not to the nearest: a smaller scale would push
    the largest value above 448. Any shape, float32.
    """
    scale = amax.clamp(min=SMALLEST_AMAX) / E4M3_MAX
    if not power_of_two:
        return scale
    mantissa, exponent = torch.frexp(scale)  # scale = mantissa * 2^exponent, mantissa in [1/2, 1)
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).to(exponent.dtype))


def quantize_tiles(x, tile=128, power_of_two=True):
    """Activations, one scale per `tile` consecutive values of a row. V3 report, section 3.3.2.

    x: (..., D)   returns float8 (..., D), scales (..., ceil(D / tile)) float32.
    """
    padded = F.pad(x.float(), (0, -x.shape[-1] % tile)).unflatten(-1, (-1, tile))  # (..., D/tile, tile)
    scales = block_scales(padded.abs().amax(-1), power_of_two)
    values = (padded / scales[..., None]).to(torch.float8_e4m3fn)
    return values.flatten(-2)[..., : x.shape[-1]].contiguous(), scales


def dequantize_tiles(values, scales, tile=128):
    """float8 (..., D) and its scales as float32 (..., D)."""
    return values.float() * scales.repeat_interleave(tile, dim=-1)[..., : values.shape[-1]]


def quantize_blocks(weight, block=128, power_of_two=True):
    """A weight matrix, one scale per `block` x `block` square. V3 report, section 3.3.2.

    weight: (O, D)   returns float8 (O, D), scales (ceil(O / block), ceil(D / block)) float32.
    """
    rows, columns = weight.shape
    padded = F.pad(weight.float(), (0, -columns % block, 0, -rows % block))
    blocks = padded.unflatten(1, (-1, block)).unflatten(0, (-1, block))  # (O/b, b, D/b, b)
    scales = block_scales(blocks.abs().amax((1, 3)), power_of_two)
    values = (padded / _spread(scales, block)).to(torch.float8_e4m3fn)
    return values[:rows, :columns].contiguous(), scales


def dequantize_blocks(values, scales, block=128):
    """float8 (O, D) and its scales as float32 (O, D): what a loader does with `weight` and `weight_scale_inv`.

    Raises ValueError if the scales are not one per block.
    """
    expected = tuple(-(-size // block) for size in values.shape)
    if tuple(scales.shape) != expected:
        raise ValueError(f"scales: {tuple(scales.shape)}, expected {expected} for a weight of {tuple(values.shape)}")
    rows, columns = values.shape
    return values.float() * _spread(scales.float(), block)[:rows, :columns]


def _spread(scales, block):
    """(O/b, D/b) -> (O, D): every block's scale at each of its values."""
    return scales.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)


class FP8Linear(nn.Module):
    """A linear layer whose weight is kept, and whose input is rounded, in FP8: (..., D) -> (..., O).

    weight: (O, D), rounded once. As on a GPU, the products of 128 values are summed first and
    then scaled and added up in float32 (section 3.3.2, "increasing accumulation precision"); on
    a CPU the products themselves are exact.
    """

    def __init__(self, weight, block=128, power_of_two=True):
        super().__init__()
        values, scales = quantize_blocks(weight, block, power_of_two)
        self.register_buffer("weight", values)
        self.register_buffer("weight_scale_inv", scales)
        self.block, self.power_of_two = block, power_of_two

    def forward(self, x):
        values, scales = quantize_tiles(x, self.block, self.power_of_two)
        output = x.new_zeros(*x.shape[:-1], len(self.weight), dtype=torch.float32)
        for k, columns in enumerate(self.weight.float().split(self.block, dim=1)):
            part = values[..., k * self.block : (k + 1) * self.block].float() @ columns.T  # (..., O)
            of_rows = self.weight_scale_inv[:, k].repeat_interleave(self.block)[: len(self.weight)]
            output += part * scales[..., k, None] * of_rows
        return output.to(x.dtype)


def relative_error(found, exact):
    """Root mean square of the difference over that of the exact values, a float: 0.01 is one percent."""
    found, exact = found.double(), exact.double()
    return ((found - exact).pow(2).mean() / exact.pow(2).mean()).sqrt().item()
