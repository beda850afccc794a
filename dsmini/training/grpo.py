"""Group Relative Policy Optimisation: the objective alone, from rewards and log-probabilities to a loss.

DeepSeekMath (Shao et al. 2024), eq. 3 and 4, and what others changed in it since: each change is a named option. The
decision to know: every variant of length normalisation is a weight per token, so a batch that is worked off in pieces
has the very loss of the whole. Nothing in here knows a model.
"""

import torch

SCALES = ("group", "batch", "none")
NORMALIZATIONS = ("sequence", "tokens", "constant")
ESTIMATORS = ("k1", "k2", "k3", "ratio*k3")
LEVELS = ("token", "sequence")


def group_advantages(rewards, scale_rewards="group"):
    """How much better an answer is than the others to the same question: (P, G) rewards -> (P, G).

    The group's mean takes the critic's place. scale_rewards: "group" divides by the group's standard deviation
    (DeepSeekMath, section 4.1.2), "batch" by that of all rewards, "none" by nothing (Dr. GRPO, Liu et al. 2025;
    DeepSeek-V3.2). The deviation is the unbiased one, plus 1e-4, as in TRL: a group of equals has advantage 0.
    Raises ValueError for groups of one, which have nobody to be compared with, and for what is no finite float.
    """
    check_choice("scale_rewards", scale_rewards, SCALES)
    if rewards.dim() != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards has shape {tuple(rewards.shape)}: expected (P, G) with groups of G >= 2")
    if not (rewards.is_floating_point() and rewards.isfinite().all()):
        raise ValueError(f"rewards: expected finite floats, found {rewards.dtype} {rewards.flatten()[:4].tolist()}")
    alike = rewards.amax(1, keepdim=True) == rewards.amin(1, keepdim=True)
    advantages = (rewards - rewards.mean(1, keepdim=True)).masked_fill(alike, 0)  # 0, and not a rounding error
    if scale_rewards == "group":
        advantages = advantages / (rewards.std(1, keepdim=True) + 1e-4)
    elif scale_rewards == "batch":
        advantages = advantages / (rewards.std() + 1e-4)
    return advantages


def response_log_probs(logits, targets, temperature=1.0):
    """The log-probability of each token: logits (B, T, V), targets (B, T) int64 -> (B, T).

    logits[:, t] predict targets[:, t]: the caller has shifted one against the other. temperature: that of the
    sampling, or the policy that is trained is not the one that spoke.
    """
    return (logits / temperature).log_softmax(-1).gather(-1, targets[..., None])[..., 0]


def estimate_kl(log_probs, ref_log_probs, kind="k3"):
    """One-sample estimates of KL(pi || pi_ref) in nats, (B, T), for tokens drawn from pi (Schulman 2020).

    log_probs, ref_log_probs: (B, T), of the drawn tokens. k1 = log pi/pi_ref: right on average, often negative.
    k2 = k1^2 / 2: biased, never negative. k3 = pi_ref/pi - 1 + k1: right on average and never negative.
    "ratio*k3" is k3 here; `grpo_loss` multiplies it by pi/pi_old. Its values tell nothing about its gradient: see
    chapter 7.
    """
    check_choice("kl", kind, ESTIMATORS)
    k1 = log_probs - ref_log_probs
    if kind == "k1":
        return k1
    return k1**2 / 2 if kind == "k2" else torch.expm1(-k1) + k1


def length_weights(mask, normalization="sequence", max_tokens=None):
    """What each token counts for in the loss: (B, T) bool mask of the response's tokens -> (B, T) float64.

    "sequence": the mean of the responses' means, 1/B 1/|o| (DeepSeekMath). "tokens": every token of the batch alike
    (DAPO, Yu et al. 2025). "constant": 1/B 1/max_tokens (Dr. GRPO). Raises ValueError for "constant" without
    max_tokens.
    """
    check_choice("normalization", normalization, NORMALIZATIONS)
    if normalization == "sequence":
        tokens = mask.sum(1, keepdim=True).clamp(min=1) * len(mask)
    elif normalization == "tokens":
        tokens = mask.sum().clamp(min=1)
    elif max_tokens is None or max_tokens < 1:
        raise ValueError(f"max_tokens = {max_tokens!r}: normalization 'constant' needs the most tokens of a response")
    else:
        tokens = max_tokens * len(mask)
    return mask.double() / tokens


