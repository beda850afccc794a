"""Other ways to choose the same number of tokens, to measure what the lightning indexer's choice is worth.

A selector scores tokens, nothing else: (attention, View) -> (B, b, S), higher is more wanted. Budget, causality and
ties are `SparseLatentAttention.select`'s, so that all selectors compete under one rule.
"""

import contextlib

import torch

from dsmini.model.dsa import SparseLatentAttention


def window(attention, view):
    """The most recent tokens: a sliding window of `topk`."""
    batch, length, num_keys = len(view.x), view.x.shape[1], view.latent.shape[1]
    return torch.arange(num_keys, device=view.x.device).expand(batch, length, num_keys).float()


def oracle(attention, view):
    """The tokens with the most attention, which costs the dense attention that a selector is to save."""
    return attention.shares(view)


class Random:
    """Tokens drawn by a hash of the seed, the query's place and the token's: one pass or many, the draw is the same."""

    def __init__(self, seed=0):
        self.seed = seed

    def __call__(self, attention, view):
        batch, length, num_keys = len(view.x), view.x.shape[1], view.latent.shape[1]
        keys = torch.arange(num_keys, device=view.x.device)
        if view.visible is None:
            place = torch.full((1, 1, 1), num_keys - 1, device=view.x.device)
        else:
            place = (view.visible * keys).amax(-1, keepdim=True)  # a query's own: the last token that it sees
        mixed = _scramble(_scramble(_scramble(place + (self.seed << 20)) + keys))
        return (mixed >> 11).double().expand(batch, length, num_keys)


class BlockMean:
    """Whole blocks of `size` neighbours, by the attention that a block's mean key gets; the query's own block first.

    The simplest of the block-wise methods: one score for a block, so a needle shares it with its neighbours. Only
    what a query may see enters a mean. A budget that is no multiple of `size` cuts the last block short.
    """

    def __init__(self, size=16):
        if size < 1:
            raise ValueError(f"size = {size!r}: expected 1 or more")
        self.size = size

    def __call__(self, attention, view):
        num_keys = view.latent.shape[1]
        visible = view.latent.new_ones(1, 1, num_keys) if view.visible is None else view.visible.to(view.latent.dtype)
        counts = self._blocks(visible).sum(-1)  # (B or 1, b, S / size)
        logits = torch.einsum("bthc,bsc->bths", view.q, view.latent) * visible[:, :, None]
        means = attention.scale * self._blocks(logits).sum(-1) / counts.clamp(min=1)[:, :, None]
        scores = means.masked_fill(counts[:, :, None] == 0, float("-inf")).softmax(-1).sum(2)  # (B, b, S / size)
        own = (counts > 0).sum(-1, keepdim=True) - 1  # the last block with a visible token
        scores = scores.scatter(-1, own.expand(*scores.shape[:2], 1), float("inf"))
        return scores.repeat_interleave(self.size, dim=-1)[..., :num_keys]

    def _blocks(self, values):
        """(..., S) -> (..., ceil(S / size), size), zeros behind the end."""
        return torch.nn.functional.pad(values, (0, -values.shape[-1] % self.size)).unflatten(-1, (-1, self.size))


@contextlib.contextmanager
def selecting(model, selector=None, topk=None):
    """For a while, run a model's sparse layers with another selector, another budget, or both.

    selector: one for all layers, or a list with one for each in the order of `model.modules()`; None keeps theirs.
    topk: tokens that a query may see; `math.inf` makes every layer dense; None keeps theirs.
    Raises ValueError for a model without sparse layers, a list of another length, or topk below 1.
    """
    layers = [module for module in model.modules() if isinstance(module, SparseLatentAttention)]
    if not layers:
        raise ValueError("model: expected one with sparse attention (a config with an indexer)")
    if topk is not None and topk < 1:
        raise ValueError(f"topk = {topk!r}: expected 1 or more")
    chosen = selector if isinstance(selector, list | tuple) else [selector] * len(layers)
    if len(chosen) != len(layers):
        raise ValueError(f"selector: {len(chosen)} for {len(layers)} sparse layers")
    before = [(layer.selector, layer.topk) for layer in layers]
    try:
        for layer, own in zip(layers, chosen, strict=True):
            layer.selector = layer.selector if own is None else own
            layer.topk = layer.topk if topk is None else topk
        yield
    finally:
        for layer, (own, budget) in zip(layers, before, strict=True):
            layer.selector, layer.topk = own, budget


def _scramble(x):
    """A bijection of 64-bit integers that leaves no pattern (the finaliser of splitmix64); any shape, int64."""
    x = (x ^ (x >> 30)) * -4658895280553007687
    x = (x ^ (x >> 27)) * -7723592293110705685
    return x ^ (x >> 31)
