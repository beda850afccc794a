"""How much of a query's attention a choice of k tokens keeps, in plain Python: one query is a list of weights.

The same arithmetic as `dsmini.model.sparsity` on tensors, for the sparsity widget and its page; a test holds the three
equal. A weight is a token's share of the attention, all heads together, in any unit: only ratios count. Whole numbers
give the same result whatever the order of the sum.
"""

from itertools import accumulate

METHODS = ("dense", "indexer", "window", "random", "oracle")


def ranked(method, weights, query, orders):
    """The places that a method would choose for one query, its first choice first.

    weights: one for each token, 0 for those after the query. query: the query's place, from 0. orders: a dict with the
    places in the order of the "indexer" and of the "random" draw, which weights cannot tell. "dense" is all in order.
    """
    visible = range(query + 1)
    if method in orders:
        return list(orders[method])
    if method == "window":
        return list(reversed(visible))
    return sorted(visible, key=lambda place: -weights[place]) if method == "oracle" else list(visible)


def chosen(method, weights, query, orders, k):
    """The places that a query looks at: k of them, fewer while there are fewer tokens; all where it is "dense"."""
    places = ranked(method, weights, query, orders)
    return places if method == "dense" else places[:k]


def recall(weights, places):
    """The share of the attention that lies on these places, 0 to 1."""
    return sum(weights[place] for place in places) / sum(weights)


def recall_curve(method, weights, query, orders, most):
    """`recall` of 1, 2, ... `most` chosen tokens; once all are chosen it stays where it is."""
    if method == "dense":
        return [1.0] * most
    kept = list(accumulate(weights[place] for place in ranked(method, weights, query, orders)[:most]))
    return [mass / sum(weights) for mass in kept + kept[-1:] * (most - len(kept))]


def mean_curve(curves):
    """The mean of several queries' curves, for each number of tokens."""
    return [sum(column) / len(curves) for column in zip(*curves, strict=True)]
