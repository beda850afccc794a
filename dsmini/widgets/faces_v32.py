"""The Python face of the widget of chapter 10: the explorer of what selectors keep of a model's attention."""

import math
import string

from traitlets import Enum, Int, List, TraitError, Unicode, validate

from dsmini.accounting import recall
from dsmini.widgets import still, toys
from dsmini.widgets.base import Widget, state

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase + "-_"
_ROOTS = 4095  # a share of 1
_MOST_SHARES = 70_000  # two bytes of the page each


def sparsity(seen=None, needles=None, words=None, layer=0, query=1, k=None, method="indexer"):
    """What a query attends to, which tokens a selector takes, and how much attention they keep.

    seen: what `dsmini.model.sparsity.survey` returns, or a dict with its fields as nested lists or arrays; an invented
      model by default. Layers x queries x tokens may be 70,000 at most: each is two bytes of the page.
    needles: for each query the place of the token that it looks for, from 0; -1 or None for none.
    words: the L tokens as text; optional.
    layer: from 0, as in `model.layers`. query: which of the queries, from 1. k: tokens that a selector may take; 16 by
      default, and as many as `seen` ranks at most. method: "dense", "indexer", "window", "random" or "oracle".
    Returns an anywidget; every argument but `seen` is a trait of the same name, and so are the fields of `seen`, of
    which `attention`, `indexer` and `random` are packed (see `pack`, `pack_shares`).
    """
    if seen is None:
        seen = toys.sparse_attention()
        needles = seen["needles"] if needles is None else needles
    fields = seen if isinstance(seen, dict) else seen._asdict()
    rows = {name: _nested(fields[name]) for name in ("queries", "attention", "indexer", "random")}
    _check_attention(rows["queries"], rows["attention"])
    _check_orders(rows["queries"], len(rows["attention"]), rows["indexer"], rows["random"])
    most = max(map(len, rows["random"]))
    return Sparsity(
        queries=rows["queries"],
        attention=[[pack_shares(row) for row in rows_of_layer] for rows_of_layer in rows["attention"]],
        indexer=[[pack(_filled(row)) for row in rows_of_layer] for rows_of_layer in rows["indexer"]],
        random=[pack(_filled(row)) for row in rows["random"]],
        needles=_read_needles(rows["queries"], needles),
        words=_read_words(len(rows["attention"][0][0]), words),
        layer=layer,
        query=query,
        k=min(16, most) if k is None else k,
        method=method,
    )


