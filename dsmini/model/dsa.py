"""DeepSeek Sparse Attention: MLA over the few tokens that the lightning indexer selects.

DeepSeek-V3.2-Exp report, section 1, eq. 2; V3.2 report, section 2.1. All heads of a query share one set of tokens, so
the selected latents are read once, as keys and values of all heads at once (MLA in MQA mode, `absorbed`). The choice is
a list of places and passes no gradient: the indexer learns from a loss of its own, for which `watch_selection` hands
out its scores and the attention that they should resemble.
"""

import contextlib
import functools
from typing import NamedTuple

import torch
from torch.nn import functional as F

from dsmini.model.attention import attend_padded
from dsmini.model.indexer import LightningIndexer, select_topk
from dsmini.model.layers import apply_rope
from dsmini.model.mla import LatentAttention

BLOCK = 2**21  # values that a block of queries may spread over: 8 MiB in float32, small enough for a CPU's cache


class View(NamedTuple):
    """A block of b queries and the S tokens from which they choose: all that a selector may look at.

    x: their hidden states (B, b, D)   c_q: their latents (B, b, d_q)   rope: their (cos, sin)
    q: absorbed queries (B, b, H, d_c + d_r)   latent: what is stored (B, S, d_c + d_r)   index_keys: (B, S, d_I)
    visible: (B or 1, b, S) bool, True where causality lets a query look; None for everywhere.
    """

    x: torch.Tensor
    c_q: torch.Tensor
    rope: tuple
    q: torch.Tensor
    latent: torch.Tensor
    index_keys: torch.Tensor
    visible: torch.Tensor | None


def lightning(attention, view):
    """The selector of V3.2: the indexer's scores, (B, b, S)."""
    indexer = attention.indexer
    return indexer.scores(*indexer.queries(view.x, view.c_q, view.rope), view.index_keys)


