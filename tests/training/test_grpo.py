"""The objective alone, against exact expectations: a policy so small that all it can say is listed.

The policy of `all_it_can_say` has three tokens and at most two positions; token 0 ends the answer. Its seven answers
and their probabilities give every expectation as a sum, so that what theory says of a gradient holds to 1e-12.
"""

import itertools
import math

import pytest
import torch
from tiny import difference

from dsmini.training.grpo import (
    estimate_kl,
    group_advantages,
    grpo_loss,
    length_weights,
    response_log_probs,
)

ANSWERS = [(0,), *itertools.product((1, 2), (0, 1, 2))]  # seven
TOKENS = torch.tensor([answer if len(answer) == 2 else (*answer, 0) for answer in ANSWERS])  # (7, 2)
MASK = torch.tensor([[True, len(answer) == 2] for answer in ANSWERS])
REWARDS = torch.tensor([0.1, 1.0, 0.0, 0.3, -0.5, 0.7, 2.0], dtype=torch.float64)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def new_policy(seed):
    """Logits of the first token, and of the second after each first: (4, 3)."""
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def all_it_can_say(policy):
    """The log-probability of every token of every answer, (7, 2), and of every answer, (7,)."""
    rows = torch.stack((torch.zeros(7, dtype=torch.int64), 1 + TOKENS[:, 0]), dim=1)  # which logits count
    log_probs = policy.log_softmax(-1)[rows, TOKENS]
    return log_probs, log_probs.masked_fill(~MASK, 0).sum(1)


def gradient(value, policy):
    return torch.autograd.grad(value, policy)[0]


def expected_gradient(policy, group_size, scale_rewards="none", normalization="constant", rewards=REWARDS, **options):
    """The gradient of -loss, on average over every group of answers that the policy may give: (4, 3).

    A sum of tokens, with max_tokens = 1, where nothing else is asked for.
    """
    log_probs, whole = all_it_can_say(policy)
    groups = torch.tensor(list(itertools.product(range(7), repeat=group_size)))  # (7^G, G)
    chance = whole.detach()[groups].sum(1).exp()  # (7^G,)
    advantages = group_advantages(rewards[groups], scale_rewards)
    rows = groups.flatten()
    per_group = [length_weights(MASK[group], normalization, 1) for group in groups]
    weights = torch.cat(per_group) * chance.repeat_interleave(group_size)[:, None]
    loss, _ = grpo_loss(
        log_probs[rows], log_probs[rows].detach(), advantages.flatten(), MASK[rows], weights=weights, **options
    )
    return gradient(-loss, policy)


# ---- what the gradient is on average --------------------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [2, 3, 4])
def test_mean_that_includes_the_answer_itself_leaves_g_minus_one_gths_of_the_gradient(group_size):
    policy = new_policy(0)
    truth = gradient((all_it_can_say(policy)[1].exp() * REWARDS).sum(), policy)
    share = (group_size - 1) / group_size
    assert truth.abs().max() > 0.04
    assert difference(expected_gradient(policy, group_size), share * truth) < 1e-14
    assert difference(expected_gradient(policy, group_size), truth) > 0.01


def test_baseline_moves_no_expectation():
    policy = new_policy(0)
    shifted = expected_gradient(policy, 3, rewards=REWARDS + 5)
    assert difference(shifted, expected_gradient(policy, 3)) < 1e-13


def cosine(a, b):
    return torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


@pytest.mark.parametrize("normalization", ["sequence", "tokens"])
def test_length_in_the_denominator_turns_the_gradient(normalization):
    policy = new_policy(0)
    truth = gradient((all_it_can_say(policy)[1].exp() * REWARDS).sum(), policy)
    assert cosine(expected_gradient(policy, 3), truth) > 1 - 1e-12
    assert cosine(expected_gradient(policy, 3, normalization=normalization), truth) < 1 - 1e-4


def test_deviation_takes_the_scale_out_of_rewards():
    policy = new_policy(0)
    scaled = {scale: expected_gradient(policy, 3, scale, rewards=100 * REWARDS) for scale in ("group", "none")}
    assert difference(scaled["none"], 100 * expected_gradient(policy, 3)) < 1e-12
    assert difference(scaled["group"], expected_gradient(policy, 3, "group")) < 1e-3


