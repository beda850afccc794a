"""What a draft is worth: the acceptance rule of speculative decoding, and how many tokens a forward pass brings.

Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", sections 2.3 and 3. Probabilities
are lists over the vocabulary, p the main model's and q the draft's.
"""


def is_accepted(p, q, uniform):
    """Whether a draft stays: with probability min(1, p / q). p, q: its own probabilities; uniform: in [0, 1)."""
    return uniform * q < p


def acceptance(p, q):
    """The chance that a draft drawn from q stays: the sum of min(p, q), one less their total variation distance."""
    return sum(map(min, p, q))


def residual(p, q):
    """The distribution of the token that replaces a rejected draft: what p has more than q, normalised.

    p itself where nothing is left, that is where p = q and no draft is rejected.
    """
    left = [max(0.0, a - b) for a, b in zip(p, q, strict=True)]
    total = sum(left)
    return [x / total for x in left] if total > 0 else list(p)


def expected_tokens(rate, depth):
    """Tokens per forward pass: 1 + a + a^2 + ... + a^depth for `depth` drafts in a row, each kept with chance a = rate.

    The drafts behind a rejected one are lost with it; the pass always brings one token of its own. Equation 1 there,
    which takes the chances as independent.
    """
    total = 1.0
    for _ in range(depth):
        total = 1 + rate * total
    return total