def grpo_loss(log_probs, old_log_probs, advantages, mask, *, epsilon=0.2, epsilon_high=None,
              importance_sampling_level="token", normalization="sequence", max_tokens=None,
              beta=0.0, kl="k3", ref_log_probs=None, weights=None):  # fmt: skip
    """The loss to minimise, a scalar, and statistics, a dict of floats. DeepSeekMath, eq. 3; PPO, eq. 7.

    log_probs, old_log_probs: (B, T), of the responses' tokens under the policy that learns, and when they were drawn.
    advantages: (B,), one a response, or (B, T), one a token (from a critic, or from process supervision).
    mask: (B, T) bool, True for tokens of a response; elsewhere nothing is read.
    epsilon: how far the ratio pi/pi_old may go below 1, epsilon_high above it (None: as far; "clip-higher" of DAPO);
    epsilon None never clips, whatever epsilon_high is. importance_sampling_level: "sequence" takes one ratio a
    response, the geometric mean of its tokens' (GSPO, Zheng et al. 2025, eq. 7). normalization, max_tokens: see
    `length_weights`; weights (B, T) replaces them where the batch is a piece of a larger one.
    beta: weight of the divergence from ref_log_probs (B, T); kl: its estimator, see `estimate_kl`; "ratio*k3" has the
    gradient of KL(pi || pi_ref) (DeepSeek-V3.2, eq. 7).
    Statistics, means over tokens: ratio; clip_fraction, tokens whose gradient the clip has cut; kl (0 without beta).
    Raises ValueError for unknown options, negative epsilon or beta, other shapes, and beta without ref_log_probs.
    """
    _check_options(importance_sampling_level, normalization, kl, epsilon, epsilon_high, beta)
    _check_shapes(log_probs, old_log_probs, advantages, mask, ref_log_probs, weights, beta)
    if weights is None:
        weights = length_weights(mask, normalization, max_tokens)
    if advantages.dim() == 1:
        advantages = advantages[:, None]  # (B, 1)
    advantages = advantages.to(log_probs.dtype)
    log_ratio = (log_probs - old_log_probs.detach()).masked_fill(~mask, 0)  # (B, T)
    if importance_sampling_level == "sequence":
        log_ratio = (log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)).expand_as(log_ratio)
    ratio = log_ratio.exp()
    objective = free = ratio * advantages
    if epsilon is not None:
        high = epsilon if epsilon_high is None else epsilon_high
        objective = torch.minimum(free, ratio.clamp(1 - epsilon, 1 + high) * advantages)
    clipped = objective < free  # what the minimum took has no gradient
    divergence = torch.zeros_like(ratio)
    if beta:
        reference = ref_log_probs.detach().masked_fill(~mask, 0)
        divergence = estimate_kl(log_probs.masked_fill(~mask, 0), reference, kl)
        objective = objective - beta * (ratio * divergence if kl == "ratio*k3" else divergence)
    loss = -(weights.to(objective.dtype) * objective.masked_fill(~mask, 0)).sum()
    means = {"ratio": ratio, "clip_fraction": clipped, "kl": divergence}
    return loss, {name: (value.detach() * mask).sum().item() / max(1, int(mask.sum())) for name, value in means.items()}


def check_choice(name, value, choices):
    """Raises ValueError, listing the choices, for any other value."""
    if value not in choices:
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(map(repr, choices))}")


def _check_options(level, normalization, kl, epsilon, epsilon_high, beta):
    check_choice("importance_sampling_level", level, LEVELS)
    check_choice("normalization", normalization, NORMALIZATIONS)
    check_choice("kl", kl, ESTIMATORS)
    for name, value in (("epsilon", epsilon), ("epsilon_high", epsilon_high), ("beta", beta)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name} = {value!r}: expected 0 or more")


def _check_shapes(log_probs, old_log_probs, advantages, mask, ref_log_probs, weights, beta):
    shape = tuple(log_probs.shape)
    others = {"old_log_probs": old_log_probs, "mask": mask, "ref_log_probs": ref_log_probs, "weights": weights}
    for name, value in others.items():
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}: expected that of log_probs, {shape}")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask has type {mask.dtype}: expected torch.bool")
    if tuple(advantages.shape) not in (shape[:1], shape):
        found = tuple(advantages.shape)
        raise ValueError(f"advantages has shape {found}: expected {shape[:1]}, one a response, or {shape}")
    if beta and ref_log_probs is None:
        raise ValueError(f"beta = {beta!r} needs ref_log_probs, the log-probabilities under the reference policy")
