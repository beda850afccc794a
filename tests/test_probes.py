"""The reader's instruments measure what they say, on good and on broken toys."""

import pytest
import torch
from tiny import CONFIGS, make_model, make_tokens
from torch import nn

from dsmini.accounting import kv_elements
from dsmini.probes import cache_meter, gradient_census, leak_probe


def running_sum(x):
    return x.cumsum(1)


def sum_with_next(x):
    return x + x.roll(-1, dims=1)


def test_leak_probe_is_exactly_zero_for_a_causal_function():
    assert leak_probe(running_sum, torch.randn(2, 9, 4)) == 0.0


def test_leak_probe_sees_one_token_of_the_future():
    x = torch.arange(8.0).view(1, 8, 1)
    assert leak_probe(sum_with_next, x) == 3.0  # at position 4 stands 7 instead of 4


@pytest.mark.parametrize("position", [1, 3, 6])
def test_leak_probe_edits_from_the_given_position_on(position):
    x = torch.arange(8.0).view(1, 8)
    assert leak_probe(sum_with_next, x, position) == 7 - position


@pytest.mark.parametrize("position", [-1, 0, 8, 20])
def test_leak_probe_needs_a_past_and_a_future(position):
    with pytest.raises(ValueError, match=f"position = {position}: expected 1 to 7"):
        leak_probe(running_sum, torch.randn(1, 8), position)


@pytest.mark.parametrize(("inputs", "position"), [(torch.ones(1, 8), 4), (torch.arange(8.0)[None], 7)])
def test_leak_probe_refuses_a_future_that_reads_the_same_backwards(inputs, position):
    with pytest.raises(ValueError, match="inputs: .*prove nothing"):
        leak_probe(running_sum, inputs, position)


def test_leak_probe_reports_a_function_that_is_not_a_number():
    assert leak_probe(lambda x: x * float("nan"), torch.randn(1, 8)) != 0.0


def test_gradient_census_sorts_parameters_by_their_gradient():
    module = nn.ModuleDict({name: nn.Linear(3, 3, bias=False) for name in ("used", "muted", "forgotten")})
    (module["used"](torch.ones(1, 3)) + 0 * module["muted"](torch.ones(1, 3))).sum().backward()
    census = gradient_census(module)
    assert (census.learning, census.zero, census.none) == (("used.weight",), ("muted.weight",), ("forgotten.weight",))
    assert not census.all_learn
    assert str(census).splitlines() == [
        "1 parameters learn",
        "gradient is all zeros: muted.weight",
        "no gradient at all:    forgotten.weight",
    ]


def test_gradient_census_of_a_module_that_learns():
    module = nn.Linear(3, 3)
    module(torch.ones(1, 3)).sum().backward()
    assert gradient_census(module).all_learn


def test_cache_meter_counts_storage_once_and_floats_only():
    values = torch.zeros(2, 6, 10)  # 12 tokens, 10 values each
    lengths = torch.zeros(2, dtype=torch.int64)
    assert cache_meter([values, values[:, :3], values.transpose(0, 1), lengths], tokens=12) == 10.0


def test_cache_meter_sees_what_a_view_keeps_alive():
    assert cache_meter({"latent": torch.zeros(12, 40)[:, :10]}, tokens=12) == 40.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_cache_meter_counts_values_not_bytes(dtype):
    assert cache_meter((torch.zeros(12, 7, dtype=dtype),), tokens=12) == 7.0


def test_cache_meter_walks_through_objects_and_circles():
    class Box:
        pass

    inner, outer = Box(), Box()
    inner.key, inner.owner = torch.zeros(4, 5), outer
    outer.boxes, outer.also = [inner], {"value": torch.zeros(4, 3)}
    assert cache_meter(outer, tokens=4) == 8.0


@pytest.mark.parametrize("name", CONFIGS)
def test_cache_meter_agrees_with_the_arithmetic(name):
    config = CONFIGS[name]
    model = make_model(config, dtype=torch.float32)
    cache = model.new_cache(batch_size=2, max_tokens=8)
    with torch.no_grad():
        model(make_tokens(config, 2, 5), cache)
    assert cache_meter(cache, tokens=2 * 8) == config.num_hidden_layers * kv_elements(config)
