"""Recall of attention in JavaScript is dsmini.accounting.recall's, over rows with ties, zeros and few tokens."""

import random

import pytest
from javascript import in_javascript, rounded

from dsmini.accounting import recall
from dsmini.widgets import faces_v32

CURVES = """data.map(([method, weights, query, orders, most]) => [ranked(method, weights, query, orders),
  recallCurve(method, weights, query, orders, most),
  [1, 2, 5, 40].map((k) => [chosen(method, weights, query, orders, k),
    recall(weights, chosen(method, weights, query, orders, k))])])"""


def cases():
    pick = random.Random(0)
    rows = []
    for query, length in ((0, 8), (1, 8), (6, 8), (7, 8), (30, 48), (47, 48)):
        for level in (1, 3, 4000):  # many ties, some, few
            weights = [pick.randint(0, level) ** 2 for _ in range(query)] + [1] + [0] * (length - query - 1)
            orders = {name: pick.sample(range(query + 1), min(12, query + 1)) for name in ("indexer", "random")}
            rows += [[method, weights, query, orders, 12] for method in recall.METHODS]
    return rows


def ours():
    return [
        [
            recall.ranked(*row[:4]),
            recall.recall_curve(*row),
            [[places := recall.chosen(*row[:4], k), recall.recall(row[1], places)] for k in (1, 2, 5, 40)],
        ]
        for row in cases()
    ]


def test_recall_agrees_to_the_last_digit(new_page):
    assert in_javascript(new_page(), "recall", CURVES, cases()) == ours()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("weights[b] - weights[a]", "weights[a] - weights[b]"),
        ("visible.sort(", "visible.reverse().sort("),
        ("visible.reverse()", "visible"),
        ("length: query + 1", "length: query"),
        ('method === "dense" ? places : places.slice(0, k)', "places.slice(0, k)"),
        ("places.slice(0, k)", "places.slice(0, k + 1)"),
        ("/ sum(weights);", "/ Math.max(1, sum(places.map((place) => weights[place])));"),
        ("new Array(most).fill(1)", "new Array(most).fill(0)"),
        ("i < places.length ? weights[places[i]] : 0", "weights[places[Math.min(i, places.length - 1)]]"),
    ],
)
def test_a_planted_recall_error_is_seen(new_page, right, wrong):
    assert in_javascript(new_page(), "recall", CURVES, cases(), (right, wrong)) != ours()


CURVE_ROWS = [[[0.1, 0.2], [0.5, 0.75], [0.3, 1.0]], [[1.0]], [[0.0] * 5, [1.0] * 5]]


def test_means_agree(new_page):
    asked = in_javascript(new_page(), "recall", "data.map(meanCurve)", CURVE_ROWS)
    assert rounded(asked) == rounded([recall.mean_curve(rows) for rows in CURVE_ROWS])


def test_what_python_packs_javascript_unpacks(new_page):
    numbers = [0, 1, 63, 64, 511, 4095, *range(0, 4096, 97)]
    text = faces_v32.pack(numbers)
    assert in_javascript(new_page(), "recall", "unpack(data)", text) == numbers == faces_v32.unpack(text)
    assert in_javascript(new_page(), "recall", "unpackWeights(data)", text) == [n * n for n in numbers]
    assert in_javascript(new_page(), "recall", "unpack(data)", text, ("64 *", "62 *")) != numbers
