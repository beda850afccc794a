"""Baselines under the same budget: each keeps its promise, and none breaks causality or depends on the cache."""

import math

import pytest
import torch
from tiny import CONFIGS, difference, make_model, make_tokens

from dsmini.model.dsa import View, lightning, watch_selection
from dsmini.model.selectors import BlockMean, Random, oracle, selecting, window
from dsmini.probes import leak_probe

CONFIG = CONFIGS["sparse mla"]
SELECTORS = {"indexer": lightning, "window": window, "random": Random(3), "oracle": oracle, "blocks": BlockMean(2),
             "odd blocks": BlockMean(3)}  # fmt: skip


def selections(selector, length=24, topk=4):
    """The `Selection` of every layer of one model under a selector."""
    model = make_model(CONFIG)
    with selecting(model, selector, topk), watch_selection(model) as seen, torch.no_grad():
        model(make_tokens(model.config, 2, length))
    return list(seen.values())


@pytest.mark.parametrize("name", SELECTORS)
@torch.no_grad()
def test_cached_equals_uncached(name):
    model = make_model(CONFIG)
    tokens = make_tokens(model.config, 3, 24)
    with selecting(model, SELECTORS[name]):
        whole, cache = model(tokens), model.new_cache(3, 32)
        first = model(tokens[:, :9], cache, torch.tensor([9, 4, 1]))
        for row, length in enumerate((9, 4, 1)):
            assert difference(first[row, :length], whole[row, :length]) < 1e-12
        for _ in range(10):
            places = cache.lengths.clone()
            step = tokens.gather(1, places[:, None])
            assert difference(model(step, cache)[:, 0], whole[torch.arange(3), places]) < 1e-12
        even = model.new_cache(3, 32)  # rows of one length need no mask
        steps = [model(tokens[:, t : t + 1], even) for t in range(24)]
        assert difference(torch.cat(steps, dim=1), whole) < 1e-12


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("topk", [1, 5])
def test_future_never_moves_the_past(name, topk):
    model = make_model(CONFIG)
    with selecting(model, SELECTORS[name], topk):
        assert leak_probe(model, make_tokens(model.config, 2, 24)) == 0.0


@pytest.mark.parametrize("name", SELECTORS)
def test_budget_is_kept_and_used(name):
    for selection in selections(SELECTORS[name], topk=5):
        assert selection.selected.sum(-1).tolist() == [[min(t + 1, 5) for t in range(24)]] * 2


@pytest.mark.parametrize("name", SELECTORS)
@torch.no_grad()
def test_all_are_dense_when_the_budget_is_large_enough(name):
    model = make_model(CONFIG)
    tokens = make_tokens(model.config, 2, 12)
    with selecting(model, topk=math.inf):
        dense = model(tokens)
    with selecting(model, SELECTORS[name], 12):
        assert torch.equal(model(tokens), dense)


def test_window_is_the_most_recent_tokens():
    for selection in selections(window):
        for t in range(24):
            assert selection.selected[1, t].nonzero().flatten().tolist() == list(range(max(0, t - 3), t + 1))


def test_oracle_keeps_the_most_attention_that_the_budget_buys():
    kept = {name: [s.attention[s.selected].sum().item() for s in selections(selector)][0]  # one layer: same inputs
            for name, selector in SELECTORS.items()}  # fmt: skip
    assert kept["oracle"] == max(kept.values()) and len(set(kept.values())) == len(kept)
    best = selections(oracle)[0]
    assert best.attention[best.selected].sum().item() == pytest.approx(best.attention.topk(4).values.sum().item())


def test_random_draws_evenly_and_differently():
    def drawn(seed):
        return selections(Random(seed), length=64, topk=8)[0].selected

    first = drawn(0)
    assert torch.equal(first, drawn(0)) and not torch.equal(first, drawn(1))
    late = first[:, 32:, :32].double().mean((0, 1))  # the chance of each early token to be seen by a late query
    assert late.std() < 0.1 and late.mean().item() == pytest.approx(8 / 48, abs=0.05)
    assert len({tuple(row.tolist()) for row in first[0, 32:, :32]}) > 24, "every query draws anew"
    layers = make_model(CONFIG)
    with selecting(layers, [Random(0), Random(1)]), watch_selection(layers) as seen:
        layers(make_tokens(layers.config, 1, 40))
    one, other = seen.values()
    assert not torch.equal(one.selected, other.selected)


def test_block_mean_takes_whole_blocks_and_its_own():
    for selection in selections(BlockMean(3), topk=6):
        for t in range(8, 24):
            blocks = selection.selected[0, t, : t - t % 3].unflatten(0, (-1, 3))
            assert selection.selected[0, t, t - t % 3 : t + 1].all(), "the query's own block, as far as it goes"
            assert sorted(set(blocks.sum(-1).tolist())) in ([0, 3], [0, 2, 3], [0, 1, 3]), "one block may be cut short"


@torch.no_grad()
def test_block_mean_scores_are_attention_to_mean_keys():
    layer = make_model(CONFIG).model.layers[0].self_attn
    random = torch.Generator().manual_seed(0)
    q, latent = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in ((1, 1, 4, 18), (1, 8, 18)))
    seen = torch.arange(8)[None, None] < 8 - 1  # blocks of 3, 3 and 1 visible tokens
    scores = BlockMean(3)(layer, View(None, None, None, q, latent, None, seen))[0, 0]
    means = torch.stack([latent[0, :3].mean(0), latent[0, 3:6].mean(0), latent[0, 6]])
    shares = (layer.scale * q[0, 0] @ means.T).softmax(-1).sum(0)
    assert difference(scores[:6], shares[:2].repeat_interleave(3)) < 1e-13 and (scores[6:] == float("inf")).all()


def test_block_mean_of_single_tokens_is_the_oracle():
    """A block of one is its own mean; the query itself comes first, which the oracle need not agree with."""
    ours, best = selections(BlockMean(1))[0], selections(oracle)[0]
    own = torch.eye(24, dtype=torch.bool)
    agree = best.selected[:, own].all(0)
    assert agree.any() and torch.equal(ours.selected[:, agree], best.selected[:, agree])


def test_selecting_ends_with_what_was_there():
    model = make_model(CONFIG)
    layers = [layer.self_attn for layer in model.model.layers]
    with pytest.raises(ZeroDivisionError), selecting(model, window, 2):
        assert [(layer.selector, layer.topk) for layer in layers] == [(window, 2)] * 2
        with selecting(model, topk=7):
            assert [(layer.selector, layer.topk) for layer in layers] == [(window, 7)] * 2
        assert layers[0].topk == 2
        raise ZeroDivisionError
    assert [(layer.selector, layer.topk) for layer in layers] == [(lightning, 4)] * 2


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mla", {}, "model: expected one with sparse attention"),
        ("sparse mla", {"topk": 0}, "topk = 0: expected 1 or more"),
        ("sparse mla", {"selector": [window]}, "selector: 1 for 2 sparse layers"),
    ],
)
def test_bad_arguments_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message), selecting(make_model(CONFIGS[name]), **arguments):
        pass
    with pytest.raises(ValueError, match="size = 0: expected 1 or more"):
        BlockMean(0)
