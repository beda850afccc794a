"""The multi-token-prediction module against transformers' `MtpModel`: same weights, same text, same predictions.

Their module stands outside the model and counts positions from 1, where the token that it reads stands; ours counts
from 0. RoPE sees only distances, so nothing else changes.
"""

import pytest
import torch
from tiny import difference, make_model, make_tokens, shake
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, DeepseekV3ForCausalLM
from transformers.modeling_layers import MtpModel
from twins import EXPERTS, YARN, our_config, precision, v3

from dsmini.config import ModelConfig
from dsmini.model.checkpoint import save_pretrained
from dsmini.model.mtp import MultiTokenPrediction, multi_token_losses
from dsmini.model.transformer import Transformer

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
EVERYWHERE = {**EXPERTS, "first_k_dense_replace": 0}
CONFIGS = {
    "dense trunk": v3(**{**EXPERTS, "first_k_dense_replace": 2}, num_mtp_layers=2),
    "experts": v3(**EXPERTS, num_mtp_layers=2),
    "experts, YaRN": v3(**EVERYWHERE, rope_parameters=YARN, num_mtp_layers=2),
    "plain queries": v3(**EXPERTS, q_lora_rank=None, num_mtp_layers=2),
    "other epsilon": v3(**EXPERTS, rms_norm_eps=1e-2, num_mtp_layers=2),
}


def our_name(name):
    """A weight of their MtpModel, as our Transformer calls it."""
    name = name.replace("layers.", "mtp.").replace(".mtp_block.", ".block.")
    return name.replace(".post_norm.", ".shared_head.norm.")


def make_twins(config, seed=0, dtype=torch.float64):
    """(their model, their MTP modules, our Transformer) with the same random weights."""
    gain = 1.5 if dtype == torch.float64 else 1.0
    theirs = shake(AutoModelForCausalLM.from_config(config), seed, gain)
    modules = shake(MtpModel(theirs, config.num_mtp_layers), seed + 100, gain)  # embedding and head are theirs, shared
    own = {our_name(key): weight for key, weight in modules.state_dict().items() if key.startswith("layers.")}
    ours = Transformer(our_config(config))
    ours.load_state_dict({**theirs.state_dict(), **own})
    return theirs.to(dtype).eval(), modules.to(dtype).eval(), ours.to(dtype).eval()


def their_predictions(theirs, modules, tokens):
    """Their logits of every depth, [(B, T - 1, V), (B, T - 2, V), ...], as the candidate generator chains them."""
    with precision(theirs.dtype):
        hidden, logits = theirs.model(tokens).last_hidden_state, []
        for depth in range(modules.num_mtp_layers):
            read = tokens[:, depth + 1 :]
            positions = torch.arange(depth + 1, tokens.shape[1])[None]
            hidden = modules.forward_layer(depth, hidden[:, :-1], positions, None, input_ids=read)
            logits.append(modules.shared_head(hidden))
    return logits


def our_predictions(model, tokens):
    hidden, logits = model.hidden_states(tokens), []
    for depth in range(len(model.mtp)):
        hidden = model.predict_ahead(hidden[:, :-1], tokens[:, depth + 1 :], depth=depth)
        logits.append(model.lm_head(hidden))
    return logits


def tokens_for(model):
    return make_tokens(model.config, 3, 24)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_predictions_of_both_depths_are_equal(name, dtype, seed):
    theirs, modules, ours = make_twins(CONFIGS[name], seed, dtype)
    tokens = tokens_for(ours)
    expected = their_predictions(theirs, modules, tokens)
    assert len(expected) == 2 and all(0.5 < logits.std() < 5 for logits in expected)
    for found, logits in zip(our_predictions(ours, tokens), expected, strict=True):
        assert difference(found, logits) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_our_cache_continues_to_their_predictions(name):
    theirs, modules, ours = make_twins(CONFIGS[name])
    tokens = tokens_for(ours)
    expected, hidden = their_predictions(theirs, modules, tokens)[0], ours.hidden_states(tokens)
    cache, pieces = ours.new_mtp_cache(3, 23), []
    for start, end in ((0, 11), (11, 13), *((i, i + 1) for i in range(13, 23))):
        pieces.append(ours.predict_ahead(hidden[:, start:end], tokens[:, start + 1 : end + 1], cache))
    assert difference(ours.lm_head(torch.cat(pieces, dim=1)), expected) <= 1e-12


@pytest.mark.parametrize("name", ["dense trunk", "experts", "experts, YaRN"])
def test_losses_and_their_gradients_are_equal(name):
    theirs, modules, ours = make_twins(CONFIGS[name])
    tokens = tokens_for(ours)
    # `MtpModel(labels=...)` adds to None and fails (transformers 5.23), so their losses are taken here
    logits = their_predictions(theirs, modules, tokens[:, :-1])
    expected = [F.cross_entropy(a.flatten(0, 1), tokens[:, d + 2 :].flatten()) for d, a in enumerate(logits)]
    found = multi_token_losses(ours, ours.hidden_states(tokens[:, :-1]), tokens)
    assert difference(torch.stack(found), torch.stack(expected)) <= 1e-12
    sum(expected).backward()
    sum(found).backward()
    gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    gradients |= {our_name(key): p.grad for key, p in modules.named_parameters() if key.startswith("layers.")}
    ours = {key: parameter.grad for key, parameter in ours.named_parameters()}
    assert ours.keys() == gradients.keys()
    for key, grad in gradients.items():
        assert grad.any() and difference(ours[key], grad) <= 1e-12 * grad.abs().max().clamp(min=1e-2), key


