"""The objective against TRL's own `GRPOTrainer._compute_loss`, in value and in gradient, and mistakes that break it.

The trainer is not built: its methods are called with a stand-in for `self`, so there is no model and nothing random in
between. Log-probabilities, masks and rewards go in, float64; loss and gradient come out.
"""

import itertools
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from planted import planted
from tiny import difference
from trl import GRPOTrainer
from trl_objective import loss_and_gradient, stand_in

from dsmini.training import grpo

LIMIT = 9  # max_completion_length: longer than any row below
NORMALIZATIONS = {"grpo": "sequence", "bnpo": "tokens", "dapo": "tokens", "dr_grpo": "constant"}
ESTIMATORS = {"k3": False, "ratio*k3": True}  # ours: their use_bias_correction_kl
DIVERGENCES = ((0.0, "k3"), (0.04, "k3"), (0.04, "ratio*k3"))  # beta and its estimator
GRID = list(itertools.product(NORMALIZATIONS, ("token", "sequence"), (None, 0.28), DIVERGENCES))
MASKS = {
    "ragged": [8, 3, 1, 5, 7, 2],
    "all full": [8, 8, 8, 8, 8, 8],
    "one row counts nothing": [8, 3, 0, 5, 7, 2],
}


def make_batch(lengths=(8, 3, 1, 5, 7, 2), seed=0):
    """Six answers of up to eight tokens under three policies that have little to do with one another."""
    random = torch.Generator().manual_seed(seed)
    new, old, ref = -2 * torch.rand(3, len(lengths), 8, generator=random, dtype=torch.float64)
    advantages = torch.tensor([1.3, -0.7, 0.4, -1.6, 0.0, 0.9], dtype=torch.float64)
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    return SimpleNamespace(new=new, old=old, ref=ref, advantages=advantages, mask=mask)


def their_loss(batch, loss_type, level, epsilon_high, beta, kl):
    """(loss, gradient with respect to the new log-probabilities) of TRL."""
    inputs = {"log_probs": batch.new, "old": batch.old, "ref": batch.ref, "advantages": batch.advantages,
              "mask": batch.mask}  # fmt: skip
    high = 0.2 if epsilon_high is None else epsilon_high
    return loss_and_gradient(inputs, loss_type, level, high, beta, ESTIMATORS[kl], LIMIT)


def our_loss(batch, loss_type, level, epsilon_high, beta, kl, module=grpo, pieces=1):
    """The same of this package; `pieces`: row by row groups, each with its share of the whole batch's weights."""
    new = batch.new.clone().requires_grad_()
    normalization = NORMALIZATIONS[loss_type]
    weights = module.length_weights(batch.mask, normalization, LIMIT)
    loss = torch.zeros((), dtype=torch.float64)
    for rows in torch.arange(len(new)).chunk(pieces):
        loss = loss + module.grpo_loss(
            new[rows], batch.old[rows], batch.advantages[rows], batch.mask[rows], epsilon_high=epsilon_high,
            importance_sampling_level=level, normalization=normalization, max_tokens=LIMIT, beta=beta, kl=kl,
            ref_log_probs=batch.ref[rows] if beta else None, weights=weights[rows] if pieces > 1 else None,
        )[0]  # fmt: skip
    return loss.detach(), torch.autograd.grad(loss, new)[0]


