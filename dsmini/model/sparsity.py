"""What a model attends to, and what each selector would keep of it: the data of chapter 10's figures and its explorer.

The pass is dense, so every selector is judged by the same attention. In a sparse pass a layer's choice would change
what the layers above it read, and two selectors could no longer be compared token by token.
"""

import math
from typing import NamedTuple

import torch

from dsmini.model.dsa import View, watch_selection
from dsmini.model.selectors import Random, selecting


class Sparsity(NamedTuple):
    """R queries of one sequence of L tokens, in every sparse layer.

    queries: (R,) int64, their places. attention: (layers, R, L), each token's share of a query's attention, all heads
    together; rows sum to 1 and are 0 after the query. indexer: (layers, R, K) int64, places in the order in which the
    lightning indexer chooses them; random: (R, K), one draw. Where a query sees fewer than K tokens, -1 fills up.
    """

    queries: torch.Tensor
    attention: torch.Tensor
    indexer: torch.Tensor
    random: torch.Tensor


@torch.no_grad()
def survey(model, tokens, queries, most=64, seed=0):
    """Look at some queries of a model with sparse attention: a `Sparsity`.

    tokens: (L,) or (1, L) int64. queries: places in them, from 0. most: how many choices of the indexer and of the
    random draw to keep. seed: of the random draw. The first k choices are those of `selecting(model, ..., topk=k)`.
    Raises ValueError for several sequences, places outside them, or a model without sparse layers.
    """
    tokens = tokens[None] if tokens.dim() == 1 else tokens
    if tokens.dim() != 2 or len(tokens) != 1:
        raise ValueError(f"tokens of shape {tuple(tokens.shape)}: expected one sequence, (L,) or (1, L)")
    length, queries = tokens.shape[1], torch.as_tensor(queries, device=tokens.device)
    if queries.dim() != 1 or not len(queries) or not 0 <= int(queries.min()) <= int(queries.max()) < length:
        raise ValueError(f"queries = {queries.tolist()}: expected places from 0 to {length - 1}")
    with selecting(model, topk=math.inf), watch_selection(model, queries) as seen:
        model(tokens)
    visible = torch.arange(length, device=tokens.device) <= queries[:, None]  # (R, L)
    draw = Random(seed)(None, _outline(visible))[0]
    return Sparsity(
        queries,
        torch.stack([selection.attention[0] for selection in seen.values()]),
        torch.stack([_ranked(selection.scores[0], visible, most) for selection in seen.values()]),
        _ranked(draw, visible, most),
    )


def recall(attention, places):
    """The share of the attention that lies on the first 1, 2, ... K places.

    attention: (..., L)   places: (..., K) int64, -1 for none   returns (..., K), rows that never fall.
    """
    kept = attention.gather(-1, places.clamp(min=0)).masked_fill(places < 0, 0)
    return kept.cumsum(-1)


def _ranked(scores, visible, most):
    """Places by falling score, the lower one first among equals, as `select_topk` has it: (R, L) -> (R, K)."""
    places = scores.masked_fill(~visible, float("-inf")).sort(dim=-1, descending=True, stable=True).indices[:, :most]
    return places.masked_fill(~visible.gather(-1, places), -1)


def _outline(visible):
    """A `View` with nothing in it but its sizes and what is visible: all that a draw by places looks at."""
    queries, length = visible.shape
    empty = torch.empty(1, queries, 0, device=visible.device)
    return View(empty, None, None, None, empty.new_empty(1, length, 0), None, visible[None])
