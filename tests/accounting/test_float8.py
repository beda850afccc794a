"""E4M3 in plain Python is torch.float8_e4m3fn, number by number, and the schemes are those of dsmini.model.fp8."""

import math
import random

import pytest
import torch

from dsmini.accounting import float8
from dsmini.model import fp8

NUMBERS = [float8.e4m3_value(bits) for bits in range(127)]  # 0 to 448


def cast(values):
    return torch.tensor(values, dtype=torch.float32).to(torch.float8_e4m3fn)


def grid():
    """All numbers, all ties, their float32 neighbours, and what lies beyond: both signs."""
    ties = [(a + b) / 2 for a, b in zip(NUMBERS, NUMBERS[1:], strict=False)]
    points = torch.tensor([*NUMBERS, *ties], dtype=torch.float32)
    around = [points, *(torch.nextafter(points, torch.tensor(to)) for to in (0.0, math.inf))]
    beyond = torch.tensor([448.1, 463.9, 464.0, 464.1, 480.0, 1e4, 3e38, math.inf, 1e-30, 1e-45])
    positive = torch.cat([*around, beyond])
    return torch.cat([positive, -positive]).tolist()


def test_bit_patterns_are_torch_s():
    bits = torch.arange(256, dtype=torch.uint8)
    theirs = bits.view(torch.float8_e4m3fn).float().tolist()
    ours = [float8.e4m3_value(i) for i in range(256)]
    assert [str(x) for x in ours] == [str(x) for x in theirs]  # as text: nan, and the sign of zero


def test_rounding_is_torch_s():
    values = grid()
    assert len(values) > 1500
    ours = torch.tensor([float8.round_e4m3(x) for x in values])
    theirs = cast(values).float()
    assert torch.equal(ours, theirs)
    assert torch.equal(ours.signbit(), theirs.signbit())
    assert math.isnan(float8.round_e4m3(math.nan))


def test_random_numbers_round_as_torch_s():
    pick = random.Random(0)
    values = [float8.float32(pick.gauss(0, 1) * 2.0 ** pick.uniform(-14, 12)) for _ in range(20_000)]
    assert [float8.round_e4m3(x) for x in values] == cast(values).float().tolist()


@pytest.mark.parametrize("power_of_two", [False, True])
def test_scales_are_the_tensor_code_s(power_of_two):
    pick = random.Random(1)
    amax = [0.0, 1e-5, 1e-4, 448.0, 447.9999, 448.0001, 896.0, 7.0, 0.4375, *(2.0**e for e in range(-10, 20)),
            *(math.exp(pick.uniform(-9, 14)) for _ in range(500))]  # fmt: skip
    amax = torch.tensor(amax, dtype=torch.float32)
    assert [float8.block_scale(x, power_of_two) for x in amax.tolist()] == fp8.block_scales(amax, power_of_two).tolist()


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("outlier", [1, 1000, 2**17, 2**20])
def test_schemes_are_the_tensor_code_s(power_of_two, outlier):
    values = torch.randn(8, 32, generator=torch.Generator().manual_seed(2))
    values[2, 5] *= outlier
    rows = values.tolist()
    tiles, blocks, whole = (float8.quantize(rows, scheme, 8, power_of_two) for scheme in ("tile", "block", "tensor"))
    rounded, scales = fp8.quantize_tiles(values, 8, power_of_two)
    assert torch.equal(torch.tensor(tiles.rounded), rounded.float())
    assert torch.equal(torch.tensor(tiles.scales)[:, ::8], scales)
    assert torch.equal(torch.tensor(tiles.back), fp8.dequantize_tiles(rounded, scales, 8))
    rounded, scales = fp8.quantize_blocks(values, 8, power_of_two)
    assert torch.equal(torch.tensor(blocks.rounded), rounded.float())
    assert torch.equal(torch.tensor(blocks.back), fp8.dequantize_blocks(rounded, scales, 8))
    rounded, scales = fp8.quantize_blocks(values, 32, power_of_two)
    assert torch.equal(torch.tensor(whole.back), fp8.dequantize_blocks(rounded, scales, 32))
    assert all(abs(x) <= 448 for matrix in (tiles, blocks, whole) for row in matrix.rounded for x in row)


def test_one_outlier_costs_the_tensor_more_than_the_tile():
    values = torch.randn(8, 32, generator=torch.Generator().manual_seed(3))
    values[2, 5] = 2.0**17
    rows = values.tolist()
    errors, lost = zip(*(
        (float8.mean_relative_error(back, rows), float8.lost(back, rows))
        for back in (float8.quantize(rows, scheme, 8).back for scheme in float8.SCHEMES)
    ), strict=True)  # fmt: skip
    tensor, tile, block = errors
    assert tile < 0.05 < block < tensor
    assert lost[1] <= lost[2] < lost[0]


def test_errors_are_counted_by_hand():
    assert float8.mean_relative_error([[1.0, 0.0], [0.0, 3.0]], [[1.0, 2.0], [0.0, 4.0]]) == pytest.approx(1.25 / 3)
    assert float8.lost([[1.0, 0.0], [0.0, 3.0]], [[1.0, 2.0], [0.0, 4.0]]) == 1
    assert float8.mean_relative_error([[0.0]], [[0.0]]) == 0


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="scheme = 'row': expected one of tensor, tile, block"):
        float8.quantize([[1.0]], "row", 8)
