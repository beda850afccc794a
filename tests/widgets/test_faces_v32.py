"""The face of the sparsity explorer: what it takes, refuses, and says without JavaScript."""

import re

import numpy as np
import pytest
import torch
from lean_attention import LEAN, LEAN_WORDS
from tiny import CONFIGS, make_model, make_tokens
from traitlets import TraitError

from dsmini import widgets
from dsmini.model.sparsity import recall as recall_of_tensors
from dsmini.model.sparsity import survey
from dsmini.widgets import faces_v32, still, toys


def lean(**changes):
    return {**LEAN, **changes}


ATTENTION = LEAN["attention"][0][0]


def test_traits_go_both_ways():
    changes = {"layer": 1, "query": 8, "k": 32, "method": "oracle"}
    widget, other = widgets.sparsity(), widgets.sparsity()
    for name, value in changes.items():
        setattr(widget, name, value)
    assert {name: widget.get_state()[name] for name in changes} == changes
    other.set_state(changes)
    assert {name: getattr(other, name) for name in changes} == changes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 2}, "layer = 2: expected at most 1"),
        ({"layer": -1}, "layer"),
        ({"query": 9}, "query = 9: expected at most 8"),
        ({"query": 0}, "query"),
        ({"k": 33}, "k = 33: expected at most 32"),
        ({"k": 0}, "k"),
        ({"method": "blocks"}, "method"),
        ({"needles": [3]}, r"needles = \[3\]: expected for each of 8 queries"),
        ({"needles": [191] * 8}, "expected for each of 8 queries a place up to it"),
        ({"words": ["x"]}, "words: 1 of them, expected 192"),
        ({"seen": lean(queries=[20])}, r"queries = \[20\]: expected 1 places from 0 to 19"),
        ({"seen": lean(queries=[8])}, "attention of the query at 8: expected shares that sum to 1, 0 after"),
        ({"seen": lean(queries=[0], attention=[[[1.0] + [0.0] * 19]])}, r"queries = \[0\]: .* not only the first"),
        ({"seen": lean(queries=[1], attention=[[[0.5, 0.5]]])}, "attention: 1 x 1 x 2 shares, expected 8 to 4,096"),
        ({"seen": lean(attention=[[[0.5 * share for share in ATTENTION]]])}, "expected shares that sum to 1"),
        ({"seen": lean(attention=[[ATTENTION], [ATTENTION[:19]]])}, r"attention: layers of sizes \[\(1, 19\), \(1, 20"),
        ({"seen": lean(attention=[[ATTENTION + [0.0] * 4100]])}, "attention: 1 x 1 x 4120 shares, expected 8 to 4,096"),
        ({"seen": lean(attention=[[ATTENTION + [0.0] * 2980] * 30], queries=[9] * 30)}, "70,000 shares at most"),
        ({"seen": lean(indexer=[[[5, 4, 9, 0]]] * 2)}, "indexer: 2 layers, expected 1"),
        ({"seen": lean(indexer=[[[5, 4, 9, 0]] * 2])}, "indexer: places of 2 queries, expected 1"),
        ({"seen": lean(indexer=[[[5, 4, 9, 9]]])}, "indexer of the query at 9: expected 4 places up to it, once"),
        ({"seen": lean(indexer=[[[5, 4, 9, 10]]])}, "indexer of the query at 9"),
        ({"seen": lean(indexer=[[[5, 4, 9, -1]]])}, "indexer of the query at 9"),
        ({"seen": lean(random=[[2, 7, 4]])}, "indexer of the query at 9: expected 3 places"),
        ({"seen": lean(random=[])}, "random: places of 0 queries|indexer"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TraitError), match=message):
        widgets.sparsity(**arguments)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_arrays_and_tensors_do_as_well_as_lists(kind):
    own = widgets.sparsity({name: kind(value) for name, value in LEAN.items()}, needles=kind([4]), k=2)
    assert own.props() == widgets.sparsity(LEAN, needles=[4], k=2).props()
    assert (own.needles, own.most, widgets.sparsity(LEAN, needles=[None]).needles) == ([4], 4, [-1])


