"""A router's choice and its balancing bias, in plain Python: one token is a list of scores.

The same arithmetic as `dsmini.model.moe` on tensors, for the router widget and its page; a test holds the three equal.
DeepSeek-V3 report, section 2.1.2. The decision to know: the bias takes part in the choice, never in the weights.
"""

from typing import NamedTuple


class Choice(NamedTuple):
    """Where one token goes. k experts, best first, and their weights; for each group its score and whether it was kept.

    groups: None where no group is left out. weights: from the scores without the bias, summing to `scale`.
    """

    experts: list
    weights: list
    groups: list
    kept: list


class Run(NamedTuple):
    """A balanced stream of batches: the bias each was routed with (E numbers), the load it made (E counts)."""

    biases: list
    loads: list


def route(scores, bias, k, n_group=1, topk_group=1, scale=1.0):
    """One token's choice: scores and bias are lists of E numbers; returns a `Choice`.

    A group counts what its two best experts score together, bias included; experts outside the topk_group best groups
    cannot be chosen. Of equal scores the first wins.
    """
    biased = [score + b for score, b in zip(scores, bias, strict=True)]
    size = len(biased) // n_group
    groups = [sum(sorted(biased[g * size : (g + 1) * size], reverse=True)[:2]) for g in range(n_group)]
    kept = sorted(_best(groups, range(n_group), topk_group))
    reachable = [g * size + i for g in kept for i in range(size)]
    experts = _best(biased, reachable, k)
    total = sum(scores[e] for e in experts) + 1e-20
    return Choice(experts, [scores[e] / total * scale for e in experts], groups, kept)


def expert_load(choices, num_experts):
    """How many tokens each expert received: a list of `Choice`s -> E counts."""
    load = [0] * num_experts
    for choice in choices:
        for expert in choice.experts:
            load[expert] += 1
    return load


def max_violation(load):
    """MaxVio: how far the busiest expert lies above the mean load; 0 is even. Wang et al. 2024, section 4.1."""
    return max(load) * len(load) / sum(load) - 1


def balance(bias, load, speed):
    """The bias after one step of the sign rule: up by `speed` below the mean load, down above it. Section 2.1.2."""
    mean = sum(load) / len(load)
    return [b + speed * ((mean > n) - (mean < n)) for b, n in zip(bias, load, strict=True)]


def balanced_run(scores, batches, speed, k, n_group=1, topk_group=1):
    """Route `batches` batches, moving the bias after each: a `Run`.

    scores: a list of data batches, each a list of tokens, each a list of E scores; they repeat when they are used up.
    The scores stand still: in training the router's weights move too.
    """
    bias = [0.0] * len(scores[0][0])
    run = Run([], [])
    for i in range(batches):
        load = expert_load(
            (route(token, bias, k, n_group, topk_group) for token in scores[i % len(scores)]), len(bias)
        )
        run.biases.append(bias)
        run.loads.append(load)
        bias = balance(bias, load, speed)
    return run


def _best(values, places, count):
    """The `count` places with the highest values, best first; the earlier place among equals."""
    return sorted(places, key=lambda i: -values[i])[:count]
