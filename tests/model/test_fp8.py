"""FP8 numbers and their scales: what is stored comes back within half a step, an outlier spoils only its own block."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import difference

from dsmini.model.fp8 import (
    E4M3_MAX,
    FP8Linear,
    block_scales,
    dequantize_blocks,
    dequantize_tiles,
    quantize_blocks,
    quantize_tiles,
    relative_error,
)

HALF_STEP = 2**-4  # E4M3 has three bits after the point: a value is off by at most 1/16 of itself


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def within_half_a_step(found, exact, scales):
    """Normal numbers lose at most 1/16 of themselves, the smallest ones at most half of 2^-9 scales."""
    return ((found - exact).abs() <= torch.maximum(exact.abs() * HALF_STEP, scales * 2**-10) * 1.0001).all()


@given(st.integers(1, 4), st.integers(1, 300), st.sampled_from([1, 7, 128]), st.booleans(), st.integers(0, 99))
def test_tiles_come_back_within_half_a_step(rows, width, tile, power_of_two, seed):
    x = random(rows, width, seed=seed) * 10.0 ** torch.randint(-6, 5, (rows, width))
    values, scales = quantize_tiles(x, tile, power_of_two)
    assert values.dtype == torch.float8_e4m3fn and values.shape == x.shape
    assert scales.shape == (rows, math.ceil(width / tile)) and scales.dtype == torch.float32
    spread = scales.repeat_interleave(tile, -1)[:, :width]
    assert within_half_a_step(dequantize_tiles(values, scales, tile), x, spread)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 6, 16]), st.booleans(), st.integers(0, 99))
def test_blocks_come_back_within_half_a_step(rows, columns, block, power_of_two, seed):
    weight = random(rows, columns, seed=seed)
    values, scales = quantize_blocks(weight, block, power_of_two)
    assert scales.shape == (math.ceil(rows / block), math.ceil(columns / block))
    spread = scales.repeat_interleave(block, 0).repeat_interleave(block, 1)[:rows, :columns]
    assert within_half_a_step(dequantize_blocks(values, scales, block), weight, spread)


@given(st.floats(1e-9, 1e30))
def test_scales_use_the_range_and_never_leave_it(amax):
    amax = torch.tensor(amax)
    floored = max(amax.item(), 1e-4)
    exact, rounded = block_scales(amax, power_of_two=False).item(), block_scales(amax).item()
    assert exact == pytest.approx(floored / E4M3_MAX, rel=1e-6)
    assert math.log2(rounded) == int(math.log2(rounded))
    assert exact * (1 - 1e-6) <= rounded < 2 * exact * (1 + 1e-6), "the next power of two, not the nearest"


def test_scale_that_is_a_power_of_two_stays():
    assert block_scales(torch.tensor([448.0, 224.0, 896.0])).tolist() == [1.0, 0.5, 2.0]
    assert block_scales(torch.tensor([448.1])).item() == 2.0


def test_largest_value_of_a_tile_is_kept():
    x = torch.tensor([[3.0, -7.0, 0.5, 0.0]])
    values, scales = quantize_tiles(x, 4, power_of_two=False)
    assert values.float()[0, 1] == -448 and dequantize_tiles(values, scales, 4)[0, 1].item() == pytest.approx(-7)


def test_zeros_stay_zeros_and_nothing_is_nan():
    values, scales = quantize_tiles(torch.zeros(2, 256))
    assert not values.float().any() and (scales > 0).all()
    values, scales = quantize_blocks(torch.zeros(130, 5))
    assert not dequantize_blocks(values, scales).any()


def test_outlier_spoils_its_tile_and_no_other():
    x = random(1, 512)
    x[0, 5] = 1e5
    of_tiles = dequantize_tiles(*quantize_tiles(x))
    of_tensor = dequantize_tiles(*quantize_tiles(x, 512), 512)
    assert relative_error(of_tiles[:, 128:], x[:, 128:]) < 0.04
    assert relative_error(of_tensor[:, 128:], x[:, 128:]) > 0.1


def test_linear_is_the_product_of_what_was_stored():
    weight, x = random(200, 300), random(2, 5, 300, seed=1)
    layer = FP8Linear(weight)
    stored_x = dequantize_tiles(*quantize_tiles(x))
    stored_weight = dequantize_blocks(layer.weight, layer.weight_scale_inv)
    assert relative_error(layer(x), stored_x @ stored_weight.T) < 1e-6
    assert 0.01 < relative_error(layer(x), x @ weight.T) < 0.05


def test_linear_answers_in_its_inputs_precision_and_stores_a_byte_a_weight():
    layer = FP8Linear(random(8, 16))
    assert layer(random(3, 16).bfloat16()).dtype == torch.bfloat16
    assert layer.weight.nbytes == 8 * 16 and layer.weight_scale_inv.shape == (1, 1)


def test_stored_values_hold_no_padding():
    weight = torch.randn(130, 70)
    for values, _ in (quantize_blocks(weight), quantize_tiles(weight)):
        assert values.is_contiguous() and values.untyped_storage().nbytes() == weight.numel()


def test_scales_of_another_weight_are_refused():
    values, scales = quantize_blocks(random(200, 300))
    with pytest.raises(ValueError, match=r"scales: \(3, 2\), expected \(2, 3\) for a weight of \(200, 300\)"):
        dequantize_blocks(values, scales.T)


def test_relative_error_is_root_mean_square_over_root_mean_square():
    exact = torch.tensor([3.0, 4.0])
    assert relative_error(exact + torch.tensor([0.3, 0.4]), exact) == pytest.approx(0.1)
    assert difference(torch.tensor(relative_error(exact, exact)), torch.tensor(0.0)) == 0