def test_a_share_keeps_its_digits():
    shares = [1.0, 0.5, 0.002, 1e-4, 1e-9, 0.0, 1.0005]
    back = [(root / 4095) ** 2 for root in faces_v32.unpack(faces_v32.pack_shares(shares))]
    assert back == [1.0, pytest.approx(0.5, abs=2e-4), pytest.approx(0.002, abs=2e-5), pytest.approx(1e-4, abs=5e-6),
                    0.0, 0.0, 1.0]  # fmt: skip


@pytest.fixture(scope="module")
def surveyed():
    model = make_model(CONFIGS["sparse mla"])
    tokens = make_tokens(model.config, 1, 40)
    return survey(model, tokens, [3, 20, 30, 39], most=12)


def test_a_real_model_s_recall_is_kept(surveyed):
    own = widgets.sparsity(surveyed, needles=[-1, 4, 30, 0], k=12)
    for layer in (0, 1):
        for method, places in (("indexer", surveyed.indexer[layer]), ("random", surveyed.random)):
            kept = recall_of_tensors(surveyed.attention[layer], places).mean(0)
            assert own.mean_recall(layer, method) == pytest.approx(kept.tolist(), abs=1e-3)
            masks = [needle in row[:5].tolist() for needle, row in zip(own.needles, places, strict=True)]
            assert own.needles_found(layer, method, 5) == sum(masks[1:])
        best = surveyed.attention[layer].sort(-1, descending=True).values.cumsum(-1).mean(0)[:12]
        assert own.mean_recall(layer, "oracle") == pytest.approx(best.tolist(), abs=1e-3)
    assert own.mean_recall(0, "dense") == [1.0] * 12


def test_the_toy_is_sparse_and_its_indexer_is_between_window_and_oracle():
    own = widgets.sparsity()
    for layer in (0, 1):
        window_, indexer, best = (own.mean_recall(layer, name)[15] for name in ("window", "indexer", "oracle"))
        assert 3 * window_ < indexer < best < 1
    assert own.needles == toys.sparse_attention()["needles"]


def test_a_full_page_of_attention_fits():
    """32 queries of 512 tokens in 2 layers, the chapter's size, stay under half of what a page may hold."""
    queries = list(range(449, 512, 2))
    rows = [[1 / (query + 1)] * (query + 1) + [0.0] * (511 - query) for query in queries]
    places = [list(range(64))] * 32
    seen = {"queries": queries, "attention": [rows] * 2, "indexer": [places] * 2, "random": places}
    assert len(widgets.sparsity(seen, needles=[5] * 32, words=["k10=10"] * 512).to_html()) < 100_000


def test_the_fallback_tells_the_numbers():
    own = widgets.sparsity(LEAN, needles=[4], k=2, words=LEAN_WORDS)
    told = own.fallback()
    assert "<p>1 query of one text of 20 tokens, layer 0." in told and "2 tokens keep" in told
    assert "lightning indexer: 56.8%; the needle is among them: 1 of 1" in told
    assert "window: 13.6%; the needle is among them: 0 of 1" in told and "oracle: 56.8%" in told
    assert "needle" not in widgets.sparsity(LEAN, k=2).fallback()
    assert "<b>" not in own.to_html()


def test_the_still_figure_draws_what_the_numbers_say():
    drawn = still.recall_figure({"indexer": [0.25, 0.5, 0.75, 1.0], "window": [0.0, 0.0, 0.0, 0.0]})
    first, second = (re.findall(r"(\d+),(\d+)", points) for points in re.findall("points='([^']*)'", drawn))
    assert [int(y) for _, y in first] == [145, 100, 55, 10] and {int(y) for _, y in second} == {190}
    xs = [int(x) for x, _ in first]
    assert xs == [40, 170, 246, 300]  # 1 to 2 is as far as 2 to 4
    assert "With 4 tokens: lightning indexer 100%; window 0%." in drawn
    assert still.spread({"a": 10, "b": 12, "c": 100}, 14) == {"a": 10, "b": 24, "c": 100}