class Sparsity(Widget):
    """The face of sparsity.js. See `sparsity`."""

    module = "sparsity"
    queries = state(List(Int()))
    attention = state(List(List(Unicode())))
    indexer = state(List(List(Unicode())))
    random = state(List(Unicode()))
    needles = state(List(Int()))
    words = state(List(Unicode()))
    layer = state(Int(min=0))
    query = state(Int(min=1))
    k = state(Int(min=1))
    method = state(Enum(recall.METHODS))

    @validate("layer", "query", "k")
    def _possible_place(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        last = {"layer": len(self.attention) - 1, "query": len(self.queries), "k": self.most}[name]
        if value > last:
            raise TraitError(f"{name} = {value}: expected at most {last}")
        return value

    @property
    def most(self):
        """The largest k: as many tokens as are ranked."""
        return max(len(text) // 2 for text in self.random)

    def rows(self, layer):
        """What the page works with: for each query its weights, its place, and its orders."""
        random = [unpack(text) for text in self.random]
        orders = zip(map(unpack, self.indexer[layer]), random, strict=True)
        weights = [[root * root for root in unpack(text)] for text in self.attention[layer]]
        return [
            (row, query, {"indexer": first, "random": second})
            for row, query, (first, second) in zip(weights, self.queries, orders, strict=True)
        ]

    def mean_recall(self, layer, method):
        """The attention that a method's 1, 2, ... most tokens keep, as the mean over the queries."""
        return recall.mean_curve([recall.recall_curve(method, *row, self.most) for row in self.rows(layer)])

    def needles_found(self, layer, method, k):
        """How many queries have their needle among the k tokens that a method takes."""
        pairs = zip(self.rows(layer), self.needles, strict=True)
        return sum(needle in recall.chosen(method, *row, k) for row, needle in pairs)

    def fallback(self):
        sought = sum(needle >= 0 for needle in self.needles)
        asked = f"{len(self.queries)} {'query' if len(self.queries) == 1 else 'queries'}"
        curves = {method: self.mean_recall(self.layer, method) for method in recall.METHODS[1:]}
        rows = []
        for method, curve in curves.items():
            found = f"; the needle is among them: {self.needles_found(self.layer, method, self.k)} of {sought}"
            rows.append(f"<li>{still.NAMES[method]}: {curve[self.k - 1]:.1%}{found if sought else ''}</li>")
        return (
            f"<p>{asked} of one text of {len(self.attention[0][0]) // 2} tokens, layer "
            f"{self.layer}. How much of the attention {self.k} tokens keep, on average:</p><ul>{''.join(rows)}</ul>"
            f"{still.recall_figure(curves)}"
            f"<p>More tokens, more attention: from 1 token to {self.most}, doubling from mark to mark.</p>"
        )


def pack(numbers):
    """Whole numbers from 0 to 4095 as text, two digits of base 64 each."""
    return "".join(_DIGITS[n // 64] + _DIGITS[n % 64] for n in numbers)


def unpack(text):
    """The numbers that `pack` kept."""
    return [64 * _DIGITS.index(a) + _DIGITS.index(b) for a, b in zip(text[::2], text[1::2], strict=True)]


def pack_shares(shares):
    """A row of attention as text: the nearest root of each share, in 4095ths, so that a small one keeps some digits.

    A share of 0.5 is kept to 0.0002, one of 0.002 to 0.00002.
    """
    return pack(min(_ROOTS, round(_ROOTS * math.sqrt(share))) for share in shares)


def _nested(values):
    """A tensor, an array or nested sequences of such as nested lists."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_nested(value) for value in values] if isinstance(values, (list, tuple)) else values


def _filled(places):
    """Without the -1 that fill up the places of a query that sees few tokens."""
    return [place for place in places if place >= 0]


def _check_attention(queries, attention):
    sizes = {(len(rows), len(row)) for rows in attention for row in rows}
    if len(sizes) != 1:
        raise ValueError(f"attention: layers of sizes {sorted(sizes)[:3]}, expected (layers, R, L) shares")
    ((count, length),) = sizes
    if count != len(queries) or not all(0 <= query < length for query in queries) or max(queries) < 1:
        raise ValueError(f"queries = {queries}: expected {count} places from 0 to {length - 1}, not only the first")
    if not 8 <= length <= 4096 or len(attention) * count * length > _MOST_SHARES:
        size = f"{len(attention)} x {count} x {length}"
        raise ValueError(f"attention: {size} shares, expected 8 to 4,096 tokens and {_MOST_SHARES:,} shares at most")
    for rows in attention:
        for query, row in zip(queries, rows, strict=True):
            if min(row) < 0 or any(row[query + 1 :]) or not math.isclose(sum(row), 1, abs_tol=1e-3):
                raise ValueError(f"attention of the query at {query}: expected shares that sum to 1, 0 after the query")


def _check_orders(queries, layers, indexer, random):
    if len(indexer) != layers:
        raise ValueError(f"indexer: {len(indexer)} layers, expected {layers} as attention has")
    most = max(len(_filled(row)) for row in random) if len(random) else 0
    for name, orders in [*(("indexer", rows) for rows in indexer), ("random", random)]:
        if len(orders) != len(queries):
            raise ValueError(f"{name}: places of {len(orders)} queries, expected {len(queries)}")
        for query, row in zip(queries, orders, strict=True):
            places = _filled(row)
            if len(set(places)) != len(places) or len(places) != min(most, query + 1) or max(places) > query:
                wanted = f"{min(most, query + 1)} places up to it, once"
                raise ValueError(f"{name} of the query at {query}: expected {wanted}")


def _read_needles(queries, needles):
    needles = [-1] * len(queries) if needles is None else [-1 if n is None else int(n) for n in _nested(needles)]
    if len(needles) != len(queries) or not all(-1 <= n <= q for n, q in zip(needles, queries, strict=True)):
        raise ValueError(f"needles = {needles}: expected for each of {len(queries)} queries a place up to it, or -1")
    return needles


def _read_words(length, words):
    words = [] if words is None else [str(word) for word in words]
    if words and len(words) != length:
        raise ValueError(f"words: {len(words)} of them, expected {length}, one for each token")
    return words