def test_unclipped_ratio_corrects_one_token_answers_of_another_policy_exactly():
    """Answers of one position: the old policy's samples, weighed by pi / pi_old, give the new one's gradient."""
    policy, old = new_policy(0), new_policy(1).detach()
    rewards = tensor(0.3, -1.0, 2.0)
    new_log, old_log = (p[0].log_softmax(-1)[:, None] for p in (policy, old))
    mask = torch.ones(3, 1, dtype=torch.bool)
    weights = old_log.exp()
    loss, _ = grpo_loss(new_log, old_log, rewards, mask, epsilon=None, weights=weights)
    truth = gradient((policy[0].softmax(-1) * rewards).sum(), policy)
    assert difference(gradient(-loss, policy), truth) < 1e-14
    clipped, _ = grpo_loss(policy[0].log_softmax(-1)[:, None], old_log, rewards, mask, weights=weights)
    assert difference(gradient(-clipped, policy), truth) > 0.01  # the clip buys calm with bias


# ---- divergences ----------------------------------------------------------------------------------------------------


def exact_kl(first, second, prefixes):
    """KL between two policies' next-token distributions, each prefix as often as `prefixes` (4,) says."""
    a, b = first.log_softmax(-1), second.log_softmax(-1)
    return (prefixes * (a.exp() * (a - b)).sum(-1)).sum()


def visits(policy):
    """How often an answer comes to each row of logits: always to the first, to the second unless token 0 ended it."""
    first = policy[0].softmax(-1).detach()
    return torch.stack((torch.ones_like(first[0]), 0 * first[0], first[1], first[2]))


def expected_kl(policy, reference, kl, old=None):
    """The divergence as `grpo_loss` adds it, on average over the answers of `old` (None: of the policy itself)."""
    log_probs, whole = all_it_can_say(policy)
    old_log_probs, old_whole = (log_probs, whole) if old is None else all_it_can_say(old)
    chance = old_whole.detach().exp()[:, None]
    loss, _ = grpo_loss(
        log_probs, old_log_probs.detach(), torch.zeros(7), MASK, beta=1.0, kl=kl,
        ref_log_probs=all_it_can_say(reference)[0].detach(), weights=MASK * chance,
    )  # fmt: skip
    return loss


@pytest.fixture
def policies():
    """The policy, the reference, and an old policy that the answers may come from."""
    return new_policy(0), new_policy(1).detach(), new_policy(2).detach()


@pytest.mark.parametrize("kl", ["k1", "k3", "ratio*k3"])
def test_estimator_is_right_on_average(policies, kl):
    policy, reference, _ = policies
    truth = exact_kl(policy, reference, visits(policy))
    assert truth > 0.3
    assert difference(expected_kl(policy, reference, kl), truth) < 1e-14


def test_k2_is_not_right_on_average(policies):
    policy, reference, _ = policies
    assert difference(expected_kl(policy, reference, "k2"), exact_kl(policy, reference, visits(policy))) > 0.05


def test_only_k1_is_ever_negative():
    near, far = tensor([-1.0, -2.0, -0.5]), tensor([-2.0, -1.0, -0.5])
    signs = {kl: torch.sign(estimate_kl(near, far, kl)).tolist() for kl in ("k1", "k2", "k3", "ratio*k3")}
    assert signs.pop("k1") == [[1, -1, 0]]
    assert list(signs.values()) == 3 * [[[1, 1, 0]]]


def test_estimators_are_schulmans():
    log_p, log_q = tensor([-1.0, -2.5]), tensor([-1.7, -0.4])
    r = (log_q - log_p).exp()
    assert difference(estimate_kl(log_p, log_q, "k1"), -r.log()) < 1e-15
    assert difference(estimate_kl(log_p, log_q, "k2"), r.log() ** 2 / 2) < 1e-15
    assert difference(estimate_kl(log_p, log_q), (r - 1) - r.log()) < 1e-14


def test_k3_keeps_its_digits_near_zero():
    close = estimate_kl(torch.zeros(1, 1), torch.full((1, 1), 1e-4))
    assert close.item() == pytest.approx(5e-9, rel=1e-3)  # in float32, r - 1 - log r would be 0 or 1e-8


def test_k1_as_a_loss_does_nothing_on_average(policies):
    policy, reference, _ = policies
    assert gradient(exact_kl(policy, reference, visits(policy)), policy).abs().max() > 0.1
    assert gradient(expected_kl(policy, reference, "k1"), policy).abs().max() < 1e-15


def test_k2_as_a_loss_has_the_gradient_of_the_reverse_divergence(policies):
    policy, reference, _ = policies
    truth = gradient(exact_kl(policy, reference, visits(policy)), policy)
    assert difference(gradient(expected_kl(policy, reference, "k2"), policy), truth) < 1e-14


