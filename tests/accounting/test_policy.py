"""The arithmetic of a token's update: by hand, and against autograd through the loss that trains."""

import itertools
import math

import pytest
import torch

from dsmini.accounting import policy
from dsmini.training import grpo

RATIOS = [0.05, 0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 1.27, 1.29, 1.5, 5.0, 8.0]
CASES = list(itertools.product(RATIOS, [-2.0, -1.0, 0.0, 0.5, 2.0], [(0.2, None), (0.2, 0.28), (10.0, None), (0.0, 3)]))


def by_autograd(ratio, advantage, epsilon, high):
    """The objective of one token and its derivative by log pi, from `grpo_loss`."""
    log_prob = torch.full((1, 1), math.log(ratio) - 2, dtype=torch.float64, requires_grad=True)
    old = torch.full((1, 1), -2.0, dtype=torch.float64)
    loss, _ = grpo.grpo_loss(log_prob, old, torch.tensor([advantage]), torch.ones(1, 1, dtype=torch.bool),
                             epsilon=epsilon, epsilon_high=high)  # fmt: skip
    loss.backward()
    return [-loss.item(), -log_prob.grad.item()]


@pytest.mark.parametrize("rule", ["ppo", "none"])
def test_objective_and_gradient_are_those_of_the_loss_that_trains(rule):
    ours, theirs = [], []
    for ratio, advantage, (epsilon, high) in CASES:
        arguments = (ratio, advantage, epsilon, high, rule)
        ours.append([policy.clipped_objective(*arguments), policy.clipped_gradient(*arguments)])
        theirs.append(by_autograd(ratio, advantage, epsilon if rule == "ppo" else None, high))
    torch.testing.assert_close(torch.tensor(ours).double(), torch.tensor(theirs).double(), rtol=1e-6, atol=1e-12)
    cut = sum(gradient == 0 for _, gradient in ours)
    assert cut > 48 if rule == "ppo" else cut == 48  # those with advantage 0


def test_the_inverted_clip_is_wrong_on_both_sides_of_a_bad_token():
    """A = -1, epsilon 0.2: what has fallen enough is pushed on; what has risen is let go."""
    found = {
        (rule, ratio): (policy.clipped_objective(ratio, -1, rule=rule), policy.clipped_gradient(ratio, -1, rule=rule))
        for rule in ("ppo", "inverted")
        for ratio in (0.5, 1.1, 1.5, 5.0)
    }
    assert found == {
        ("ppo", 0.5): (-0.8, 0.0), ("ppo", 1.1): (-1.1, -1.1), ("ppo", 1.5): (-1.5, -1.5), ("ppo", 5.0): (-5.0, -5.0),
        ("inverted", 0.5): (-0.5, -0.5), ("inverted", 1.1): (-1.1, -1.1), ("inverted", 1.5): (-1.2, 0.0),
        ("inverted", 5.0): (-1.2, 0.0),
    }  # fmt: skip
    for ratio in RATIOS:
        assert policy.clipped_objective(ratio, 1, rule="inverted") == policy.clipped_objective(ratio, 1)


def test_r1_s_epsilon_clips_nothing_below_and_little_above():
    assert policy.clipped_gradient(0.001, -1, epsilon=10) == -0.001  # the lower bound is -9
    assert policy.clipped_gradient(10.9, 1, epsilon=10) == 10.9
    assert policy.clipped_gradient(11.1, 1, epsilon=10) == 0


@pytest.mark.parametrize("scale", policy.SCALES)
def test_advantages_are_those_of_the_tensors(scale):
    rewards = torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rewards[3] = 1.0
    ours = policy.group_advantages(rewards.tolist(), scale)
    torch.testing.assert_close(torch.tensor(ours).double(), grpo.group_advantages(rewards, scale), rtol=1e-6, atol=1e-7)
    assert [round(x, 9) for x in ours[3]] == [0] * 7


def test_one_right_answer_of_twelve_counts_three_times_one_of_six():
    one, six = policy.group_advantages([[1] + [0] * 11, [1] * 6 + [0] * 6])
    assert one[0] == pytest.approx(11 / 12 / (math.sqrt(1 / 12) + 1e-4)) and round(one[0], 2) == 3.17
    assert round(six[0], 2) == 0.96 and round(six[-1], 2) == -0.96 and round(one[-1], 2) == -0.29
    for scale in policy.SCALES:
        assert policy.group_advantages([[1] * 12, [0] * 12], scale) == [[0] * 12] * 2


@pytest.mark.parametrize("normalization", policy.NORMALIZATIONS)
def test_weights_are_those_of_the_tensors(normalization):
    lengths = [3, 9, 1, 5, 0]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    theirs = grpo.length_weights(mask, normalization, max_tokens=12)
    for row, n, weight in zip(theirs, lengths, policy.token_weights(lengths, normalization, 12), strict=True):
        torch.testing.assert_close(row[:n], torch.full((n,), weight), check_dtype=False)
    assert (policy.SCALES, policy.NORMALIZATIONS) == (grpo.SCALES, grpo.NORMALIZATIONS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: policy.clipped_objective(1, 1, rule="max"), "rule = 'max': expected one of 'none', 'ppo', 'inverted'"),
        (lambda: policy.group_advantages([[0, 1]], "std"), "scale_rewards = 'std'"),
        (lambda: policy.group_advantages([[0, 1], [1]]), "groups of \\[2, 1\\], expected P groups of the same G >= 2"),
        (lambda: policy.group_advantages([[1], [1]]), "expected P groups of the same G >= 2"),
        (lambda: policy.group_advantages([]), "expected P groups of the same G >= 2"),
        (lambda: policy.token_weights([1], "mean"), "normalization = 'mean'"),
        (lambda: policy.token_weights([1], "constant"), "max_tokens = None: normalization 'constant' needs"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
