"""Experts and their router: equal to plain loops, the bias chooses and never weighs, balance does what it says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIGS, MLA, SHAPE, SOFTMAX, difference, make_model, make_tokens, shake
from torch.nn import functional as F

from dsmini.config import ModelConfig
from dsmini.model.moe import (
    MixtureOfExperts,
    Router,
    expert_load,
    max_violation,
    select_experts,
    sequence_balance_loss,
    watch_routing,
)
from dsmini.model.transformer import Transformer
from dsmini.probes import gradient_census

BASE = CONFIGS["mla, experts"]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def block(config=BASE, seed=0, dtype=torch.float64):
    return shake(MixtureOfExperts(config), seed).to(dtype)


def token_by_token(moe, x):
    """The same layer as a loop over tokens and their experts, each written out."""
    routing, out = moe.gate(x), torch.zeros_like(x)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            for expert, weight in zip(routing.experts[b, t], routing.weights[b, t], strict=True):
                gate, up = moe.experts.gate_up_proj[expert].chunk(2)
                hidden = F.silu(gate @ x[b, t]) * (up @ x[b, t])
                out[b, t] = out[b, t] + weight * (moe.experts.down_proj[expert] @ hidden)
    return out + moe.shared_experts(x)


def chosen_by_hand(biased, k, n_group, topk_group, best):
    """select_experts in plain Python, for one token."""
    size = len(biased) // n_group
    groups = [biased[i * size : (i + 1) * size] for i in range(n_group)]
    ranked = sorted(range(n_group), key=lambda g: -sum(sorted(groups[g], reverse=True)[:best]))[:topk_group]
    allowed = [e for e in range(len(biased)) if e // size in ranked]
    return set(sorted(allowed, key=lambda e: -biased[e])[:k])


@st.composite
def shapes(draw):
    n_group = draw(st.integers(1, 5))
    size = draw(st.integers(1, 5))
    topk_group = draw(st.integers(1, n_group))
    k = draw(st.integers(1, size * topk_group))
    return n_group, size, topk_group, k


@given(shapes(), st.sampled_from([("top2", 2), ("max", 1)]), st.integers(0, 99))
def test_selection_is_the_rule_by_hand(shape, group_by, seed):
    n_group, size, topk_group, k = shape
    scores = random(2, 3, n_group * size, seed=seed)  # half of them negative
    found = select_experts(scores, k, n_group, topk_group, group_by[0])
    for token, experts in zip(scores.flatten(0, 1), found.flatten(0, 1), strict=True):
        assert set(experts.tolist()) == chosen_by_hand(token.tolist(), k, n_group, topk_group, min(group_by[1], size))


def test_groups_left_out_stay_out_when_the_others_are_negative():
    scores = torch.tensor([[-0.1, -0.2, -9.0, -9.0]])
    assert set(select_experts(scores, 2, n_group=2, topk_group=1)[0].tolist()) == {0, 1}


@pytest.mark.parametrize("name", ["mla, experts", "mla, softmax experts"])
@pytest.mark.parametrize("length", [1, 7])
def test_sorted_experts_equal_the_plain_loop_in_value_and_gradient(name, length):
    layers = [block(CONFIGS[name]), block(CONFIGS[name])]
    x = random(2, length, 32)
    outputs = [layers[0](x), token_by_token(layers[1], x)]
    assert difference(*outputs) < 1e-12
    for output in outputs:
        output.pow(2).sum().backward()
    for (key, fast), (_, slow) in zip(layers[0].named_parameters(), layers[1].named_parameters(), strict=True):
        assert difference(fast.grad, slow.grad) < 1e-12 * max(1, slow.grad.abs().max().item()), key


def test_experts_that_nobody_chose_get_a_gradient_of_zero():
    layer = block()
    layer.gate.e_score_correction_bias[:] = torch.tensor([9.0] * 4 + [-9.0] * 4)
    layer(random(2, 5, 32)).pow(2).sum().backward()
    assert layer.experts.down_proj.grad[:4].any() and not layer.experts.down_proj.grad[4:].any()
    assert not layer.gate.weight.grad[4:].any()


def test_bias_chooses_but_never_weighs():
    router, x = shake(Router(BASE)).double(), random(2, 5, 32)
    scores = router(x).scores
    plain = torch.sigmoid(x @ router.weight.T)
    assert difference(scores, plain) < 1e-14
    router.e_score_correction_bias[:] = torch.tensor([5.0, 4.0, 3.0] + [0.0] * 5)
    routing = router(x)
    assert (routing.experts.sort(-1).values == torch.tensor([0, 1, 2])).all()
    picked = plain.gather(-1, routing.experts)
    assert difference(routing.weights, picked / picked.sum(-1, keepdim=True) * 2.5) < 1e-14


def test_sigmoid_weights_add_up_to_the_scale_and_softmax_weights_do_not():
    x = random(2, 5, 32)
    assert difference(shake(Router(BASE)).double()(x).weights.sum(-1), torch.full((2, 5), 2.5)) < 1e-12
    config = BASE.replace(**SOFTMAX)
    routing = shake(Router(config)).double()(x)
    assert difference(routing.scores.sum(-1), torch.ones(2, 5)) < 1e-14
    assert difference(routing.weights, 2.5 * routing.scores.gather(-1, routing.experts)) < 1e-14


def test_greedy_router_knows_no_groups_and_v2_has_no_bias():
    config = BASE.replace(**{**SOFTMAX, "topk_method": "greedy"})
    router, x = shake(Router(config)).double(), random(2, 9, 32)
    assert torch.equal(router(x).experts, router(x).scores.topk(3).indices)
    assert router.e_score_correction_bias is None and set(router.state_dict()) == {"weight"}


def test_no_gradient_reaches_the_bias_and_all_else_learns():
    layer = block()
    layer(random(2, 9, 32)).pow(2).sum().backward()
    assert gradient_census(layer).all_learn
    assert not layer.gate.e_score_correction_bias.requires_grad
    assert "gate.e_score_correction_bias" in layer.state_dict()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_still_routes_in_float32_and_keeps_its_bias(dtype):
    layer = block(dtype=torch.float32)
    bias = layer.gate.e_score_correction_bias.clone()
    half = block(dtype=torch.float32).to(dtype)
    assert half.gate.weight.dtype == dtype
    assert torch.equal(half.gate.e_score_correction_bias, bias)
    x = random(2, 5, 32).to(dtype)
    routing = half.gate(x)
    expected = torch.sigmoid(x.float() @ half.gate.weight.float().T)
    assert routing.scores.dtype == torch.float32 and difference(routing.scores, expected) < 1e-6
    assert half(x).dtype == dtype


def test_balance_follows_the_sign_and_stops_at_the_mean():
    router = Router(BASE)
    router.balance(torch.tensor([8, 0, 4, 4, 6, 2, 4, 4]), speed=0.25)
    assert router.e_score_correction_bias.tolist() == [-0.25, 0.25, 0, 0, -0.25, 0.25, 0, 0]


def test_balancing_evens_out_a_lopsided_router():
    router = shake(Router(BASE.replace(n_group=1, topk_group=1))).double()
    router.e_score_correction_bias[:] = torch.tensor([1.0] + [0.0] * 7)
    x = random(4, 64, 32)
    before = max_violation(expert_load(router(x).experts, 8))
    for _ in range(300):
        router.balance(expert_load(router(x).experts, 8), speed=0.01)
    after = max_violation(expert_load(router(x).experts, 8))
    assert before > 1.5 and after < 0.1


def test_load_counts_every_choice():
    experts = torch.tensor([[[0, 1], [0, 3]], [[0, 1], [4, 1]]])
    assert expert_load(experts, 6).tolist() == [3, 3, 0, 1, 1, 0]


def test_max_violation_is_how_far_the_busiest_lies_above_the_mean():
    assert max_violation(torch.tensor([5, 5, 5, 5])) == 0
    assert max_violation(torch.tensor([10, 6, 4, 0])) == pytest.approx(1.0)
    assert max_violation(torch.tensor([12, 0, 0, 0])) == pytest.approx(3.0)


def balance_loss_by_hand(scores, k):
    """V3 report, eq. 17-20, sum by sum."""
    sequences, length, experts = scores.shape
    total = 0.0
    for sequence in scores.tolist():
        for i in range(experts):
            best = sum(i in sorted(range(experts), key=lambda e, s=s: -s[e])[:k] for s in sequence)
            f = experts / (k * length) * best
            p = sum(s[i] / sum(s) for s in sequence) / length
            total += f * p
    return total / sequences


@given(st.integers(1, 3), st.integers(1, 6), st.integers(2, 6), st.data())
def test_balance_loss_is_the_reports_sum(sequences, length, experts, data):
    k = data.draw(st.integers(1, experts))
    scores = random(sequences, length, experts, seed=data.draw(st.integers(0, 99))).sigmoid()
    assert sequence_balance_loss(scores, k).item() == pytest.approx(balance_loss_by_hand(scores, k), rel=1e-12)


def test_balance_loss_is_one_when_even_and_pushes_down_the_busy():
    even = torch.eye(4, dtype=torch.float64).repeat(2, 2, 1) + 0.5
    assert sequence_balance_loss(even, 1).item() == pytest.approx(1.0)
    lopsided = (torch.tensor([0.9, 0.5, 0.5, 0.5]).double().repeat(1, 6, 1)).requires_grad_()
    loss = sequence_balance_loss(lopsided, 1)
    loss.backward()
    assert loss > 1 and (lopsided.grad[..., 0] > 0).all() and (lopsided.grad[..., 1:] < 0).all()


def test_watching_tells_every_router_by_name_and_stops_afterwards():
    model = make_model(CONFIGS["mla, experts, MTP"])
    tokens = make_tokens(model.config, 2, 6)
    with watch_routing(model) as routes:
        hidden = model.hidden_states(tokens)
        model.predict_ahead(hidden[:, :-1], tokens[:, 1:])
    assert list(routes) == ["model.layers.1.mlp.gate", "mtp.0.block.mlp.gate"]
    first, ahead = routes.values()
    assert first.experts.shape == (2, 6, 3) and ahead.scores.shape == (2, 5, 8)
    assert first.scores.requires_grad and isinstance(model.get_submodule(list(routes)[0]), Router)
    seen = dict(routes)
    model(tokens)
    assert routes == seen, "nothing is watched after the block"


def test_routed_experts_alone_when_none_is_shared():
    layer = block(BASE.replace(n_shared_experts=None))
    assert not hasattr(layer, "shared_experts") and layer(random(1, 4, 32)).shape == (1, 4, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring_func": "tanh"}, "scoring_func = 'tanh': expected one of sigmoid, softmax"),
        ({"topk_method": "best"}, "topk_method = 'best': expected one of noaux_tc, greedy, group_limited_greedy"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok = 5: expected at most the 4 experts of the 2 chosen groups"),
    ],
)
def test_router_that_cannot_be_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        BASE.replace(**changes)


def test_fresh_weights_have_the_configs_spread():
    torch.manual_seed(0)
    wide = ModelConfig(**{**SHAPE, "hidden_size": 128}, **MLA, n_routed_experts=16, num_experts_per_tok=2,
                       moe_intermediate_size=64, initializer_range=0.05)  # fmt: skip
    layer = Transformer(wide).model.layers[0].mlp
    for name, weight in layer.named_parameters():
        assert weight.std().item() == pytest.approx(0.05, rel=0.1), name
    assert not layer.gate.e_score_correction_bias.any()