def test_k3_as_a_loss_has_the_gradient_of_the_forward_divergence(policies):
    policy, reference, _ = policies
    forward = gradient(exact_kl(reference, policy, visits(policy)), policy)
    reverse = gradient(exact_kl(policy, reference, visits(policy)), policy)
    found = gradient(expected_kl(policy, reference, "k3"), policy)
    assert difference(found, forward) < 1e-14 and difference(found, reverse) > 0.05


def test_ratio_times_k3_has_the_gradient_of_the_reverse_divergence_whoever_spoke(policies):
    policy, reference, old = policies
    for speaker in (None, old):
        truth = exact_kl(policy, reference, visits(policy if speaker is None else old))
        found = expected_kl(policy, reference, "ratio*k3", speaker)
        assert difference(found, truth) < 1e-14
        assert difference(gradient(found, policy), gradient(truth, policy)) < 1e-14


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_without_the_ratio_answers_of_another_policy_mislead(policies, kl):
    policy, reference, old = policies
    reverse, forward = exact_kl(policy, reference, visits(old)), exact_kl(reference, policy, visits(old))
    found = expected_kl(policy, reference, kl, old)
    slope = gradient(found, policy)
    assert difference(found, reverse) > 0.01
    assert all(difference(slope, gradient(truth, policy)) > 0.01 for truth in (reverse, forward))


# ---- the clip -------------------------------------------------------------------------------------------------------

# ratio, advantage, options: objective, whether it has a gradient
CLIP = [
    (1.5, 1.0, {}, 1.2, False),  # better than the mean and already likelier: enough
    (1.5, -1.0, {}, -1.5, True),
    (0.5, 1.0, {}, 0.5, True),
    (0.5, -1.0, {}, -0.8, False),
    (1.1, 1.0, {}, 1.1, True),
    (0.9, -1.0, {}, -0.9, True),
    (1.25, 1.0, {"epsilon_high": 0.28}, 1.25, True),
    (1.3, 1.0, {"epsilon_high": 0.28}, 1.28, False),
    (0.75, -1.0, {"epsilon_high": 0.28}, -0.8, False),
    (10.9, 1.0, {"epsilon": 10.0}, 10.9, True),  # R1's first stage of RL: all but off
    (11.1, 1.0, {"epsilon": 10.0}, 11.0, False),
    (0.001, -1.0, {"epsilon": 10.0}, -0.001, True),
    (50.0, 1.0, {"epsilon": None}, 50.0, True),
    (0.001, -1.0, {"epsilon": None}, -0.001, True),
    (50.0, 1.0, {"epsilon": None, "epsilon_high": 0.28}, 50.0, True),
]


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(("ratio", "advantage", "options", "objective", "moves"), CLIP)
def test_clip_stops_what_has_gone_far_enough_and_nothing_else(ratio, advantage, options, objective, moves, level):
    log_probs = tensor([math.log(ratio) - 1]).requires_grad_()
    old, mask = tensor([-1.0]), torch.ones(1, 1, dtype=torch.bool)
    loss, statistics = grpo_loss(log_probs, old, tensor(advantage), mask, importance_sampling_level=level, **options)
    assert loss.item() == pytest.approx(-objective, abs=1e-12)
    slope = gradient(loss, log_probs).item()
    assert slope == pytest.approx(-ratio * advantage if moves else 0.0, abs=1e-12)
    assert statistics == {"ratio": pytest.approx(ratio), "clip_fraction": float(not moves), "kl": 0.0}


def test_ratio_of_a_sequence_is_the_geometric_mean_of_its_tokens():
    log_probs = tensor([-1.0, -2.0, -3.0, 9.0], [-1.0, 9.0, 9.0, 9.0]).requires_grad_()
    old, mask = tensor([-2.0, -1.5, -2.0, 0.0], [-0.5, 0.0, 0.0, 0.0]), log_probs.detach() < 0
    loss, statistics = grpo_loss(
        log_probs, old, tensor(1.0, 1.0), mask, epsilon=None, importance_sampling_level="sequence"
    )
    ratios = math.exp((1 - 0.5 - 1) / 3), math.exp(-0.5)
    assert loss.item() == pytest.approx(-sum(ratios) / 2)
    assert statistics["ratio"] == pytest.approx((3 * ratios[0] + ratios[1]) / 4)
    slopes = gradient(loss, log_probs)
    assert difference(slopes, -0.5 * mask * tensor([ratios[0] / 3], [ratios[1]])) < 1e-15


