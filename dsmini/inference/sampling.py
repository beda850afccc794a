"""From logits to the next token: temperature, top-k, top-p, and one draw.

`probabilities` gives the distribution that is really sampled from, so whoever needs the probability of a sampled token
(speculative decoding, reinforcement learning) reads it there. The one decision to know: `draw` inverts the cumulative
distribution at one uniform number per row, so a token depends on its own row's number and on no other row's.
Top-p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
"""

import math

import torch
from torch.nn import functional as F


def check_sampling(temperature, top_k, top_p):
    """Raises ValueError, naming the argument, for settings that `probabilities` cannot use."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature = {temperature!r}: expected a number of 0 (greedy) or more")
    if top_k is not None and (top_k != int(top_k) or top_k < 1):
        raise ValueError(f"top_k = {top_k!r}: expected a whole number of 1 or more, or None")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p = {top_p!r}: expected more than 0 and at most 1")


def probabilities(logits, temperature=1.0, top_k=None, top_p=1.0):
    """The distribution to sample from: (..., V) logits -> (..., V) probabilities, float32 or better.

    temperature divides the logits; 0 is greedy, all probability on the largest logit. top_k keeps that many tokens.
    top_p then keeps the fewest tokens that hold this much of what is left, never none. What is kept is scaled to sum
    to 1. Equal tokens at a border: the lower token goes first, so top_k is exact and the choice repeatable.
    Raises ValueError for settings out of range and for logits of which none is finite, or one is NaN or +inf.
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    best = logits.amax(-1, keepdim=True)
    if not best.isfinite().all():
        raise ValueError("logits: found NaN, +inf or a row of nothing but -inf, expected a finite maximum")
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    probs = ((logits - best) / temperature).softmax(-1)  # the best one at 0: no temperature is too small
    if top_k is None and top_p == 1:
        return probs
    return _keep_the_likely(probs, top_k, top_p)


def _keep_the_likely(probs, top_k, top_p):
    ranked, order = probs.sort(dim=-1, descending=True, stable=True)  # stable: equal ones stay in the tokens' order
    if top_k is not None:
        ranked[..., top_k:] = 0
        ranked = ranked / ranked.sum(-1, keepdim=True)
    if top_p < 1:
        before = F.pad(ranked.cumsum(-1)[..., :-1], (1, 0))  # what better tokens hold: 0 for the first, so it stays
        ranked = ranked.masked_fill(before >= top_p, 0)
    kept = torch.zeros_like(probs).scatter_(-1, order, ranked)
    return kept / kept.sum(-1, keepdim=True)


def draw(weights, uniform):
    """The token at which the cumulative distribution passes a uniform number: (..., V), (...) -> (...) int64.

    weights: 0 or more, not all 0; they need not sum to 1. uniform: in [0, 1). A token of weight 0 is never drawn.
    """
    cumulative = weights.double().cumsum(-1)  # float64: uniform * total stays below the total, whatever it is
    target = uniform.double()[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, target, right=True)[..., 0]


def uniforms(shape, generator=None, device=None):
    """Numbers in [0, 1) for `draw`, float64. The first rows do not depend on how many follow."""
    source = None if generator is None else generator.device
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=source).to(device)


def sample(probs, generator=None):
    """One token from each distribution: (..., V) -> (...) int64. Repeatable with a seeded generator."""
    return draw(probs, uniforms(probs.shape[:-1], generator, probs.device))
