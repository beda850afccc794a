"""What a token's update is: PPO's clip, a group's advantages, and what a token counts for in the loss.

The same arithmetic as `dsmini.training.grpo` on tensors, one number at a time, for the widgets and their page; a test
holds the three equal. Schulman et al. 2017, eq. 7; DeepSeekMath (Shao et al. 2024), eq. 3. The decision to know: a
gradient here is by the token's log-probability, so it is ratio x advantage wherever nothing is cut.
"""

import math

RULES = ("none", "ppo", "inverted")
SCALES = ("group", "batch", "none")
NORMALIZATIONS = ("sequence", "tokens", "constant")


def clipped_objective(ratio, advantage, epsilon=0.2, epsilon_high=None, rule="ppo"):
    """What one token adds to the objective, to be maximised. PPO, eq. 7.

    ratio: pi / pi_old, above 0. epsilon: how far below 1 it counts; epsilon_high: how far above (None: as far).
    rule: "ppo" takes the lesser of the free and the clipped value, whatever the sign. "inverted", which circulates in
    tutorials, takes the greater for a negative advantage. "none" never clips.
    """
    free = ratio * advantage
    if _checked("rule", rule, RULES) == "none":
        return free
    high = epsilon if epsilon_high is None else epsilon_high
    clipped = min(max(ratio, 1 - epsilon), 1 + high) * advantage
    return max(free, clipped) if rule == "inverted" and advantage < 0 else min(free, clipped)


def clipped_gradient(ratio, advantage, epsilon=0.2, epsilon_high=None, rule="ppo"):
    """The derivative of `clipped_objective` by the token's log-probability: ratio x advantage, or 0 where it is cut.

    On the bound itself nothing is cut, as in `torch.clamp`.
    """
    free = ratio * advantage
    return free if clipped_objective(ratio, advantage, epsilon, epsilon_high, rule) == free else 0.0


def deviation(values):
    """The unbiased standard deviation of two numbers or more."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))


def group_advantages(rewards, scale_rewards="group"):
    """How much better an answer is than the others to the same question: P lists of G rewards -> P lists of G.

    scale_rewards: "group" divides by the group's deviation + 1e-4, "batch" by that of all rewards, "none" by nothing.
    """
    _checked("scale_rewards", scale_rewards, SCALES)
    if not rewards or {len(group) for group in rewards} != {len(rewards[0])} or len(rewards[0]) < 2:
        raise ValueError(f"rewards: groups of {[len(g) for g in rewards]}, expected P groups of the same G >= 2")
    return [[(reward - sum(group) / len(group)) / divisor for reward in group]
            for group, divisor in zip(rewards, divisors(rewards, scale_rewards), strict=True)]  # fmt: skip


def divisors(rewards, scale_rewards="group"):
    """What each group's differences from its mean are divided by: P numbers."""
    if scale_rewards == "group":
        return [deviation(group) + 1e-4 for group in rewards]
    common = deviation([reward for group in rewards for reward in group]) + 1e-4 if scale_rewards == "batch" else 1.0
    return [common] * len(rewards)


def token_weights(lengths, normalization="sequence", max_tokens=None):
    """What each token of a response counts for in the loss: B lengths -> B weights.

    "sequence": 1/B 1/|o|, the mean of the responses' means (DeepSeekMath). "tokens": 1 over the tokens of the batch
    (DAPO, Yu et al. 2025). "constant": 1/B 1/max_tokens (Dr. GRPO, Liu et al. 2025).
    """
    if _checked("normalization", normalization, NORMALIZATIONS) == "sequence":
        return [1 / (len(lengths) * max(1, n)) for n in lengths]
    if normalization == "tokens":
        return [1 / max(1, sum(lengths))] * len(lengths)
    if max_tokens is None or max_tokens < 1:
        raise ValueError(f"max_tokens = {max_tokens!r}: normalization 'constant' needs the most tokens of a response")
    return [1 / (len(lengths) * max_tokens)] * len(lengths)


def _checked(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(map(repr, choices))}")
    return value