# ---- on-policy, weights, padding ------------------------------------------------------------------------------------


def test_loss_is_zero_on_policy_and_its_gradient_is_not():
    policy = new_policy(0)
    log_probs = all_it_can_say(policy)[0]
    advantages = group_advantages(REWARDS[None])[0]
    loss, statistics = grpo_loss(log_probs, log_probs.detach(), advantages, MASK)
    assert abs(loss.item()) < 1e-15 and gradient(loss, policy).abs().max() > 0.05
    assert statistics == {"ratio": 1.0, "clip_fraction": 0.0, "kl": 0.0}


def test_weights_say_what_a_token_counts_for():
    mask = torch.tensor([[True, True, True, True], [True, False, False, False], [False] * 4])
    sequence, tokens, constant = (length_weights(mask, name, 8) for name in ("sequence", "tokens", "constant"))
    assert torch.equal(sequence, mask * tensor([1 / 12], [1 / 3], [0]))
    assert torch.equal(tokens, mask * tensor(0.2))
    assert torch.equal(constant, mask * tensor(1 / 24))
    assert length_weights(torch.zeros(2, 3, dtype=torch.bool), "tokens").sum() == 0


def test_advantage_of_a_response_is_that_of_its_tokens():
    new, old, ref = (all_it_can_say(new_policy(seed))[0].detach() for seed in range(3))
    per_token = torch.where(MASK, REWARDS[:, None], math.nan)  # a critic's, with nothing behind the end
    for level in ("token", "sequence"):
        options = {"importance_sampling_level": level, "beta": 0.1, "ref_log_probs": ref}
        assert grpo_loss(new, old, per_token, MASK, **options) == grpo_loss(new, old, REWARDS, MASK, **options)


@pytest.mark.parametrize("options", [{}, {"importance_sampling_level": "sequence"}, {"normalization": "tokens"}])
@pytest.mark.parametrize("kl", ["k1", "k2", "k3", "ratio*k3"])
def test_padding_is_not_read(options, kl):
    clean = [all_it_can_say(new_policy(seed))[0].detach() for seed in range(3)]
    results = []
    for rubbish in (0.0, math.nan, math.inf, -math.inf):
        new, old, ref = (values.masked_fill(~MASK, rubbish) for values in clean)
        new.requires_grad_()
        loss, statistics = grpo_loss(new, old, REWARDS, MASK, beta=0.1, kl=kl, ref_log_probs=ref, **options)
        results.append((loss.item(), statistics, gradient(loss, new).tolist()))
    assert results[1:] == 3 * results[:1]


def test_float32_stays_float32():
    new = all_it_can_say(new_policy(0))[0].detach().float()
    loss, _ = grpo_loss(new, new, REWARDS, MASK, beta=0.1, ref_log_probs=new, weights=MASK.double() / 7)
    assert loss.dtype == torch.float32


def test_log_probabilities_are_those_of_the_targets_at_the_temperature():
    logits, targets = torch.randn(2, 3, 5, dtype=torch.float64), torch.tensor([[0, 4, 2], [1, 1, 3]])
    probs = (logits / 0.7).softmax(-1)
    picked = [[math.log(probs[b, t, targets[b, t]]) for t in range(3)] for b in range(2)]
    assert difference(response_log_probs(logits, targets, 0.7), torch.tensor(picked, dtype=torch.float64)) < 1e-14


# ---- advantages -----------------------------------------------------------------------------------------------------


def test_group_of_equals_has_no_advantage_and_the_rest_sums_to_zero():
    rewards = tensor([1.0, 0, 0, 0], [1, 1, 1, 1])
    for scale in ("group", "batch", "none"):
        advantages = group_advantages(rewards, scale)
        assert torch.equal(advantages[1], torch.zeros(4, dtype=torch.float64))
        assert advantages.sum(1).abs().max() < 1e-15 and advantages[0, 0] > 0
    assert group_advantages(rewards)[0].tolist() == pytest.approx([0.75 / 0.5001, *3 * [-0.25 / 0.5001]])


def test_rare_success_counts_more_per_answer_once_it_is_divided_by_the_deviation():
    rare, common = tensor([1.0, *[0.0] * 7]), tensor([*[1.0] * 4, *[0.0] * 4])
    assert group_advantages(rare)[0, 0] > 2 * group_advantages(common)[0, 0]
    assert group_advantages(rare, "none")[0, 0] < 2 * group_advantages(common, "none")[0, 0]


# ---- what is refused ------------------------------------------------------------------------------------------------

