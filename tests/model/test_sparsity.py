"""The survey of a model's attention: its order of choices is the model's own, for every budget."""

import math

import pytest
import torch
from tiny import CONFIGS, difference, make_model, make_tokens

from dsmini.accounting import recall as plain
from dsmini.model.dsa import SparseLatentAttention, watch_selection
from dsmini.model.selectors import Random, oracle, selecting, window
from dsmini.model.sparsity import recall, survey

CONFIG = CONFIGS["sparse mla"]
LENGTH, QUERIES = 24, [2, 23, 11]


@pytest.fixture(scope="module")
def model():
    return make_model(CONFIG)


@pytest.fixture(scope="module")
def tokens(model):
    return make_tokens(model.config, 1, LENGTH)


@pytest.fixture(scope="module")
def seen(model, tokens):
    return survey(model, tokens, QUERIES, most=8, seed=3)


def selected(model, tokens, at, selector, k):
    """Where the layer `at` looks under a budget when the layers below it are dense: (R, L) bool."""
    layers = [module for module in model.modules() if isinstance(module, SparseLatentAttention)]
    with selecting(model, selector, math.inf), watch_selection(model, torch.tensor(QUERIES)) as found, torch.no_grad():
        layers[at].topk = k  # `selecting` puts it back
        model(tokens)
    return list(found.values())[at].selected[0]


def as_mask(places):
    return torch.zeros(len(places), LENGTH + 1, dtype=torch.bool).scatter_(1, places % (LENGTH + 1), True)[:, :-1]


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("at", [0, 1])
def test_first_k_places_are_what_the_layer_selects(model, tokens, seen, at, k):
    for k_seen, selector in ((seen.indexer[at], None), (seen.random, Random(3))):
        ours = as_mask(k_seen[:, :k])
        theirs = selected(model, tokens, at, selector, k)
        visible = torch.arange(LENGTH) <= torch.tensor(QUERIES)[:, None]
        assert torch.equal(ours, theirs & visible)
        assert ours.sum(-1).tolist() == [min(k, query + 1) for query in QUERIES]


def test_equal_scores_are_ranked_by_place():
    model = make_model(CONFIG)
    for layer in model.modules():
        if isinstance(layer, SparseLatentAttention):
            layer.indexer.wq_b.weight.data.zero_()
    seen = survey(model, make_tokens(CONFIG, 1, LENGTH), QUERIES, most=5)
    assert seen.indexer.tolist() == [[[0, 1, 2, -1, -1], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]] * 2


def test_attention_is_that_of_the_dense_pass(model, tokens, seen):
    with selecting(model, topk=math.inf), watch_selection(model) as every, torch.no_grad():
        model(tokens)
    for attention, selection in zip(seen.attention, every.values(), strict=True):
        assert difference(attention, selection.attention[0, QUERIES]) < 1e-12
    assert difference(seen.attention.sum(-1), torch.ones(2, 3)) < 1e-12
    for row, query in enumerate(QUERIES):
        assert not seen.attention[:, row, query + 1 :].any()
    assert seen.queries.tolist() == QUERIES and not seen.attention.requires_grad


def test_the_model_is_left_as_it_was(model, tokens):
    with torch.no_grad():
        before = model(tokens)
        survey(model, tokens[0], [5])
        assert torch.equal(model(tokens), before)


def test_another_seed_is_another_draw(model, tokens, seen):
    assert not torch.equal(survey(model, tokens, QUERIES, most=8, seed=4).random, seen.random)
    assert torch.equal(survey(model, tokens[0], torch.tensor(QUERIES), most=8, seed=3).random, seen.random)


def test_recall_is_what_the_selected_tokens_keep(model, tokens, seen):
    for at in (0, 1):
        kept = recall(seen.attention[at], seen.indexer[at])
        for k in (1, 4, 8):
            chosen = selected(model, tokens, at, None, k)
            assert difference(kept[:, k - 1], (seen.attention[at] * chosen).sum(-1)) < 1e-12


def test_plain_numbers_say_the_same(model, tokens, seen):
    for at in (0, 1):
        for row, query in enumerate(QUERIES):
            weights = seen.attention[at, row].tolist()
            orders = {"indexer": [p for p in seen.indexer[at, row].tolist() if p >= 0]}
            ours = recall(seen.attention[at, row], seen.indexer[at, row])
            assert ours.tolist() == pytest.approx(plain.recall_curve("indexer", weights, query, orders, 8), abs=1e-12)
            for name, selector in (("window", window), ("oracle", oracle)):
                theirs = selected(model, tokens, at, selector, 4)[row, : query + 1].nonzero().flatten().tolist()
                assert sorted(plain.chosen(name, weights, query, {}, 4)) == theirs


@pytest.mark.parametrize(
    ("tokens", "queries", "message"),
    [
        (torch.zeros(2, 8, dtype=torch.int64), [1], r"tokens of shape \(2, 8\): expected one sequence"),
        (torch.zeros(8, dtype=torch.int64), [8], r"queries = \[8\]: expected places from 0 to 7"),
        (torch.zeros(8, dtype=torch.int64), [-1, 2], r"queries = \[-1, 2\]"),
        (torch.zeros(8, dtype=torch.int64), [], r"queries = \[\]"),
    ],
)
def test_bad_arguments_are_named(model, tokens, queries, message):
    with pytest.raises(ValueError, match=message):
        survey(model, tokens, queries)


def test_a_dense_model_is_refused():
    with pytest.raises(ValueError, match="expected one with sparse attention"):
        survey(make_model(CONFIGS["mla"]), torch.zeros(8, dtype=torch.int64), [1])
