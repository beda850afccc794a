"""Recall of attention in plain numbers: on a row that can be reckoned by hand."""

from fractions import Fraction

import pytest

from dsmini.accounting import recall

WEIGHTS = [4, 1, 0, 9, 4, 2, 0, 0]  # of 8 tokens; the query stands at place 5 and has 20 in all
ORDERS = {"indexer": [3, 2, 0, 5], "random": [1, 4, 2, 3]}
ROW = (WEIGHTS, 5, ORDERS)


def test_each_method_ranks_as_it_says():
    assert recall.ranked("dense", *ROW) == [0, 1, 2, 3, 4, 5]
    assert recall.ranked("window", *ROW) == [5, 4, 3, 2, 1, 0]
    assert recall.ranked("oracle", *ROW) == [3, 0, 4, 5, 1, 2]  # of two equals the earlier
    assert recall.ranked("indexer", *ROW) == [3, 2, 0, 5]
    assert recall.ranked("random", *ROW) == [1, 4, 2, 3]


def test_k_tokens_are_chosen_and_all_where_it_is_dense():
    assert recall.chosen("window", *ROW, 2) == [5, 4]
    assert recall.chosen("window", *ROW, 40) == [5, 4, 3, 2, 1, 0]
    assert recall.chosen("dense", *ROW, 2) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        ("dense", [20] * 6),
        ("indexer", [9, 9, 13, 15, 15, 15]),
        ("window", [2, 6, 15, 15, 16, 20]),
        ("random", [1, 5, 5, 14, 14, 14]),
        ("oracle", [9, 13, 17, 19, 20, 20]),
    ],
)
def test_a_curve_holds_the_recall_of_every_k(method, kept):
    curve = recall.recall_curve(method, *ROW, 6)
    assert curve == [float(Fraction(mass, 20)) for mass in kept]
    assert curve == [recall.recall(WEIGHTS, recall.chosen(method, *ROW, k)) for k in range(1, 7)]


def test_no_choice_keeps_more_than_the_oracle_and_curves_average():
    curves = {method: recall.recall_curve(method, *ROW, 6) for method in recall.METHODS[1:]}
    assert all(a <= b for curve in curves.values() for a, b in zip(curve, curves["oracle"], strict=True))
    assert recall.mean_curve([[0.0, 0.5], [0.5, 1.0], [1.0, 1.5]]) == [0.5, 1.0]