class SparseLatentAttention(LatentAttention):
    """MLA in which a query sees the `topk` tokens with the highest scores, and all while there are no more.

    forward(x, rope, mask=None, cache=None): as `LatentAttention`, with one layer of an `IndexedLatentCache`.
    selector: a function (attention, View) -> scores (B, b, S); higher is more wanted. topk: how many tokens a query
    may see. `dsmini.model.selectors` has other selectors, and changes both for a while.
    """

    def __init__(self, config):
        super().__init__(config)
        self.indexer = LightningIndexer(config)
        self.selector, self.topk = lightning, config.index_topk

    def forward(self, x, rope, mask=None, cache=None):
        c_q = self.q_a_layernorm(self.q_a_proj(x))  # (B, T, d_q), read by the indexer too
        latent = self.latents(x, rope)  # (B, T, d_c + d_r)
        with torch.no_grad():
            index_keys = self.indexer.keys(x, rope)  # (B, T, d_I)
        if cache is not None:
            latent, index_keys = cache.append(latent, index_keys)  # (B, S, d_c + d_r), (B, S, d_I)
        if latent.shape[1] <= self.topk:
            heads = self.dense(c_q, rope, latent, mask)
        else:
            views = self.views(x, c_q, rope, latent, index_keys, mask)
            heads = torch.cat([self.gathered(view, *self.select(view)) for view in views], dim=1)
        return self.o_proj(heads.flatten(-2))

    def dense(self, c_q, rope, latent, mask=None):
        """Attention over all tokens, as V3's: nothing is left out while there are no more than `topk`."""
        absorb = self.absorption_pays(c_q.shape[1], latent.shape[1])
        attention = self.absorbed if absorb else self.expanded
        return attention(*self.split_queries(c_q, rope), latent, mask)  # (B, T, H, d_v)

    def split_queries(self, c_q, rope):
        """`queries` from the normed latent: (B, T, d_q) -> (B, T, H, d_n), (B, T, H, d_r)."""
        q = self.q_b_proj(c_q).unflatten(-1, (self.num_heads, -1))  # (B, T, H, d_n + d_r)
        q_nope, q_rope = q.split((self.d_nope, self.d_rope), dim=-1)
        return q_nope, apply_rope(q_rope, *rope, self.interleaved)

    def views(self, x, c_q, rope, latent, index_keys, mask=None):
        """The queries in blocks, each a `View`, so that no score of all queries is ever in memory at once."""
        (batch, length), seen = x.shape[:2], latent.shape[1]
        per_query = batch * max(self.indexer.num_heads * seen, self.topk * latent.shape[2])
        size = max(1, BLOCK // per_query)
        for start in range(0, length, size):
            rows = slice(start, min(start + size, length))
            if mask is None and length > 1:  # plainly causal: nothing behind the block's last query matters
                seen = rows.stop
            yield self.view(x, c_q, rope, latent[:, :seen], index_keys[:, :seen], mask, rows)

    def view(self, x, c_q, rope, latent, index_keys, mask, rows):
        """The `View` of some queries; rows: a slice of them, or their places."""
        rope = tuple(table[..., rows, :] for table in rope)
        q_nope, q_rope = self.split_queries(c_q[:, rows], rope)
        q_latent = torch.einsum("bthn,hnc->bthc", q_nope, self.up_projections()[0])  # W_UK, absorbed
        q = torch.cat((q_latent, q_rope), dim=-1)  # (B, b, H, d_c + d_r)
        if mask is not None:
            visible = mask[:, 0, rows]
        elif x.shape[1] == 1:
            visible = None
        else:
            places = torch.arange(x.shape[1], device=x.device)
            visible = (places[: latent.shape[1]] <= places[rows, None])[None]
        return View(x[:, rows], c_q[:, rows], rope, q, latent, index_keys, visible)

    @torch.no_grad()
    def select(self, view):
        """Where each query looks: places (B, b, k) int64, and which of them count, (B, b, k) bool or None for all.

        A query that sees fewer than k tokens gets k places nevertheless; without the second look at `visible` the
        surplus would be its future. Surplus places point at token 0, which every query sees.
        """
        scores = self.selector(self, view)  # (B, b, S)
        if view.visible is None:
            return select_topk(scores, min(self.topk, scores.shape[-1])), None
        scores = scores.masked_fill(~view.visible, float("-inf"))
        places = select_topk(scores, min(self.topk, scores.shape[-1]))
        counts = view.visible.expand_as(scores).gather(-1, places)  # causality, a second time
        return places.masked_fill(~counts, 0), counts

    def gathered(self, view, places, counts=None):
        """Attention over the selected latents alone; the others are not read.

        places, counts: as from `select`   returns (B, b, H, d_v). V3.2-Exp report, eq. 2.
        """
        chosen = look_up(view.latent, places)  # (B, b, k, d_c + d_r)
        mask = None if counts is None else counts[:, :, None]  # (B, b, 1, k)
        mixed = attend_padded(view.q, chosen, chosen, self.scale, attn_mask=mask)  # one matrix of H rows a query
        return torch.einsum("bthc,hvc->bthv", mixed[..., : self.kv_lora_rank], self.up_projections()[1])

    def shares(self, view, among=None):
        """Each token's share of a query's attention, all heads together: (B, b, S), rows that sum to 1.

        The heads' distributions, summed and L1-normalised: the target p of the indexer (V3.2-Exp report, section
        2.1). among: (B, b, S) bool, the only tokens that are looked at; by default all visible ones.
        """
        hidden = None if among is None and view.visible is None else ~(view.visible if among is None else among)
        total = 0
        for q in view.q.unbind(2):  # a head at a time: (B, b, d_c + d_r)
            logits = self.scale * (q @ view.latent.mT)  # (B, b, S)
            total = total + (logits if hidden is None else logits.masked_fill(hidden, float("-inf"))).softmax(-1)
        return total / self.num_heads


def look_up(rows, places):
    """rows[b, places[b]] for every b: (B, S, w), (B, b, k) -> (B, b, k, w).

    Each b is a table and its places are looked up like tokens in an embedding: that copies whole rows and is several
    times faster than indexing.
    """
    found = [F.embedding(place, table) for place, table in zip(places, rows, strict=True)]
    return found[0][None] if len(found) == 1 else torch.stack(found)


class Selection(NamedTuple):
    """What a layer's indexer said about R queries, and what the layer's attention says; (B, R, S) each.

    scores: the indexer's, -inf where causality hides a token. Their gradient reaches the indexer and nothing else.
    selected: bool, where the layer looks. attention: every visible token's share of the attention of all heads;
    of_selected: the same among the selected ones, 0 elsewhere. No gradient: they are targets.
    """

    scores: torch.Tensor
    selected: torch.Tensor
    attention: torch.Tensor
    of_selected: torch.Tensor


@contextlib.contextmanager
def watch_selection(model, queries=None):
    """Watch a model's sparse layers: yields a dict, name of a layer -> the `Selection` of its latest pass.

    model: any module with `SparseLatentAttention` inside. Names are those of `model.get_submodule`.
    queries: places of the queries to report, (R,) int64; by default all. Scores have a gradient even where the pass
    itself has none, so a frozen model can run under `torch.no_grad`. Raises ValueError for a pass with a cache.
    """
    latest, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, SparseLatentAttention):
            hook = functools.partial(_keep_selection, latest, name, queries)
            hooks.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        yield latest
    finally:
        for hook in hooks:
            hook.remove()


def _keep_selection(latest, name, queries, attention, args, kwargs, output):
    inputs = dict(zip(("x", "rope", "mask", "cache"), args, strict=False)) | kwargs
    if inputs.pop("cache", None) is not None:
        raise ValueError("watch_selection: expected a pass without a cache")
    latest[name] = observe(attention, **inputs, queries=queries)


def observe(attention, x, rope, mask=None, queries=None):
    """The `Selection` of a sparse layer for what its `forward` takes; queries as in `watch_selection`."""
    x = x.detach()
    rows = slice(None) if queries is None else queries
    with torch.no_grad():
        c_q = attention.q_a_layernorm(attention.q_a_proj(x))
        latent = attention.latents(x, rope)
    with torch.enable_grad():
        index_keys = attention.indexer.keys(x, rope)
    with torch.no_grad():
        view = attention.view(x, c_q, rope, latent, index_keys, mask, rows)
        places, counts = attention.select(view)
    with torch.enable_grad():
        scores = lightning(attention, view)
        if view.visible is not None:
            scores = scores.masked_fill(~view.visible, float("-inf"))
    with torch.no_grad():
        selected = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, places, True)
        return Selection(scores, selected, attention.shares(view), attention.shares(view, selected))