@torch.no_grad()
def test_positions_from_zero_and_from_one_are_the_same_to_them():
    theirs, modules, ours = make_twins(CONFIGS["experts, YaRN"])
    tokens = tokens_for(ours)
    with precision(torch.float64):
        hidden = theirs.model(tokens).last_hidden_state[:, :-1]
        one, other = (
            modules.forward_layer(0, hidden, torch.arange(start, start + 23)[None], None, input_ids=tokens[:, 1:])
            for start in (0, 1)
        )
    assert difference(one, other) <= 1e-12


@torch.no_grad()
def test_their_loader_reads_the_module_from_our_checkpoint(tmp_path, monkeypatch):
    ours = make_model(our_config(CONFIGS["experts"]).replace(num_nextn_predict_layers=1))
    save_pretrained(ours, tmp_path)
    # they know V3's own MTP layer, number 61, and no other
    monkeypatch.setattr(DeepseekV3ForCausalLM, "_keys_to_ignore_on_load_unexpected", [r"model\.layers\.2.*"])
    options = {"attn_implementation": "eager", "experts_implementation": "eager"}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, **options).eval()
    modules = MtpModel.from_pretrained(theirs).eval()
    tokens = tokens_for(ours)
    assert difference(our_predictions(ours, tokens)[0], their_predictions(theirs, modules, tokens)[0]) <= 1e-12


# Mistakes seen in the wild, planted one by one: each must move a prediction where logits are of size 1.


class WithoutTheNextToken(MultiTokenPrediction):
    def forward(self, hidden, embedded, rope, mask=None, cache=None):
        return super().forward(hidden, torch.zeros_like(embedded), rope, mask, cache)


class LogitsFromBeforeTheBlock(MultiTokenPrediction):
    def forward(self, hidden, embedded, rope, mask=None, cache=None):
        return self.shared_head.norm(self.eh_proj(torch.cat((self.enorm(embedded), self.hnorm(hidden)), dim=-1)))


class OneNormForBoth(MultiTokenPrediction):
    def forward(self, hidden, embedded, rope, mask=None, cache=None):
        x = self.eh_proj(torch.cat((self.hnorm(embedded), self.hnorm(hidden)), dim=-1))
        return self.shared_head.norm(self.block(x, rope, mask, cache))


def with_class(planted):
    def plant(model):
        model.mtp[0].__class__ = planted

    return plant


def swapped_order(model):
    model.mtp[0].embedding_first = False


def no_norm_before_the_head(model):
    model.mtp[0].shared_head.norm = nn.Identity()


def norms_exchanged(model):
    model.mtp[0].enorm, model.mtp[0].hnorm = model.mtp[0].hnorm, model.mtp[0].enorm


def head_of_its_own(model):
    predict = model.predict_ahead
    own = shake(nn.Linear(32, 32, bias=False), 5).to(torch.float64)
    model.predict_ahead = lambda *args, **options: own(predict(*args, **options))


def embedding_of_the_same_token(model):
    predict = model.predict_ahead
    model.predict_ahead = lambda hidden, tokens, **options: predict(hidden, tokens.roll(1, dims=1), **options)


def hidden_from_before_the_final_norm(model):
    final, states = model.model.norm, model.hidden_states

    def not_normed(tokens):
        model.model.norm = nn.Identity()
        hidden = states(tokens)
        model.model.norm = final
        return hidden

    model.hidden_states = not_normed


PLANTED = {
    "halves in the paper's order": swapped_order,
    "no norm before the head": no_norm_before_the_head,
    "norms of the halves exchanged": norms_exchanged,
    "one norm for both halves": with_class(OneNormForBoth),
    "next token's embedding missing": with_class(WithoutTheNextToken),
    "embedding of the token it stands on": embedding_of_the_same_token,
    "logits from before the block": with_class(LogitsFromBeforeTheBlock),
    "a head of its own": head_of_its_own,
    "hidden state from before the final norm": hidden_from_before_the_final_norm,
}


@pytest.mark.parametrize("mistake", PLANTED)
@torch.no_grad()
def test_planted_errors_break_it(mistake):
    theirs, modules, ours = make_twins(v3(**EXPERTS, num_mtp_layers=1))
    tokens = tokens_for(ours)
    expected = their_predictions(theirs, modules, tokens)[0]
    assert difference(our_predictions(ours, tokens)[0], expected) <= 1e-12
    PLANTED[mistake](ours)
    assert difference(our_predictions(ours, tokens)[0], expected) > 1e-3


def test_their_config_and_ours_agree_on_the_number_of_modules():
    for depths in (1, 2):
        assert ModelConfig.from_hf(v3(num_mtp_layers=depths).to_dict()).num_nextn_predict_layers == depths
