"""Multi-head Latent Attention: its two forms are one function, and its cache is one small row per token."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIGS, MLA, SHAPE, YARN, difference, shake

from dsmini.accounting import attention_flops
from dsmini.config import PRESETS, ModelConfig
from dsmini.model.cache import LatentCache
from dsmini.model.layers import RotaryEmbedding, apply_rope
from dsmini.model.mla import LatentAttention
from dsmini.probes import cache_meter, gradient_census, leak_probe

LATENT = [name for name in CONFIGS if name.startswith("mla")]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer_of(config, length, seed=0):
    """A random layer, its input and its rotary tables."""
    layer = shake(LatentAttention(config), seed).double()
    return layer, random(2, length, config.hidden_size), RotaryEmbedding(config)(torch.arange(length), torch.float64)


def written_out(layer, x, rope, config):
    """MLA as the report writes it (V3, eq. 1-11; the latent norms are the code's), one head and one query at a time."""
    d_c, d_n, d_v = config.kv_lora_rank, config.qk_nope_head_dim, config.v_head_dim
    norm = torch.nn.functional.rms_norm
    down = layer.kv_a_proj_with_mqa(x)
    c_kv = norm(down[..., :d_c], (d_c,), layer.kv_a_layernorm.weight, 1e-6)
    k_rope = apply_rope(down[..., None, d_c:], *rope)[..., 0, :]
    if config.q_lora_rank is None:
        q = layer.q_proj(x)
    else:
        c_q = norm(layer.q_a_proj(x), (config.q_lora_rank,), layer.q_a_layernorm.weight, 1e-6)
        q = layer.q_b_proj(c_q)
    scale = 1 / math.sqrt(d_n + config.qk_rope_head_dim)
    if config.rope_scaling is not None:
        scale *= (0.1 * config.rope_scaling.mscale_all_dim * math.log(config.rope_scaling.factor) + 1) ** 2
    outputs = []
    for h in range(config.num_attention_heads):
        q_h = q[..., h * config.qk_head_dim : (h + 1) * config.qk_head_dim]
        q_rope = apply_rope(q_h[..., None, d_n:], *rope)[..., 0, :]
        up = layer.kv_b_proj.weight[h * (d_n + d_v) : (h + 1) * (d_n + d_v)]
        k_nope, v = c_kv @ up[:d_n].T, c_kv @ up[d_n:].T
        rows = []
        for t in range(x.shape[1]):
            content = torch.einsum("bd,bsd->bs", q_h[:, t, :d_n], k_nope[:, : t + 1])
            place = torch.einsum("bd,bsd->bs", q_rope[:, t], k_rope[:, : t + 1])
            rows.append(torch.einsum("bs,bsd->bd", (scale * (content + place)).softmax(-1), v[:, : t + 1]))
        outputs.append(torch.stack(rows, dim=1))
    return layer.o_proj(torch.cat(outputs, dim=-1))


@pytest.mark.parametrize("name", LATENT)
def test_layer_is_the_reports_equations(name):
    layer, x, rope = layer_of(CONFIGS[name], length=7)
    assert difference(layer(x, rope), written_out(layer, x, rope, CONFIGS[name])) < 1e-13


def forms_of(layer, x, rope, queries, mask=None):
    """Both forms for the last `queries` positions, and the gradients of their sums of squares."""
    results = []
    for form in (layer.expanded, layer.absorbed):
        layer.zero_grad()
        leaf = x.detach().requires_grad_()
        q_nope, q_rope = layer.queries(leaf, rope)
        out = form(q_nope[:, -queries:], q_rope[:, -queries:], layer.latents(leaf, rope), mask)
        out.pow(2).sum().backward()
        grads = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
        results.append((out, {"x": leaf.grad, **grads}))
    return results


@st.composite
def mla_configs(draw):
    """Sizes of which no two need be equal."""
    sizes = {"kv_lora_rank": draw(st.integers(1, 9)), "qk_nope_head_dim": draw(st.integers(1, 7)),
             "qk_rope_head_dim": 2 * draw(st.integers(1, 3)), "v_head_dim": draw(st.integers(1, 9)),
             "q_lora_rank": draw(st.none() | st.integers(1, 9))}  # fmt: skip
    return ModelConfig(
        hidden_size=draw(st.integers(2, 12)),
        num_hidden_layers=1,
        num_attention_heads=draw(st.integers(1, 5)),
        rope_scaling=draw(st.sampled_from([None, YARN])),
        attention_bias=draw(st.booleans()),
        **sizes,
    )


@given(mla_configs(), st.integers(1, 6), st.integers(0, 99), st.data())
def test_absorbed_equals_expanded(config, length, seed, data):
    layer, x, rope = layer_of(config, length, seed)
    queries = data.draw(st.sampled_from([1, length]))
    (expanded, its_grads), (absorbed, same_grads) = forms_of(layer, x, rope, queries)
    assert difference(expanded, absorbed) < 1e-12
    assert its_grads.keys() == same_grads.keys()
    for name, grad in its_grads.items():
        assert difference(grad, same_grads[name]) < 1e-12 * max(1, grad.abs().max().item()), name


@pytest.mark.parametrize("name", LATENT)
def test_absorbed_equals_expanded_for_a_masked_chunk(name):
    layer, x, rope = layer_of(CONFIGS[name], length=9)
    mask = torch.ones(9, 9).tril().bool()[None, None, -4:].repeat(2, 1, 1, 1)
    mask[1, :, :, 2] = False
    (expanded, its_grads), (absorbed, same_grads) = forms_of(layer, x, rope, 4, mask)
    assert difference(expanded, absorbed) < 1e-12
    for key, grad in its_grads.items():
        assert difference(grad, same_grads[key]) < 1e-12 * max(1, grad.abs().max().item()), key


def test_a_single_masked_query_may_see_less():
    layer, x, rope = layer_of(CONFIGS["mla"], length=5)
    mask = torch.tensor([True, False, True, True, False]).expand(2, 1, 1, 5)
    (expanded, _), (absorbed, _) = forms_of(layer, x, rope, 1, mask)
    (unmasked, _), _ = forms_of(layer, x, rope, 1)
    assert difference(expanded, absorbed) < 1e-12 < 1e-3 < difference(expanded, unmasked)


@pytest.mark.parametrize("name", LATENT)
def test_future_never_moves_the_past(name):
    layer, x, rope = layer_of(CONFIGS[name], length=24)
    assert leak_probe(lambda x: layer(x, rope), x) == 0.0
    q_nope, q_rope = layer.queries(x, rope)
    absorbed = leak_probe(lambda latent: layer.absorbed(q_nope, q_rope, latent), layer.latents(x, rope))
    assert absorbed == 0.0


@pytest.mark.parametrize("name", LATENT)
def test_every_parameter_learns(name):
    layer, x, rope = layer_of(CONFIGS[name], length=6)
    layer(x, rope).pow(2).sum().backward()
    assert gradient_census(layer).all_learn, str(gradient_census(layer))


def test_cached_row_is_the_normed_latent_and_one_rotated_key():
    config = CONFIGS["mla"]
    layer, x, rope = layer_of(config, length=5)
    torch.nn.init.ones_(layer.kv_a_layernorm.weight)
    latent = layer.latents(x, rope)
    assert latent.shape == (2, 5, config.kv_lora_rank + config.qk_rope_head_dim)
    assert difference(latent[..., :12].pow(2).mean(-1), torch.ones(2, 5)) < 1e-4
    raw = layer.kv_a_proj_with_mqa(x)[..., 12:]
    assert difference(latent[..., 12:].norm(dim=-1), raw.norm(dim=-1)) < 1e-13
    assert torch.equal(latent[:, 0, 12:], raw[:, 0]) and difference(latent[..., 12:], raw) > 0.1


def test_cache_holds_nothing_but_that_row():
    config = CONFIGS["mla, compressed queries"]
    assert cache_meter(LatentCache(config, 2, 8), tokens=16) == config.num_hidden_layers * (12 + 6)


def test_latent_norms_have_their_own_epsilon():
    config = ModelConfig(**SHAPE, **MLA, q_lora_rank=14, rms_norm_eps=0.5)
    layer = LatentAttention(config)
    assert (layer.q_a_layernorm.eps, layer.kv_a_layernorm.eps) == (1e-6, 1e-6)


def test_decoding_is_absorbed_and_prefill_is_expanded(monkeypatch):
    config = CONFIGS["mla"]
    layer, x, _ = layer_of(config, length=9)
    used = []
    for form in ("expanded", "absorbed"):
        original = getattr(layer, form)
        monkeypatch.setattr(layer, form, lambda *a, form=form, original=original: used.append(form) or original(*a))
    cache = LatentCache(config, 2, 9, dtype=torch.float64)
    for start, end in ((0, 6), (6, 7), (7, 9)):
        positions = cache.begin(end - start)
        rope = RotaryEmbedding(config)(positions, torch.float64)
        layer(x[:, start:end], rope, cache.mask(positions), cache.layers[0])
        cache.finish()
    assert used == ["expanded", "absorbed", "absorbed"]


@given(st.integers(1, 400), st.integers(1, 400))
def test_absorption_pays_when_it_saves_flops(queries, old):
    config = PRESETS["deepseek-v3"]
    with torch.device("meta"):
        layer = LatentAttention(config)
    keys = queries + old
    fixed = attention_flops(config, 0, "absorbed")  # a token's own up-projections
    absorbed = queries * (attention_flops(config, keys, "absorbed"))
    expanded = keys * fixed + queries * (attention_flops(config, keys, "expanded") - fixed)
    assert layer.absorption_pays(queries, keys) == (absorbed < expanded)


@pytest.mark.parametrize("name", LATENT)  # YaRN's has values so wide that absorbed scores are the cheaper ones
def test_absorption_never_pays_without_a_past(name):
    layer, _, _ = layer_of(CONFIGS[name], length=1)
    assert not any(layer.absorption_pays(length, length) for length in (1, 2, 50))


def test_weights_carry_the_checkpoints_names_and_shapes():
    layer = LatentAttention(CONFIGS["mla, compressed queries"])
    assert {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()} == {
        "q_a_proj.weight": (14, 32),
        "q_a_proj.bias": (14,),
        "q_a_layernorm.weight": (14,),
        "q_b_proj.weight": (4 * (8 + 6), 14),
        "kv_a_proj_with_mqa.weight": (12 + 6, 32),
        "kv_a_proj_with_mqa.bias": (12 + 6,),
        "kv_a_layernorm.weight": (12,),
        "kv_b_proj.weight": (4 * (8 + 10), 12),
        "o_proj.weight": (32, 4 * 10),
        "o_proj.bias": (32,),
    }
    plain = {name for name, _ in LatentAttention(CONFIGS["mla"]).named_parameters()}
    assert "q_proj.weight" in plain and not any(name.startswith("q_a") or name.startswith("q_b") for name in plain)