def distance(ours, theirs):
    """The larger of the differences in value and in gradient."""
    return max(difference(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("lengths", MASKS)
def test_loss_and_gradient_equal_theirs_with_every_option(lengths):
    for seed, options in enumerate(GRID):
        batch = make_batch(MASKS[lengths], seed)
        *named, divergence = options
        theirs = their_loss(batch, *named, *divergence)
        assert theirs[1].abs().max() > 1e-3
        assert distance(our_loss(batch, *named, *divergence), theirs) <= 1e-12, options


def test_batch_in_pieces_has_the_loss_and_gradient_of_the_whole():
    for seed, options in enumerate(GRID):
        batch = make_batch(MASKS["one row counts nothing"], seed)
        *named, divergence = options
        theirs = their_loss(batch, *named, *divergence)
        for pieces in (2, 6):
            assert distance(our_loss(batch, *named, *divergence, pieces=pieces), theirs) <= 1e-12, options


def test_advantages_may_differ_from_token_to_token():
    for options in GRID:
        batch = make_batch(seed=1)
        batch.advantages = batch.advantages[:, None] + batch.ref
        *named, divergence = options
        theirs = their_loss(batch, *named, *divergence)
        assert distance(our_loss(batch, *named, *divergence), theirs) <= 1e-12, options


def test_batches_are_far_off_policy_on_both_sides_of_both_signs():
    batch = make_batch()
    ratio, advantages = (batch.new - batch.old).exp(), batch.advantages[:, None]
    for far in (ratio < 0.5, ratio > 2):
        for sign in (advantages < 0, advantages > 0):
            assert (far & sign & batch.mask).any()


# ---- advantages -----------------------------------------------------------------------------------------------------

REWARDS = {
    "graded": [[0.0, 1.0, 0.5, 0.25], [2.0, -1.0, 0.0, 0.0], [0.3, 0.1, 0.9, 0.7]],
    "right or wrong": [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]],
    "a group of equals": [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
    "all equal": [[1.0] * 4] * 3,
}


def their_advantages(rewards, scale_rewards):
    """Advantages as TRL's `_generate_and_score_completions` hands them to the loss, with the generation left out."""
    size = rewards.numel()
    said = ([[1]] * size, [[2, 3]] * size, None, ["text"] * size, None, {}, None, None)
    trainer = stand_in(
        max_completion_length=LIMIT,
        environment_factories=None, environments=None, tools=None, _generate=lambda prompts: said,
        _tokenizer=SimpleNamespace(pad_token_id=0), pad_to_multiple_of=None, mask_truncated_completions=False,
        num_iterations=1, beta=0.0, _calculate_rewards=lambda *_: rewards.view(-1, 1), reward_func_names=["reward"],
        num_generations=rewards.shape[1], reward_weights=torch.ones(1, dtype=rewards.dtype),
        multi_objective_aggregation="sum_then_normalize", scale_rewards=scale_rewards,
        _logs=defaultdict(list, rewards=defaultdict(list)), _pending_extra_logs={}, _pending_metrics={},
    )  # fmt: skip
    default = torch.get_default_dtype()
    torch.set_default_dtype(rewards.dtype)  # their n / (n - 1) is a division of whole numbers
    try:
        output = GRPOTrainer._generate_and_score_completions(trainer, [{"prompt": "question"}] * size)
    finally:
        torch.set_default_dtype(default)
    return output["advantages"].view_as(rewards)


@pytest.mark.parametrize("scale_rewards", grpo.SCALES)
@pytest.mark.parametrize("case", REWARDS)
def test_advantages_equal_theirs(case, scale_rewards):
    rewards = torch.tensor(REWARDS[case], dtype=torch.float64)
    theirs = their_advantages(rewards, scale_rewards)
    assert difference(grpo.group_advantages(rewards, scale_rewards), theirs) <= 1e-12


# ---- mistakes -------------------------------------------------------------------------------------------------------


TOKEN, SEQUENCE = ("grpo", "token", 0.28, 0.04), ("grpo", "sequence", 0.28, 0.04)
CLIPPED = "torch.minimum(free, ratio.clamp(1 - epsilon, 1 + high) * advantages)"
MASKED_RATIO = "(log_probs - old_log_probs.detach()).masked_fill(~mask, 0)"
GEOMETRIC = "log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)"
K3 = "torch.expm1(-k1) + k1"
# mistake: (options, estimator, what is right, what is written instead)
MISTAKES = {
    "the clip is turned round for answers worse than the mean": (
        TOKEN, "k3", CLIPPED,
        "(lambda a, b: torch.where(advantages >= 0, torch.minimum(a, b), torch.maximum(a, b)))"
        f"(free, {CLIPPED.removeprefix('torch.minimum(free, ')}"),
    "no minimum, the clipped ratio alone": (TOKEN, "k3", CLIPPED, CLIPPED.removeprefix("torch.minimum(free, ")[:-1]),
    "no clip": (TOKEN, "k3", CLIPPED, "free"),
    "epsilon in place of epsilon_high": (TOKEN, "k3", "1 + high", "1 + epsilon"),
    "epsilon_high on both sides": (TOKEN, "k3", "1 - epsilon", "1 - high"),
    "the mean goes over padding too": (
        TOKEN, "k3", "tokens = mask.sum(1, keepdim=True).clamp(min=1) * len(mask)", "tokens = mask.numel()"),
    "a sequence counts by its tokens": (TOKEN, "k3", "tokens = mask.sum(1, keepdim=True)", "tokens = mask.sum()"),
    "the sum of a batch is not divided by its rows": (TOKEN, "k3", " * len(mask)\n    elif", "\n    elif"),
    "k1 in place of k3": (TOKEN, "k3", K3, "k1"),
    "k2 in place of k3": (TOKEN, "k3", K3, "k1**2 / 2"),
    "k3 of the other direction": (TOKEN, "k3", K3, "torch.expm1(k1) - k1"),
    "the divergence is a reward": (TOKEN, "k3", "objective - beta", "objective + beta"),
    "the divergence lacks its ratio": (TOKEN, "ratio*k3", 'if kl == "ratio*k3"', "if False"),
    "the divergence has a ratio it should not have": (TOKEN, "k3", 'if kl == "ratio*k3"', "if True"),
    "the divergence's ratio has no gradient": (TOKEN, "ratio*k3", "ratio * divergence", "ratio.detach() * divergence"),
    "the ratio of a sequence is the product of its tokens'": (
        SEQUENCE, "k3", GEOMETRIC, "log_ratio.sum(1, keepdim=True)"),
    "padding goes into a sequence's ratio": (SEQUENCE, "k3", MASKED_RATIO, "(log_probs - old_log_probs.detach())"),
    "a sequence's ratio is a mean over padding too": (SEQUENCE, "k3", GEOMETRIC, "log_ratio.mean(1, keepdim=True)"),
    "old and new change places": (TOKEN, "k3", MASKED_RATIO, "(old_log_probs - log_probs).masked_fill(~mask, 0)"),
    "dr_grpo divides by the longest row": (
        ("dr_grpo", "token", None, 0.0), "k3", "max_tokens * len(mask)", "mask.sum(1).max() * len(mask)"),
    "dapo divides by padded tokens": (
        ("dapo", "token", None, 0.0), "k3", "tokens = mask.sum().clamp(min=1)", "tokens = mask.numel()"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_breaks_parity(mistake):
    options, kl, right, wrong = MISTAKES[mistake]
    batch = make_batch()
    theirs = their_loss(batch, *options, kl)
    assert distance(our_loss(batch, *options, kl), theirs) <= 1e-12
    assert distance(our_loss(batch, *options, kl, planted(grpo, right, wrong)), theirs) > 1e-3


MISTAKEN_ADVANTAGES = {
    "no deviation": (" / (rewards.std(1, keepdim=True) + 1e-4)", ""),
    "the biased deviation": ("rewards.std(1, keepdim=True)", "rewards.std(1, correction=0, keepdim=True)"),
    "the deviation of all": ("rewards.std(1, keepdim=True)", "rewards.std()"),
    "the mean of all": ("rewards.mean(1, keepdim=True)", "rewards.mean()"),
    "no mean": ("rewards - rewards.mean(1, keepdim=True)", "rewards"),
    "the other axis": ("rewards.mean(1, keepdim=True)", "rewards.mean(0, keepdim=True)"),
}


@pytest.mark.parametrize("mistake", MISTAKEN_ADVANTAGES)
def test_planted_mistake_breaks_the_advantages(mistake):
    rewards = torch.tensor(REWARDS["graded"], dtype=torch.float64)
    theirs = their_advantages(rewards, "group")
    assert difference(planted(grpo, *MISTAKEN_ADVANTAGES[mistake]).group_advantages(rewards), theirs) > 1e-3


def test_without_the_small_number_a_group_of_equals_is_not_a_number():
    rewards = torch.tensor(REWARDS["a group of equals"], dtype=torch.float64)
    broken = planted(grpo, "(rewards.std(1, keepdim=True) + 1e-4)", "rewards.std(1, keepdim=True)")
    assert broken.group_advantages(rewards)[0].isnan().all()
