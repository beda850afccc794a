"""E4M3 numbers and block scales in plain Python: what an FP8 tensor holds, one number at a time.

The same arithmetic as `torch.float8_e4m3fn` and `dsmini.model.fp8` on tensors, for the tile widget and its page; a test
holds them equal. E4M3: 4 bits of exponent, 3 of mantissa, no infinity, at most 448; Micikevicius et al. 2022. Values
and scales are rounded to float32 wherever the tensor code holds a float32, so that the last digit agrees too.
"""

import math
import struct
from typing import NamedTuple

E4M3_MAX = 448.0
SMALLEST_AMAX = 1e-4  # DeepSeek's kernels floor a group's largest value here: a group of zeros would be 0 / 0
SCHEMES = ("tensor", "tile", "block")

_SMALLEST_STEP = 2.0**-9  # between numbers below 2^-5


class Quantized(NamedTuple):
    """A matrix in FP8. scales, scaled, rounded, back: lists of rows; for each number its group's scale, the number over
    that scale, the nearest E4M3 number, and that times the scale."""

    scales: list
    scaled: list
    rounded: list
    back: list


def round_e4m3(x):
    """The nearest E4M3 number, of two equally near the one with an even mantissa; beyond 448, 448. nan stays nan."""
    if math.isnan(x):
        return x
    size, step = min(abs(x), E4M3_MAX), _SMALLEST_STEP
    while size >= 16 * step:  # each doubling holds 8 numbers, evenly spaced
        step *= 2
    return math.copysign(round(size / step) * step, x)  # round() goes to the even neighbour in a tie


def e4m3_value(bits):
    """The number with these 8 bits: sign, 4 of exponent, 3 of mantissa. nan for 127 and 255."""
    exponent, mantissa = bits >> 3 & 15, bits & 7
    if exponent == 15 and mantissa == 7:
        return math.nan
    size = (8 + mantissa if exponent else mantissa) * _SMALLEST_STEP * 2.0 ** max(exponent - 1, 0)
    return -size if bits & 128 else size


def float32(x):
    """The nearest float32."""
    return struct.unpack("f", struct.pack("f", x))[0]


def block_scale(amax, power_of_two=False):
    """The multiplier of a group whose largest absolute value is `amax`: amax / 448, or the next power of two above it.

    DeepSeek-V3 report, section 3.3.2; powers of two (UE8M0) since V3.1.
    """
    scale = float32(float32(max(amax, float32(SMALLEST_AMAX))) / E4M3_MAX)
    if not power_of_two:
        return scale
    power = 1.0
    while power < scale:
        power *= 2
    while power / 2 >= scale:
        power /= 2
    return power


def quantize(values, scheme, tile, power_of_two=False):
    """A matrix in FP8 and back: values is a list of rows of float32 numbers; returns a `Quantized`.

    scheme: one scale for the whole "tensor", for each 1 x `tile` "tile" (V3's activations) or for each `tile` x `tile`
    "block" (V3's weights). Raises ValueError for another.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme = {scheme!r}: expected one of {', '.join(SCHEMES)}")
    amax = {}
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            group = group_of(i, j, scheme, tile)
            amax[group] = max(amax.get(group, 0.0), abs(value))
    scale = {group: block_scale(largest, power_of_two) for group, largest in amax.items()}
    scales = [[scale[group_of(i, j, scheme, tile)] for j in range(len(row))] for i, row in enumerate(values)]
    scaled = _each(lambda x, s: float32(x / s), values, scales)
    rounded = [[round_e4m3(x) for x in row] for row in scaled]
    return Quantized(scales, scaled, rounded, _each(lambda x, s: float32(x * s), rounded, scales))


def group_of(row, column, scheme, tile):
    """Which group, (row, column) of groups, a number shares its scale with."""
    return {"tensor": (0, 0), "tile": (row, column // tile), "block": (row // tile, column // tile)}[scheme]


def mean_relative_error(back, values):
    """The mean of |error| / |value| over all values but zeros: 0.02 is two percent; 0 where all are zero.

    Not the root mean square over the tensor, in which one huge value hides what happens to the small ones.
    """
    errors = [abs(b - v) / abs(v) for b_row, v_row in zip(back, values, strict=True)
              for b, v in zip(b_row, v_row, strict=True) if v]  # fmt: skip
    return sum(errors) / max(1, len(errors))


def lost(back, values):
    """How many values became zero."""
    pairs = (pair for rows in zip(back, values, strict=True) for pair in zip(*rows, strict=True))
    return sum(b == 0 != v for b, v in pairs)


def _each(f, one, other):
    return [[f(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]
