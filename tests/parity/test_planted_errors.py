"""Parity is worth something only if mistakes break it: mistakes seen in the wild, planted one by one.

Each is a few changed lines of the true layer. Before it the twins agree to 1e-12, after it they differ by more than
1e-3 where logits are of size 1.
"""

import math

import pytest
import torch
from tiny import difference
from torch import nn
from twins import YARN, make_twins, our_logits, their_logits, tokens_for, v3

from dsmini.model import layers
from dsmini.model.layers import RotaryEmbedding, apply_rope, yarn_mscale
from dsmini.model.mla import LatentAttention

DECODE = (10, *range(11, 41))


def attentions(model):
    return [layer.self_attn for layer in model.model.layers]


def with_class(planted):
    def plant(model, monkeypatch):
        for attention in attentions(model):
            attention.__class__ = planted

    return plant


def with_scale(wrong):
    def plant(model, monkeypatch):
        for attention in attentions(model):
            attention.scale = wrong(attention)

    return plant


def without(name):
    def plant(model, monkeypatch):
        for attention in attentions(model):
            setattr(attention, name, nn.Identity())

    return plant


class RopeKeyPerHead(LatentAttention):
    def expanded(self, q_nope, q_rope, latent, mask=None):
        turned = [q_rope[:, :, h].roll(h, -1) for h in range(self.num_heads)]  # as if head h had a key of its own
        return super().expanded(q_nope, torch.stack(turned, dim=2), latent, mask)


class KeyFromLatent(LatentAttention):
    def latents(self, x, rope):
        c_kv = self.kv_a_layernorm(self.kv_a_proj_with_mqa(x)[..., : self.kv_lora_rank])
        k_rope = apply_rope(c_kv[:, :, None, : self.d_rope], *rope, self.interleaved)[:, :, 0]
        return torch.cat((c_kv, k_rope), dim=-1)


class KeyNotRotated(LatentAttention):
    def latents(self, x, rope):
        c_kv, k_rope = self.kv_a_proj_with_mqa(x).split((self.kv_lora_rank, self.d_rope), dim=-1)
        return torch.cat((self.kv_a_layernorm(c_kv), k_rope), dim=-1)


class RopeKeyDivided(LatentAttention):
    def latents(self, x, rope):
        c_kv, k_rope = super().latents(x, rope).split((self.kv_lora_rank, self.d_rope), dim=-1)
        return torch.cat((c_kv, k_rope / self.num_heads), dim=-1)


class ValuesBeforeKeys(LatentAttention):
    def up_projections(self):
        weight = self.kv_b_proj.weight.unflatten(0, (self.num_heads, self.d_nope + self.d_v))
        w_uv, w_uk = weight.split((self.d_v, self.d_nope), dim=1)
        return w_uk, w_uv


class ScaleOfTheLatent(LatentAttention):
    def absorbed(self, q_nope, q_rope, latent, mask=None):
        kept, self.scale = self.scale, (self.kv_lora_rank + self.d_rope) ** -0.5
        out = super().absorbed(q_nope, q_rope, latent, mask)
        self.scale = kept
        return out


def wrong_layout(model, monkeypatch):
    for attention in attentions(model):
        attention.interleaved = not attention.interleaved


def wrong_layout_of_the_key_alone(model, monkeypatch):
    class HalfSplitKey(LatentAttention):
        def latents(self, x, rope):
            self.interleaved = False
            latent = super().latents(x, rope)
            self.interleaved = True
            return latent

    with_class(HalfSplitKey)(model, monkeypatch)


def ramp_over_the_raw_index(model, monkeypatch):
    def ramp(dim, theta, scaling):
        index = torch.arange(dim // 2, dtype=torch.float32)
        return ((index - scaling.beta_slow) / (scaling.beta_fast - scaling.beta_slow)).clamp(0, 1)

    monkeypatch.setattr(layers, "yarn_ramp", ramp)
    model.rope = RotaryEmbedding(model.config)


def no_yarn_frequencies(model, monkeypatch):
    model.rope = RotaryEmbedding(model.config.replace(rope_scaling=None))


def temperature_on_rope_alone(model, monkeypatch):
    with_scale(lambda attention: (attention.d_nope + attention.d_rope) ** -0.5)(model, monkeypatch)
    model.rope.attention_factor = yarn_mscale(40)


def positions_from_one_when_decoding(model, monkeypatch):
    table = model.rope.forward
    monkeypatch.setattr(model.rope, "forward", lambda p, dtype: table(p + (p.shape[1] == 1), dtype))


PLANTED = {
    "rope key per head": with_class(RopeKeyPerHead),
    "rope key from the latent": with_class(KeyFromLatent),
    "rope key not rotated": with_class(KeyNotRotated),
    "rope key divided by the heads": with_class(RopeKeyDivided),
    "values before keys": with_class(ValuesBeforeKeys),
    "scale after absorption": with_class(ScaleOfTheLatent),
    "scale of the content part": with_scale(lambda a: a.d_nope**-0.5 * yarn_mscale(40) ** 2),
    "no temperature": with_scale(lambda a: (a.d_nope + a.d_rope) ** -0.5),
    "temperature not squared": with_scale(lambda a: (a.d_nope + a.d_rope) ** -0.5 * yarn_mscale(40)),
    "temperature on rope alone": temperature_on_rope_alone,
    "no norm of the latent": without("kv_a_layernorm"),
    "no norm of the query latent": without("q_a_layernorm"),
    "wrong rope layout": wrong_layout,
    "wrong rope layout of the key": wrong_layout_of_the_key_alone,
    "ramp over the raw index": ramp_over_the_raw_index,
    "frequencies without YaRN": no_yarn_frequencies,
    "decoding one position late": positions_from_one_when_decoding,
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistake_breaks_parity(mistake, monkeypatch):
    theirs, ours = make_twins(v3(rope_parameters=YARN))
    tokens = tokens_for(ours)
    expected = their_logits(theirs, tokens)
    assert difference(our_logits(ours, tokens, DECODE), expected) <= 1e-12
    PLANTED[mistake](ours, monkeypatch)
    assert difference(our_logits(ours, tokens, DECODE), expected) > 1e-3


def test_the_real_temperature_is_what_was_planted_against():
    assert yarn_mscale(40) ** 2 == pytest.approx((0.1 * math.log(40) + 1) ** 2)
