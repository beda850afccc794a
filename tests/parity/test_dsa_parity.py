"""Sparse attention equal to transformers' DeepseekV32ForCausalLM on the same random weights, in float64.

Sequences are longer than `index_topk`: shorter ones say nothing about the indexer. float32 has no place here: where two
scores are nearer than its digits, two correct implementations select different tokens, and everything behind differs.

Ties: with few indexer heads ReLU leaves exact zeros, and among equal scores `torch.topk`, which transformers uses,
chooses by the length of the row. Its cached and its uncached pass then differ from each other. The configs here have 16
heads, which are never all silent; where there are 4, transformers is given this book's rule (the lowest place first).
"""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny import difference, shake
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32Indexer
from twins import EXPERTS, YARN, make_twins, our_config, our_logits, precision, rope, their_logits, tokens_for, v3, v32

from dsmini.model.dsa import SparseLatentAttention, watch_selection
from dsmini.model.indexer import LightningIndexer, select_topk
from dsmini.model.layers import RMSNorm, apply_rope
from dsmini.model.transformer import Transformer
from dsmini.probes import gradient_census

PREFILL_AND_DECODE = (17, 24, *range(25, 41))  # a prompt, one more chunk, then token by token; index_topk is 6

CONFIGS = {
    "v3.2": v32(),
    "v3.2, YaRN": v32(rope_parameters=YARN),
    "v3.2, unequal mscales": v32(rope_parameters=rope(mscale=0.7, mscale_all_dim=1.3)),
    "v3.2, experts": v32(**EXPERTS),
    "v3.2, experts, YaRN": v32(**EXPERTS, rope_parameters=YARN),
    "v3.2, one token": v32(index_topk=1),
    "v3.2, all but one token": v32(index_topk=39),
    "v3.2, all tokens": v32(index_topk=40),
    "v3.2, indexer all rope": v32(index_head_dim=8),
    "v3.2, wide indexer": v32(index_n_heads=32, index_head_dim=40),
    "v3.2, biases": v32(attention_bias=True),
    "v3.2, other epsilon": v32(rms_norm_eps=1e-2),
    "v3.2, other theta": v32(rope_parameters={**YARN, "rope_theta": 500.0}),
    "v3.2, tied embeddings": v32(tie_word_embeddings=True),
}


def smallest_margin(model, tokens):
    """How far the last selected score lies above the first one that was left out, over all layers and queries."""
    margins = []
    with torch.no_grad(), watch_selection(model) as seen:
        model(tokens)
    for selection in seen.values():
        inside = selection.scores.masked_fill(~selection.selected, float("inf")).amin(-1)
        outside = selection.scores.masked_fill(selection.selected, float("-inf")).amax(-1)
        margins.append((inside - outside).min().item())
    return min(margins)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_equal_in_float64(name, seed):
    theirs, ours = make_twins(CONFIGS[name], seed)
    tokens = tokens_for(ours)
    assert smallest_margin(ours, tokens) > 1e-9, "no tie: every correct implementation selects the same tokens"
    expected = their_logits(theirs, tokens)
    assert 0.5 < expected.std() < 5
    for ends in (None, PREFILL_AND_DECODE):
        assert difference(our_logits(ours, tokens, ends), expected) <= 1e-12
        assert difference(their_logits(theirs, tokens, ends), expected) <= 1e-12


@st.composite
def sparse_configs(draw):
    heads, rope_dim = draw(st.integers(1, 4)), 2 * draw(st.integers(1, 4))
    return v32(
        hidden_size=heads * draw(st.integers(2, 8)),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        num_hidden_layers=draw(st.integers(1, 2)),
        q_lora_rank=draw(st.integers(1, 12)),
        kv_lora_rank=draw(st.integers(1, 12)),
        qk_nope_head_dim=draw(st.integers(1, 8)),
        qk_rope_head_dim=rope_dim,
        v_head_dim=draw(st.integers(1, 16)),
        index_n_heads=draw(st.integers(16, 20)),
        index_head_dim=rope_dim + draw(st.integers(0, 6)),
        index_topk=draw(st.integers(1, 14)),
        rope_parameters=draw(st.sampled_from([rope(), YARN])),
    )


@settings(max_examples=25)
@given(sparse_configs(), st.integers(0, 99))
def test_random_configs_agree(config, seed):
    theirs, ours = make_twins(config, seed)
    tokens = tokens_for(ours, batch_size=2, length=12)
    assume(smallest_margin(ours, tokens) > 1e-9)  # a query latent of one or two numbers can silence every head
    expected = their_logits(theirs, tokens)
    assert difference(our_logits(ours, tokens), expected) <= 1e-12
    assert difference(our_logits(ours, tokens, (5, *range(6, 13))), expected) <= 1e-12


