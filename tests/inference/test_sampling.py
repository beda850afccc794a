"""Sampling: which tokens stay, what they weigh, and which one is drawn."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsmini.inference.sampling import draw, probabilities, sample, uniforms

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05], dtype=torch.float64).log()


def assert_probabilities(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=1e-12, rtol=0)


def test_temperature_one_is_softmax_and_others_are_powers_of_it():
    probs = LOGITS.exp()
    for temperature in (1.0, 0.5, 2.0):
        powers = probs ** (1 / temperature)
        assert_probabilities(probabilities(LOGITS, temperature), (powers / powers.sum()).tolist())


def test_temperature_zero_is_the_first_of_the_largest():
    assert probabilities(torch.tensor([[1.0, 3.0, 3.0], [5.0, 0.0, 5.0]]), 0).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_small_temperature_does_not_overflow():
    assert probabilities(torch.tensor([1e30, 0.0, 1e30]), 1e-30).tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 50])
def test_top_k_keeps_the_k_best_in_proportion(k):
    kept = LOGITS.exp()[:k].tolist()
    expected = [p / sum(kept) for p in kept] + [0.0] * (5 - len(kept))
    assert_probabilities(probabilities(LOGITS, top_k=k), expected)
    assert_probabilities(probabilities(LOGITS.flip(0), top_k=k), expected[::-1])


@pytest.mark.parametrize(("top_p", "count"), [(1e-9, 1), (0.49, 1), (0.51, 2), (0.69, 2), (0.71, 3), (0.96, 5), (1, 5)])
def test_top_p_keeps_the_fewest_that_hold_that_much(top_p, count):
    kept = LOGITS.exp()[:count].tolist()
    assert_probabilities(probabilities(LOGITS, top_p=top_p), [p / sum(kept) for p in kept] + [0.0] * (5 - count))


def test_exactly_reached_mass_is_enough():
    logits = torch.tensor([0.5, 0.25, 0.25]).log()
    assert probabilities(logits, top_p=0.5).tolist() == [1, 0, 0]
    assert probabilities(logits, top_p=0.75)[2] == 0


def test_ties_go_to_the_lower_token():
    equal = torch.zeros(2, 50)
    assert probabilities(equal, top_k=3).nonzero()[:, 1].tolist() == [0, 1, 2] * 2
    assert probabilities(equal, top_p=0.09).nonzero()[:, 1].tolist() == [0, 1, 2, 3, 4] * 2


def test_top_p_counts_what_top_k_left():
    assert_probabilities(probabilities(LOGITS, top_k=2, top_p=0.7), [1.0, 0, 0, 0, 0])  # 0.5 of 0.7 is 0.714
    assert_probabilities(probabilities(LOGITS, top_k=3, top_p=0.7), [5 / 7, 2 / 7, 0, 0, 0])


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=9), st.floats(0, 5), st.none() | st.integers(1, 9),
       st.floats(0, 1, exclude_min=True))  # fmt: skip
def test_any_setting_gives_a_distribution_with_the_best_token_in_it(logits, temperature, top_k, top_p):
    logits = torch.tensor(logits, dtype=torch.float64)
    probs = probabilities(logits, temperature, top_k, top_p)
    assert (probs >= 0).all() and probs.sum().item() == pytest.approx(1, abs=1e-12)
    assert probs[logits.argmax()] == probs.max() > 0
    assert top_k is None or (probs > 0).sum() <= top_k


def test_half_precision_is_widened_and_double_kept():
    assert probabilities(LOGITS.bfloat16()).dtype == torch.float32
    assert probabilities(LOGITS).dtype == torch.float64


def test_masked_tokens_have_no_probability():
    logits = torch.tensor([0.0, -math.inf, 0.0])
    for settings in ({}, {"temperature": 0.1}, {"top_k": 2}, {"top_p": 0.9}):
        assert probabilities(logits, **settings).tolist() == [0.5, 0, 0.5]


def test_draw_inverts_the_cumulative_distribution():
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0]).expand(5, -1)  # of 4: token 1 below 0.25, else token 3
    uniform = torch.tensor([0.0, 0.249, 0.25, 0.9, 1 - 2**-53], dtype=torch.float64)
    assert draw(weights, uniform).tolist() == [1, 1, 3, 3, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_token_without_weight_is_never_drawn(dtype):
    weights = torch.rand(2000, 7, dtype=dtype, generator=torch.Generator().manual_seed(0)) ** 20
    weights[:, [0, 3, 6]] = 0
    for uniform in (0.0, 0.5, 1 - 2**-53):
        token = draw(weights, torch.full((2000,), uniform, dtype=torch.float64))
        assert (weights.gather(1, token[:, None]) > 0).all()


def test_rare_tokens_are_not_lost_to_rounding():
    weights = torch.tensor([1.0] + [1e-9] * 1000)  # each too small to change a float32 sum of 1
    uniform = torch.tensor([0.5, 1 - 5.005e-7, 1 - 2**-53], dtype=torch.float64)
    assert draw(weights.expand(3, -1), uniform).tolist() == [0, 500, 1000]


def test_sampled_shares_are_the_probabilities():
    probs = probabilities(LOGITS.float())
    counts = sample(probs.expand(40_000, -1), torch.Generator().manual_seed(0)).bincount(minlength=5)
    standard = (40_000 * probs * (1 - probs)).sqrt()
    assert ((counts - 40_000 * probs).abs() / standard).max() < 4


def test_a_seed_repeats_and_other_rows_do_not_matter():
    probs = probabilities(torch.randn(50, 9, generator=torch.Generator().manual_seed(1)))
    first = sample(probs, torch.Generator().manual_seed(5))
    assert torch.equal(first, sample(probs, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, sample(probs, torch.Generator().manual_seed(6)))
    edited = torch.cat((probs[:20], probs[20:].flip(1)))
    assert torch.equal(first[:20], sample(edited, torch.Generator().manual_seed(5))[:20])


@pytest.mark.parametrize("shape", [(3,), (7, 5), (100, 33)])
def test_first_rows_of_random_numbers_do_not_depend_on_how_many_follow(shape):
    few = uniforms(shape, torch.Generator().manual_seed(2))
    many = uniforms((2 * shape[0], *shape[1:]), torch.Generator().manual_seed(2))
    assert torch.equal(few, many[: shape[0]]) and few.dtype == torch.float64 and few.unique().numel() == few.numel()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"temperature = -0.1: expected a number of 0 \(greedy\) or more"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"temperature": math.inf}, "temperature = inf"),
        ({"top_k": 0}, "top_k = 0: expected a whole number of 1 or more, or None"),
        ({"top_k": 1.5}, "top_k = 1.5"),
        ({"top_p": 0}, "top_p = 0: expected more than 0 and at most 1"),
        ({"top_p": 1.01}, "top_p = 1.01"),
        ({"top_p": math.nan}, "top_p = nan"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        probabilities(LOGITS, **settings)


@pytest.mark.parametrize("bad", [[0.0, math.nan], [math.inf, 0.0], [-math.inf, -math.inf]])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_without_a_best_are_refused(bad, temperature):
    with pytest.raises(ValueError, match="logits: found NaN"):
        probabilities(torch.tensor([[0.0, 1.0], bad]), temperature)
