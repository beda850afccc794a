"""Sparse attention: the report's equation, one choice for every way to compute it, and nothing read but the chosen."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIGS, INDEXER, MLA, SHAPE, difference, make_model, make_tokens, shake
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dsmini import generate
from dsmini.accounting import kv_cache_bytes
from dsmini.config import ModelConfig
from dsmini.model import dsa
from dsmini.model.cache import IndexedLatentCache
from dsmini.model.dsa import SparseLatentAttention, lightning, look_up, watch_selection
from dsmini.model.layers import RotaryEmbedding
from dsmini.model.mla import LatentAttention
from dsmini.model.selectors import selecting
from dsmini.probes import cache_meter, gradient_census, leak_probe

SPARSE = [name for name, config in CONFIGS.items() if config.has_indexer]
CONFIG = CONFIGS["sparse mla"]  # 5 indexer heads: all of them are silent for 3 % of the pairs, so ties are real


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer_of(config, length, seed=0):
    """A random layer, its input and its rotary tables."""
    layer = shake(SparseLatentAttention(config), seed).double()
    return layer, random(2, length, config.hidden_size), RotaryEmbedding(config)(torch.arange(length), torch.float64)


def views_of(layer, x, rope, mask=None):
    """Everything a pass without a cache would look at, as one `View`."""
    c_q = layer.q_a_layernorm(layer.q_a_proj(x))
    stored = layer.latents(x, rope), layer.indexer.keys(x, rope)
    return layer.view(x, c_q, rope, *stored, mask, slice(None))


@st.composite
def sparse_configs(draw):
    """Sizes of which no two need be equal."""
    rope = 2 * draw(st.integers(1, 3))
    return ModelConfig(
        hidden_size=draw(st.integers(2, 12)),
        num_hidden_layers=1,
        num_attention_heads=draw(st.integers(1, 4)),
        q_lora_rank=draw(st.integers(1, 9)),
        kv_lora_rank=draw(st.integers(1, 9)),
        qk_nope_head_dim=draw(st.integers(1, 7)),
        qk_rope_head_dim=rope,
        v_head_dim=draw(st.integers(1, 9)),
        index_n_heads=draw(st.integers(1, 4)),
        index_head_dim=rope + draw(st.integers(0, 4)),
        index_topk=draw(st.integers(1, 9)),
    )


# ---- what it computes -----------------------------------------------------------------------------------------------


@torch.no_grad()
def written_out(layer, x, rope, topk):
    """Score, sort, and attend in MHA form to the winners: one query at a time, with Python's own sort."""
    c_q = layer.q_a_layernorm(layer.q_a_proj(x))
    scores = layer.indexer(x, c_q, rope).tolist()
    q = torch.cat(layer.queries(x, rope), dim=-1)  # (B, T, H, d_k)
    c_kv, k_rope = layer.latents(x, rope).split((layer.kv_lora_rank, layer.d_rope), dim=-1)
    kv = layer.kv_b_proj(c_kv).unflatten(-1, (layer.num_heads, -1))
    k_nope, v = kv.split((layer.d_nope, layer.d_v), dim=-1)
    k = torch.cat((k_nope, k_rope[:, :, None].expand(-1, -1, layer.num_heads, -1)), dim=-1)
    out = torch.zeros(*x.shape[:2], layer.num_heads, layer.d_v, dtype=torch.float64)
    for b in range(len(x)):
        for t in range(x.shape[1]):
            best = sorted(range(t + 1), key=lambda s: -scores[b][t][s])[:topk]  # stable: the lowest place first
            weights = (layer.scale * torch.einsum("hd,shd->hs", q[b, t], k[b, best])).softmax(-1)
            out[b, t] = torch.einsum("hs,shd->hd", weights, v[b, best])
    return layer.o_proj(out.flatten(-2))


@given(sparse_configs(), st.integers(1, 14), st.integers(0, 99))
def test_layer_is_the_reports_equations(config, length, seed):
    layer, x, rope = layer_of(config, length, seed)
    with torch.no_grad():
        assert difference(layer(x, rope), written_out(layer, x, rope, config.index_topk)) < 1e-12