@pytest.mark.parametrize("name", ["v3.2", "v3.2, experts, YaRN"])
def test_same_tokens_are_selected(name):
    theirs, ours = make_twins(CONFIGS[name])
    tokens, places = tokens_for(ours), []
    for module in theirs.modules():
        if isinstance(module, DeepseekV32Indexer):
            module.register_forward_hook(lambda _, args, out: places.append(out.long()))
    with watch_selection(ours) as seen:
        our_logits(ours, tokens)
    their_logits(theirs, tokens)
    for selection, chosen in zip(seen.values(), places, strict=True):
        full = slice(5, None)  # earlier queries see fewer than topk tokens, and theirs fill up with hidden ones
        expected = torch.zeros_like(selection.selected).scatter_(-1, chosen, True)
        assert torch.equal(selection.selected[:, full], expected[:, full])


@pytest.mark.parametrize("name", ["v3.2", "v3.2, YaRN", "v3.2, experts", "v3.2, biases"])
def test_gradients_are_equal_and_pass_by_the_indexer(name):
    theirs, ours = make_twins(CONFIGS[name])
    tokens = tokens_for(ours)
    with precision(torch.float64):
        logits = theirs(tokens[:, :-1]).logits
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    F.cross_entropy(ours(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert set(gradient_census(ours).none) == {name for name, grad in expected.items() if grad is None}
    for name, parameter in ours.named_parameters():
        if parameter.grad is not None:
            assert difference(parameter.grad, expected[name]) <= 1e-12 * max(1, expected[name].abs().max()), name


# ---- V3's weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"rope_parameters": YARN}, EXPERTS], ids=["plain", "YaRN", "experts"])
def test_v3_with_an_indexer_that_keeps_all_is_v3(changes):
    dense, v3_of_ours = make_twins(v3(**changes))
    config = our_config(v32(**changes, index_topk=40))
    ours = shake(Transformer(config), seed=9).double().eval()
    missing, unexpected = ours.load_state_dict(dense.state_dict(), strict=False)
    assert not unexpected and all(".indexer." in name for name in missing)
    tokens = tokens_for(ours)
    assert difference(our_logits(ours, tokens), our_logits(v3_of_ours, tokens)) == 0.0
    for ends in (None, PREFILL_AND_DECODE):
        assert difference(our_logits(ours, tokens, ends), their_logits(dense, tokens)) <= 1e-12
    for layer in ours.model.layers:
        layer.self_attn.topk = 6
    assert difference(our_logits(ours, tokens), our_logits(v3_of_ours, tokens)) > 1e-2, "an untrained indexer hurts"


# ---- ties -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lowest_place_first(monkeypatch):
    """torch.Tensor.topk by a stable sort: what transformers would select under this book's rule."""

    def topk(scores, k, dim=-1, largest=True, sorted=True):
        assert largest
        found = scores.sort(dim=dim, descending=True, stable=True)
        return torch.return_types.topk((found.values.narrow(dim, 0, k), found.indices.narrow(dim, 0, k)))

    def give():
        monkeypatch.setattr(torch.Tensor, "topk", topk)

    return give


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_ties_by_the_lowest_place_make_all_passes_equal(heads, lowest_place_first):
    theirs, ours = make_twins(v32(index_n_heads=heads))
    tokens = tokens_for(ours)
    found = our_logits(ours, tokens)
    assert smallest_margin(ours, tokens) == 0.0
    assert difference(our_logits(ours, tokens, PREFILL_AND_DECODE), found) <= 1e-12
    assert difference(their_logits(theirs, tokens), found) > 1e-3, "their rule is another one"
    lowest_place_first()
    assert difference(their_logits(theirs, tokens), found) <= 1e-12
    assert difference(their_logits(theirs, tokens, PREFILL_AND_DECODE), found) <= 1e-12
    assert difference(our_logits(ours, tokens), found) <= 1e-12


def test_their_own_passes_differ_where_there_are_ties():
    """The trap, so that nobody falls into it: in float64, and by far more than rounding."""
    theirs, _ = make_twins(v32(index_n_heads=2, index_topk=16))
    tokens = torch.randint(61, (3, 96), generator=torch.Generator().manual_seed(0))
    whole, steps = their_logits(theirs, tokens), their_logits(theirs, tokens, (64, *range(65, 97)))
    assert difference(whole, steps) > 1e-2


# ---- mistakes -------------------------------------------------------------------------------------------------------


def indexers(model):
    return [module for module in model.modules() if isinstance(module, LightningIndexer)]


def with_indexer(planted):
    def plant(model):
        for indexer in indexers(model):
            indexer.__class__ = planted

    return plant


def with_attention(planted):
    def plant(model):
        for layer in model.model.layers:
            layer.self_attn.__class__ = planted

    return plant


class Interleaved(LightningIndexer):
    def _place(self, heads, rope):
        turned, rest = heads.split((self.d_rope, self.head_dim - self.d_rope), dim=-1)
        return torch.cat((apply_rope(turned, *rope, interleaved=True), rest), dim=-1)


class RopeLast(LightningIndexer):
    def _place(self, heads, rope):
        rest, turned = heads.split((self.head_dim - self.d_rope, self.d_rope), dim=-1)
        return torch.cat((rest, apply_rope(turned, *rope, interleaved=False)), dim=-1)


class NoRope(LightningIndexer):
    def _place(self, heads, rope):
        return heads


class NoReLU(LightningIndexer):
    def scores(self, q, w, k):
        return torch.einsum("bth,bthd,bsd->bts", w, q, k)


class ReLUOfTheSum(LightningIndexer):
    def scores(self, q, w, k):
        return torch.einsum("bth,bthd,bsd->bts", w, q, k).relu()


class SoftmaxOfTheWeights(LightningIndexer):
    def queries(self, x, c_q, rope):
        q, w = super().queries(x, c_q, rope)
        return q, w.softmax(-1)


class NoCausalitySecondTime(SparseLatentAttention):
    """Top-k of a row with fewer than k visible tokens fills up with hidden ones, and nothing removes them."""

    def select(self, view):
        scores = self.selector(self, view)
        if view.visible is not None:
            scores = scores.masked_fill(~view.visible, float("-inf"))
        return select_topk(scores, min(self.topk, scores.shape[-1])), None


class UnnormedLatent(SparseLatentAttention):
    """The indexer reads the query latent before its norm."""

    def views(self, x, c_q, *rest):
        for view in super().views(x, c_q, *rest):
            raw = self.q_a_proj(view.x)
            yield view._replace(c_q=raw)


def rms_norm_of_the_key(model):
    for indexer in indexers(model):
        norm = RMSNorm(indexer.head_dim).double()
        norm.weight = indexer.k_norm.weight
        indexer.k_norm = norm


def no_bias(model):
    for indexer in indexers(model):
        nn.init.zeros_(indexer.k_norm.bias)


def no_norm_of_the_key(model):
    for indexer in indexers(model):
        indexer.k_norm = nn.Identity()


def other_epsilon(model):
    for indexer in indexers(model):
        indexer.k_norm.eps = 0.5


def dense(model):
    for layer in model.model.layers:
        layer.self_attn.topk = 40


def one_token_more(model):
    for layer in model.model.layers:
        layer.self_attn.topk += 1


PLANTED = {
    "interleaved rope": with_indexer(Interleaved),
    "rope on the last dimensions": with_indexer(RopeLast),
    "no rope": with_indexer(NoRope),
    "no ReLU": with_indexer(NoReLU),
    "ReLU of the sum": with_indexer(ReLUOfTheSum),
    "softmax of the weights": with_indexer(SoftmaxOfTheWeights),
    "RMSNorm for LayerNorm": rms_norm_of_the_key,
    "no bias in the norm": no_bias,
    "no norm of the key": no_norm_of_the_key,
    "other epsilon": other_epsilon,
    "no second causal mask": with_attention(NoCausalitySecondTime),
    "query latent before its norm": with_attention(UnnormedLatent),
    "dense": dense,
    "one token more": one_token_more,
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistake_breaks_parity(mistake):
    theirs, ours = make_twins(v32(rope_parameters=YARN))
    tokens = tokens_for(ours)
    expected = their_logits(theirs, tokens)
    for ends in (None, PREFILL_AND_DECODE):
        assert difference(our_logits(ours, tokens, ends), expected) <= 1e-12
    with torch.no_grad():
        PLANTED[mistake](ours)
    assert difference(our_logits(ours, tokens), expected) > 1e-3
    assert difference(our_logits(ours, tokens, PREFILL_AND_DECODE), expected) > 1e-3


@pytest.mark.parametrize("mistake", ["interleaved rope", "no ReLU", "RMSNorm for LayerNorm"])
def test_planted_mistake_is_invisible_below_topk(mistake):
    """Why short tests prove nothing: six tokens, six of which are kept."""
    theirs, ours = make_twins(v32())
    PLANTED[mistake](ours)
    tokens = tokens_for(ours)
    assert difference(our_logits(ours, tokens[:, :6]), their_logits(theirs, tokens[:, :6])) <= 1e-12
    assert difference(our_logits(ours, tokens), their_logits(theirs, tokens)) > 1e-3


def test_their_indexer_cannot_be_trained():
    """What this book adds: transformers scores without a gradient."""
    theirs = shake(AutoModelForCausalLM.from_config(v32()))
    theirs(tokens_for(theirs)).logits.sum().backward()
    deaf = {name for name, parameter in theirs.named_parameters() if parameter.grad is None}
    assert len(deaf) == 2 * 5 and all(".indexer." in name for name in deaf)