ROWS = {
    "log_probs": torch.zeros(2, 3), "old_log_probs": torch.zeros(2, 3), "advantages": torch.zeros(2),
    "mask": torch.ones(2, 3, dtype=torch.bool),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"old_log_probs": torch.zeros(2, 4)}, r"old_log_probs has shape \(2, 4\): expected that of log_probs, \(2, 3"),
        ({"mask": torch.ones(3, dtype=torch.bool)}, r"mask has shape \(3,\): expected that of log_probs"),
        ({"mask": torch.ones(2, 3)}, "mask has type torch.float32: expected torch.bool"),
        ({"advantages": torch.zeros(3)}, r"advantages has shape \(3,\): expected \(2,\), one a response"),
        ({"ref_log_probs": torch.zeros(1, 3), "beta": 0.1}, r"ref_log_probs has shape \(1, 3\)"),
        ({"beta": 0.1}, "beta = 0.1 needs ref_log_probs"),
        ({"beta": 0.1, "ref_log_probs": torch.zeros(2, 3), "kl": "k4"}, "kl = 'k4': expected one of 'k1', 'k2', 'k3'"),
        ({"importance_sampling_level": "turn"}, "importance_sampling_level = 'turn': expected one of 'token', 'seq"),
        ({"normalization": "mean"}, "normalization = 'mean': expected one of 'sequence', 'tokens', 'constant'"),
        ({"normalization": "constant"}, "max_tokens = None: normalization 'constant' needs the most tokens"),
        ({"normalization": "constant", "max_tokens": 0}, "max_tokens = 0: normalization 'constant' needs"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        grpo_loss(**{**ROWS, **changes})


@pytest.mark.parametrize("shape", [(4,), (2, 1), (1, 2, 3)])
def test_group_of_one_has_nobody_to_be_compared_with(shape):
    with pytest.raises(ValueError, match=r"rewards has shape .*: expected \(P, G\) with groups of G >= 2"):
        group_advantages(torch.zeros(shape))


def test_unknown_scale_is_named():
    with pytest.raises(ValueError, match="scale_rewards = 'std': expected one of 'group', 'batch', 'none'"):
        group_advantages(torch.zeros(2, 2), "std")
    with pytest.raises(ValueError, match="kl = 'k0': expected one of"):
        estimate_kl(torch.zeros(1), torch.zeros(1), "k0")


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_give_zero_and_not_a_rounding_error(scale):
    """0.7 and 1.1 are no sums of powers of two: the mean of six of them is not the number itself."""
    rewards = torch.tensor([[0.7] * 6, [1.1] * 6, [0.0] * 5 + [1.0]], dtype=torch.float64)
    assert (rewards - rewards.mean(1, keepdim=True))[:2].any()
    assert not group_advantages(rewards, scale)[:2].any() and group_advantages(rewards, scale)[2].all()


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (torch.tensor([[1, 0]]), "rewards: expected finite floats, found torch.int64"),
        (torch.tensor([[True, False]]), "rewards: expected finite floats, found torch.bool"),
        (torch.tensor([[1.0, math.nan]]), r"rewards: expected finite floats, found torch.float32 \[1.0, nan\]"),
    ],
)
def test_rewards_that_are_none_are_named(rewards, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(rewards)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl": "k4"}, "kl = 'k4': expected one of 'k1'"),
        ({"normalization": "length", "weights": torch.ones(2, 3)}, "normalization = 'length': expected one of"),
        ({"weights": torch.ones(3)}, r"weights has shape \(3,\): expected that of log_probs, \(2, 3\)"),
        ({"epsilon": -0.2}, "epsilon = -0.2: expected 0 or more"),
        ({"epsilon_high": -0.2}, "epsilon_high = -0.2: expected 0 or more"),
        ({"beta": -1.0}, "beta = -1.0: expected 0 or more"),
    ],
)
def test_options_are_checked_whether_they_are_used_or_not(options, message):
    log_probs = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=message):
        grpo_loss(log_probs, log_probs, torch.zeros(2), torch.ones(2, 3, dtype=torch.bool), **options)


def test_only_the_policy_that_learns_gets_a_gradient():
    new, old, ref = (torch.randn(2, 3, dtype=torch.float64).requires_grad_() for _ in range(3))
    mask = torch.ones(2, 3, dtype=torch.bool)
    loss, _ = grpo_loss(new, old, torch.tensor([1.0, -1.0]), mask, beta=0.1, ref_log_probs=ref)
    loss.backward()
    assert new.grad.abs().sum() > 0 and old.grad is None and ref.grad is None