def masked(layer, view, places, counts):
    """The same attention in MHA form: all keys and values are built, and a mask hides what was not selected."""
    mask = torch.zeros(*places.shape[:2], view.latent.shape[1], dtype=torch.bool).scatter_(-1, places, True)
    if counts is not None:
        mask &= view.visible
    q_nope, q_rope = layer.split_queries(view.c_q, view.rope)
    return layer.expanded(q_nope, q_rope, view.latent, mask[:, None])


@given(sparse_configs(), st.integers(2, 14), st.integers(0, 99))
def test_gathered_equals_masked_with_its_gradients(config, length, seed):
    layer, x, rope = layer_of(config, length, seed)
    results = []
    for form in (layer.gathered, functools.partial(masked, layer)):
        layer.zero_grad()
        leaf = x.detach().requires_grad_()
        view = views_of(layer, leaf, rope)
        out = form(view, *layer.select(view))
        out.pow(2).sum().backward()
        results.append((out, [leaf.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]))
    (gathered, its_grads), (hidden, same_grads) = results
    assert difference(gathered, hidden) < 1e-12 and len(its_grads) == len(same_grads) == 8 - 1  # no o_proj here
    for grad, same in zip(its_grads, same_grads, strict=True):
        assert difference(grad, same) < 1e-12 * max(1, grad.abs().max().item())


@pytest.mark.parametrize("topk", [9, 10, 50])
def test_dense_while_there_are_no_more_tokens_than_topk(topk):
    config = CONFIG.replace(index_topk=topk)
    layer, x, rope = layer_of(config, length=9)
    plain = LatentAttention(config).double()
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("indexer.")})
    assert difference(layer(x, rope), plain(x, rope)) == 0.0
    view = views_of(layer, x, rope)
    every = layer.gathered(view, *layer.select(view))  # the sparse way, with everything selected
    assert difference(layer.o_proj(every.flatten(-2)), plain(x, rope)) < 1e-13


def test_one_token_less_is_no_longer_dense():
    layer, x, rope = layer_of(CONFIG.replace(index_topk=8), length=9)
    with selecting(layer, topk=math.inf):
        dense = layer(x, rope)
    sparse = layer(x, rope)
    assert difference(sparse[:, :8], dense[:, :8]) < 1e-13 and difference(sparse[:, 8], dense[:, 8]) > 1e-3


def test_queries_that_see_fewer_than_topk_see_all_they_may():
    layer, x, rope = layer_of(CONFIG, length=9)  # topk 4
    view = views_of(layer, x, rope)
    places, counts = layer.select(view)
    assert places.shape == counts.shape == (2, 9, 4)
    for t in range(9):
        for b in range(2):
            chosen = places[b, t][counts[b, t]].tolist()
            assert len(set(chosen)) == len(chosen) == min(t + 1, 4)
            assert max(chosen) <= t, "never the future"
            assert (places[b, t][~counts[b, t]] == 0).all()


def test_look_up_is_indexing():
    rows, places = random(3, 7, 5), torch.randint(7, (3, 2, 4))
    for b in (1, 3):
        expected = rows[:b][torch.arange(b)[:, None, None], places[:b]]
        assert torch.equal(look_up(rows[:b], places[:b]), expected)


# ---- one choice, however it is computed -----------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 700, 5000])
@pytest.mark.parametrize("name", SPARSE)
@torch.no_grad()
def test_blocks_equal_one_block(name, block, monkeypatch):
    model = make_model(CONFIGS[name])
    tokens = make_tokens(model.config, 2, 40)
    whole = model(tokens)
    sizes = []
    monkeypatch.setattr(dsa, "BLOCK", block)
    original = SparseLatentAttention.select
    spy = lambda self, view: sizes.append(view.x.shape[1]) or original(self, view)  # noqa: E731
    monkeypatch.setattr(SparseLatentAttention, "select", spy)
    assert difference(model(tokens), whole) < 1e-12
    assert max(sizes) == {1: 1, 700: 1, 5000: 12}[block] and sum(sizes) == 2 * 40


@pytest.mark.parametrize("name", SPARSE)
@torch.no_grad()
def test_chunks_and_single_tokens_equal_one_pass(name):
    model = make_model(CONFIGS[name])
    tokens = make_tokens(model.config, 3, 60)
    whole = model(tokens)
    for ends in ((60,), (*range(1, 61),), (3, 31, 32, 33, 50, 60)):
        cache, parts = model.new_cache(3, 64), []
        for start, end in zip((0, *ends[:-1]), ends, strict=True):
            parts.append(model(tokens[:, start:end], cache))
        assert difference(torch.cat(parts, dim=1), whole) < 1e-12


@torch.no_grad()
def test_rows_of_different_lengths_choose_as_if_alone():
    model = make_model(CONFIG)
    tokens = make_tokens(model.config, 3, 30)
    whole, cache = model(tokens), model.new_cache(3, 30)
    lengths = torch.tensor([20, 3, 11])
    first = model(tokens[:, :20], cache, lengths)
    for row, length in enumerate(lengths):
        assert difference(first[row, :length], whole[row, :length]) < 1e-12
    for _ in range(5):
        step = tokens.gather(1, cache.lengths[:, None])
        places = cache.lengths.clone()
        assert difference(model(step, cache)[:, 0], whole[torch.arange(3), places]) < 1e-12


@pytest.mark.parametrize("topk", [1, 4, 23])
def test_future_never_moves_the_past(topk):
    layer, x, rope = layer_of(CONFIG.replace(index_topk=topk), length=24)
    for position in (1, 2, 12, 22):
        assert leak_probe(lambda x: layer(x, rope), x, position) == 0.0


def test_cache_holds_the_latent_and_the_indexers_key():
    assert cache_meter(IndexedLatentCache(CONFIG, 2, 8), tokens=16) == CONFIG.num_hidden_layers * (12 + 6 + 8)
    cache = make_model(CONFIG, dtype=torch.bfloat16).new_cache(2, 8)
    assert cache.nbytes == kv_cache_bytes(CONFIG, tokens=8, batch_size=2)


@torch.no_grad()
def test_generation_is_the_same_with_and_without_a_cache():
    model = make_model(CONFIG)
    prompts = make_tokens(model.config, 2, 9)
    written = prompts
    for _ in range(12):
        written = torch.cat((written, model(written)[:, -1:].argmax(-1)), dim=1)
    assert [row.tolist() for row in generate(model, prompts, 12, temperature=0).tokens] == written[:, 9:].tolist()


# ---- nothing read but the chosen ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, [20, 5, 13]])
@torch.no_grad()
def test_decoding_never_reads_an_unselected_latent(lengths, monkeypatch):
    model = make_model(CONFIG.replace(num_hidden_layers=1))
    tokens, cache = make_tokens(model.config, 3, 21), model.new_cache(3, 32)
    model(tokens[:, :20], cache, lengths and torch.tensor(lengths))
    expected = model(tokens[:, 20:], cache.select(torch.arange(3)))
    original = SparseLatentAttention.gathered

    def poison_the_rest(self, view, places, counts=None):
        rest = torch.ones(3, view.latent.shape[1], dtype=torch.bool).scatter_(1, places[:, 0], False)
        assert rest.sum(1).tolist() == [view.latent.shape[1] - len(set(row)) for row in places[:, 0].tolist()]
        view.latent[rest] = float("nan")
        return original(self, view, places, counts)

    monkeypatch.setattr(SparseLatentAttention, "gathered", poison_the_rest)
    found = model(tokens[:, 20:], cache)
    assert torch.isnan(cache.layers[0].buffers[0]).any() and torch.equal(found, expected)


@torch.no_grad()
def test_slots_behind_a_rows_end_are_never_read():
    model = make_model(CONFIG)
    tokens, cache = make_tokens(model.config, 2, 9), model.new_cache(2, 12)
    model(tokens[:, :8], cache, torch.tensor([8, 2]))
    expected = model(tokens[:, 8:], cache.select(torch.arange(2)))
    for layer in cache.layers:
        layer.buffers[0][1, 3:] = float("nan")  # row 1 holds 2 tokens; this step writes the third, fewer than topk
    assert torch.equal(model(tokens[:, 8:], cache), expected)


class Largest(TorchDispatchMode):
    """The most values that any operation returned."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor._base is None:
                self.values = max(self.values, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@torch.no_grad()
def test_prefill_never_holds_a_score_for_every_pair(monkeypatch):
    length, block = 256, 2**15
    monkeypatch.setattr(dsa, "BLOCK", block)
    layer, x, rope = layer_of(CONFIG, length)
    with Largest() as largest:
        layer(x, rope)
    assert block / 2 < largest.values <= block < length * length, "not even once, let alone for every head"


# ---- who learns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPARSE)
def test_loss_of_the_model_trains_all_but_the_indexer(name):
    model = make_model(CONFIGS[name])
    tokens = make_tokens(model.config, 2, 20)
    F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    census = gradient_census(model)
    main = {n for n, _ in model.named_parameters() if ".indexer." not in n and not n.startswith("mtp.")}
    assert set(census.learning) == main and not census.zero


def test_choosing_builds_no_graph():
    model, asked = make_model(CONFIG), []

    def selector(attention, view):
        asked.append(torch.is_grad_enabled() or view.index_keys.requires_grad)
        return lightning(attention, view)

    with selecting(model, selector):
        assert model(make_tokens(model.config, 2, 20)).requires_grad
    assert asked == [False, False]


def indexer_loss(selection):
    """Some loss of the scores that all visible pairs enter."""
    return selection.scores.masked_fill(selection.scores.isinf(), 0).pow(2).sum()


def test_watched_scores_train_the_indexer_and_nothing_else():
    model = make_model(CONFIG)
    with watch_selection(model) as seen:
        model(make_tokens(model.config, 2, 20))
    assert list(seen) == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    sum(indexer_loss(selection) for selection in seen.values()).backward()
    census = gradient_census(model)
    assert set(census.learning) == {n for n, _ in model.named_parameters() if ".indexer." in n}
    assert not census.zero


def test_frozen_model_can_be_watched_without_a_graph_of_its_own():
    model = make_model(CONFIG)
    tokens = make_tokens(model.config, 2, 20)
    with watch_selection(model) as with_graph:
        model(tokens)
    with torch.no_grad(), watch_selection(model) as without:
        assert not model(tokens).requires_grad
    for name, selection in without.items():
        assert selection.scores.requires_grad
        assert not any(field.requires_grad for field in (selection.attention, selection.of_selected))
        for field, same in zip(selection, with_graph[name], strict=True):
            assert torch.equal(field, same)


def test_watching_changes_nothing_and_ends():
    model = make_model(CONFIG)
    tokens = make_tokens(model.config, 2, 12)
    before = model(tokens)
    with watch_selection(model) as seen:
        assert torch.equal(model(tokens), before)
    seen.clear()
    model(tokens)
    assert not seen


# ---- what a watcher sees --------------------------------------------------------------------------------------------


@torch.no_grad()
def shares_written_out(layer, x, rope, among):
    """Head-summed, L1-normalised attention from the textbook form; among: (B, T, T) bool."""
    q = torch.cat(layer.queries(x, rope), dim=-1)
    c_kv, k_rope = layer.latents(x, rope).split((layer.kv_lora_rank, layer.d_rope), dim=-1)
    k_nope = layer.kv_b_proj(c_kv).unflatten(-1, (layer.num_heads, -1))[..., : layer.d_nope]
    k = torch.cat((k_nope, k_rope[:, :, None].expand(-1, -1, layer.num_heads, -1)), dim=-1)
    logits = layer.scale * torch.einsum("bthd,bshd->bhts", q, k)
    summed = logits.masked_fill(~among[:, None], float("-inf")).softmax(-1).sum(1)
    return summed / summed.sum(-1, keepdim=True)


@torch.no_grad()
def test_watcher_sees_scores_choice_and_attention():
    model = make_model(CONFIG.replace(num_hidden_layers=1))
    layer, inputs = model.model.layers[0].self_attn, []
    layer.register_forward_hook(lambda _, args, out: inputs.append(args))
    with watch_selection(model) as seen:
        model(make_tokens(model.config, 2, 20))
    selection, (x, rope, *_) = seen["model.layers.0.self_attn"], inputs[0]
    causal = torch.ones(20, 20).tril().bool().expand(2, -1, -1)
    exact = layer.indexer(x, layer.q_a_layernorm(layer.q_a_proj(x)), rope)
    assert difference(selection.scores[causal], exact[causal]) < 1e-13
    assert torch.equal(selection.scores == float("-inf"), ~causal)
    assert selection.selected.sum(-1).tolist() == [[min(t + 1, 4) for t in range(20)]] * 2
    for t in range(20):
        best = sorted(range(t + 1), key=lambda s: -exact[0, t, s].item())[:4]
        assert selection.selected[0, t].nonzero().flatten().tolist() == sorted(best)
    assert difference(selection.attention, shares_written_out(layer, x, rope, causal)) < 1e-13
    assert difference(selection.of_selected, shares_written_out(layer, x, rope, selection.selected)) < 1e-13
    assert not selection.of_selected[~selection.selected].any()
    for shares in (selection.attention, selection.of_selected):
        assert difference(shares.sum(-1), torch.ones(2, 20)) < 1e-12


def test_watcher_may_ask_for_a_few_queries():
    model = make_model(CONFIG)
    tokens, queries = make_tokens(model.config, 2, 20), torch.tensor([19, 0, 7])
    with watch_selection(model) as every:
        model(tokens)
    with watch_selection(model, queries) as some:
        model(tokens)
    for name, selection in some.items():
        for few, field in zip(selection, every[name], strict=True):
            assert few.shape == (2, 3, 20)
            finite = field[:, queries].masked_fill(field[:, queries] == float("-inf"), 0)
            assert difference(few.masked_fill(few == float("-inf"), 0), finite) < 1e-13


def test_watcher_of_a_dense_layer_sees_everything_selected():
    model = make_model(CONFIG)
    with selecting(model, topk=math.inf), watch_selection(model) as seen:
        model(make_tokens(model.config, 2, 20))
    for selection in seen.values():
        assert torch.equal(selection.selected[0], torch.ones(20, 20).tril().bool())
        assert torch.equal(selection.attention, selection.of_selected)


def test_watching_a_cached_pass_is_refused():
    model = make_model(CONFIG)
    with watch_selection(model), pytest.raises(ValueError, match="watch_selection: expected a pass without a cache"):
        model(make_tokens(model.config, 2, 5), model.new_cache(2, 8))
    layer, x, rope = layer_of(CONFIG, length=5)
    cache = IndexedLatentCache(CONFIG, 2, 8, dtype=torch.float64)
    cache.begin(5)
    with watch_selection(layer) as seen, pytest.raises(ValueError, match="without a cache"):
        layer(x, rope, cache=cache.layers[0])
    with watch_selection(layer) as seen:
        layer(x=x, rope=rope)
    assert seen[""].scores.shape == (2, 5, 5)


# ---- construction ---------------------------------------------------------------------------------------------------


def test_indexer_is_all_that_a_sparse_layer_adds():
    plain = set(LatentAttention(CONFIG).state_dict())
    added = set(SparseLatentAttention(CONFIG).state_dict()) - plain
    assert added == {f"indexer.{n}" for n in ("wq_b.weight", "wk.weight", "k_norm.weight", "k_norm.bias",
                                              "weights_proj.weight")}  # fmt: skip


def test_split_queries_are_the_queries():
    layer, x, rope = layer_of(CONFIG, length=5)
    for ours, theirs in zip(layer.split_queries(layer.q_a_layernorm(layer.q_a_proj(x)), rope), layer.queries(x, rope),
                            strict=True):  # fmt: skip
        assert torch.equal(ours, theirs)


def test_lightning_reads_the_cached_keys():
    layer, x, rope = layer_of(CONFIG, length=6)
    view = views_of(layer, x, rope)
    c_q = layer.q_a_layernorm(layer.q_a_proj(x))
    assert difference(lightning(layer, view), layer.indexer(x, c_q, rope)) < 1e-13
    assert lightning(layer, view._replace(index_keys=torch.zeros_like(view.index_keys))).abs().max() == 0


def test_model_without_query_compression_has_no_indexer():
    with pytest.raises(ValueError, match="q_lora_rank = None"):
        ModelConfig(**SHAPE, **MLA, **{**INDEXER, "q_lora_rank": None})
