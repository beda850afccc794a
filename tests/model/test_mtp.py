"""Multi-token prediction: the report's equations, one position later, with the next token and never with more."""

import pytest
import torch
from tiny import CONFIGS, difference, make_model, make_tokens, shake
from torch.nn import functional as F

from dsmini.model.mtp import MultiTokenPrediction, multi_token_losses
from dsmini.model.transformer import DecoderLayer
from dsmini.probes import cache_meter, gradient_census, leak_probe

BASE = CONFIGS["mla, experts, MTP"]
KINDS = {
    "experts": BASE,
    "dense": CONFIGS["mla"].replace(num_nextn_predict_layers=1),
    "YaRN": CONFIGS["mla, YaRN"].replace(num_nextn_predict_layers=1),
    "gqa": CONFIGS["gqa"].replace(num_nextn_predict_layers=1),
}
DEEP = CONFIGS["mla"].replace(num_nextn_predict_layers=3)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def module(embedding_first=True, config=BASE):
    """A random module, and the rotary tables of 7 tokens."""
    made = shake(MultiTokenPrediction(config, DecoderLayer(config, config.num_hidden_layers), embedding_first))
    rope = make_model(config).rope(torch.arange(7)[None], torch.float64)
    return made.double(), rope


def ahead(model, tokens):
    """The first module's output for tokens (B, T): (B, T - 1, D), of which [:, i] has read tokens 0..i + 1."""
    return model.predict_ahead(model.hidden_states(tokens)[:, :-1], tokens[:, 1:])


@pytest.mark.parametrize("embedding_first", [True, False])
def test_module_is_the_reports_equations(embedding_first):
    mtp, rope = module(embedding_first)
    hidden, embedded, width = random(2, 7, 32), random(2, 7, 32, seed=1), BASE.hidden_size

    def normed(x, weight):
        return x / (x.pow(2).mean(-1, keepdim=True) + BASE.rms_norm_eps).sqrt() * weight

    left, right = mtp.eh_proj.weight[:, :width], mtp.eh_proj.weight[:, width:]
    of_embedding, of_hidden = (left, right) if embedding_first else (right, left)
    x = normed(embedded, mtp.enorm.weight) @ of_embedding.T + normed(hidden, mtp.hnorm.weight) @ of_hidden.T
    expected = normed(mtp.block(x, rope), mtp.shared_head.norm.weight)
    assert difference(mtp(hidden, embedded, rope), expected) < 1e-12


def test_the_model_reads_the_embedding_first_as_released_weights_do():
    model = make_model(BASE)
    assert model.mtp[0].embedding_first
    hidden, tokens = random(2, 6, 32), make_tokens(BASE, 2, 6)
    with torch.no_grad():
        model.mtp[0].eh_proj.weight[:, :32] = 0  # the half for the embedding
    other = model.predict_ahead(hidden, (tokens + 1) % BASE.vocab_size)
    assert torch.equal(model.predict_ahead(hidden, tokens), other)


def test_orders_are_the_same_model_with_the_halves_of_one_matrix_swapped():
    one, rope = module(embedding_first=True)
    other, _ = module(embedding_first=False)
    hidden, embedded = random(2, 7, 32), random(2, 7, 32, seed=1)
    assert difference(one(hidden, embedded, rope), other(hidden, embedded, rope)) > 0.1
    other.eh_proj.weight.data = one.eh_proj.weight.data.roll(32, dims=1)
    assert difference(one(hidden, embedded, rope), other(hidden, embedded, rope)) < 1e-12


def test_each_half_has_a_norm_of_its_own():
    mtp, rope = module()
    hidden, embedded = random(2, 7, 32), random(2, 7, 32, seed=1)
    before = mtp(hidden, embedded, rope)
    assert difference(mtp(50 * hidden, embedded, rope), before) < 1e-4
    assert difference(mtp(hidden, 50 * embedded, rope), before) < 1e-4
    for norm in (mtp.enorm, mtp.hnorm):
        norm.weight.data *= 2
        assert difference(mtp(hidden, embedded, rope), before) > 0.01
        norm.weight.data /= 2


def test_what_reaches_the_head_is_normed():
    mtp, rope = module()
    torch.nn.init.ones_(mtp.shared_head.norm.weight)
    out = mtp(random(2, 7, 32), random(2, 7, 32, seed=1), rope)
    assert difference(out.pow(2).mean(-1), torch.ones(2, 7)) < 1e-5
    mtp.shared_head.norm = torch.nn.Identity()
    assert difference(mtp(random(2, 7, 32), random(2, 7, 32, seed=1), rope).pow(2).mean(-1), torch.ones(2, 7)) > 0.1


def test_weights_carry_the_checkpoints_names_and_shapes():
    own = {name: tuple(p.shape) for name, p in module()[0].named_parameters() if not name.startswith("block.")}
    assert own == {"enorm.weight": (32,), "hnorm.weight": (32,), "eh_proj.weight": (32, 64),
                   "shared_head.norm.weight": (32,)}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_positions_count_only_by_their_distance(name):
    mtp, _ = module(config=KINDS[name])
    hidden, embedded, table = random(2, 7, 32), random(2, 7, 32, seed=1), make_model(KINDS[name]).rope
    here, there = (table(torch.arange(7)[None] + start, torch.float64) for start in (0, 1))
    assert difference(here[0], there[0]) > 0.1
    assert difference(mtp(hidden, embedded, here), mtp(hidden, embedded, there)) < 1e-12
    stretched = table(2 * torch.arange(7)[None], torch.float64)
    assert difference(mtp(hidden, embedded, here), mtp(hidden, embedded, stretched)) > 1e-3


@pytest.mark.parametrize("name", KINDS)
def test_cached_equals_uncached(name):
    model, tokens = make_model(KINDS[name]), make_tokens(KINDS[name], 3, 12)
    hidden, next_tokens = model.hidden_states(tokens)[:, :-1], tokens[:, 1:]
    expected = model.predict_ahead(hidden, next_tokens)
    for ends in ((11,), (5, 6, 7, 11), tuple(range(1, 12))):
        cache, pieces = model.new_mtp_cache(3, 11), []
        for start, end in zip((0, *ends), ends, strict=False):
            pieces.append(model.predict_ahead(hidden[:, start:end], next_tokens[:, start:end], cache))
        assert difference(torch.cat(pieces, dim=1), expected) < 1e-12
        assert cache.lengths.tolist() == [11, 11, 11]


@pytest.mark.parametrize("name", KINDS)
def test_cached_equals_uncached_for_rows_of_unequal_length(name):
    model, tokens = make_model(KINDS[name]), make_tokens(KINDS[name], 3, 10)
    hidden, next_tokens = model.hidden_states(tokens)[:, :-1], tokens[:, 1:]
    expected, cache = model.predict_ahead(hidden, next_tokens), model.new_mtp_cache(3, 9)
    for step in (torch.tensor([4, 2, 3]), torch.tensor([1, 2, 0]), torch.tensor([2, 1, 2])):
        new, row = torch.arange(int(step.max())), torch.arange(3)[:, None]
        place = cache.lengths[:, None] + new  # (B, t): where each row goes on
        found = model.predict_ahead(hidden[row, place], next_tokens[row, place], cache, lengths=step)
        real = new < step[:, None]
        assert difference(found[real], expected[row, place][real]) < 1e-12
    assert cache.lengths.tolist() == [7, 5, 5]


def test_a_rejected_draft_leaves_no_trace_in_the_modules_cache():
    model, tokens = make_model(BASE), make_tokens(BASE, 2, 9)
    hidden, next_tokens = model.hidden_states(tokens)[:, :-1], tokens[:, 1:]
    cache = model.new_mtp_cache(2, 8)
    model.predict_ahead(hidden[:, :4], next_tokens[:, :4], cache)
    model.predict_ahead(random(2, 2, 32), (next_tokens[:, 4:6] + 7) % BASE.vocab_size, cache)  # wrong tokens
    cache.rewind(torch.tensor([4, 4]))
    found = model.predict_ahead(hidden[:, 4:], next_tokens[:, 4:], cache)
    assert difference(found, model.predict_ahead(hidden, next_tokens)[:, 4:]) < 1e-12


def test_the_modules_cache_is_one_layer_more():
    model = make_model(BASE, dtype=torch.float32)
    per_layer = BASE.kv_lora_rank + BASE.qk_rope_head_dim
    assert cache_meter(model.new_mtp_cache(2, 5), tokens=10) == per_layer
    assert cache_meter(model.new_cache(2, 5), tokens=10) == BASE.num_hidden_layers * per_layer


@pytest.mark.parametrize("name", KINDS)
def test_later_tokens_never_move_an_earlier_prediction(name):
    model, tokens = make_model(KINDS[name]), make_tokens(KINDS[name], 2, 13)
    # output i has read token i + 1: tokens from 7 on may move outputs from 6 on, and no earlier ones
    late = tokens.clone()
    late[:, 7:] = (late[:, 7:] + 1) % KINDS[name].vocab_size
    moved = (ahead(model, tokens) - ahead(model, late)).abs().amax(dim=(0, 2))  # (T - 1,)
    assert moved[:6].max() < 1e-12 < 1e-3 < moved[6:].min()
    assert leak_probe(lambda tokens: ahead(model, tokens), tokens) > 1e-3, "it does read the next token"
    assert leak_probe(lambda tokens: F.pad(ahead(model, tokens), (0, 0, 1, 0)), tokens) < 1e-12


def test_later_hidden_states_never_move_an_earlier_prediction():
    model, tokens, hidden = make_model(BASE), make_tokens(BASE, 2, 12), random(2, 12, 32)
    assert leak_probe(lambda hidden: model.predict_ahead(hidden, tokens), hidden) < 1e-12
    assert leak_probe(lambda tokens: model.predict_ahead(hidden, tokens), tokens) < 1e-12


def test_the_main_models_logits_do_not_know_the_module():
    model, tokens = make_model(BASE), make_tokens(BASE, 2, 6)
    before = model(tokens)
    shake(model.mtp, seed=1)
    assert torch.equal(model(tokens), before)


@pytest.mark.parametrize("config", [*KINDS.values(), DEEP], ids=[*KINDS, "three modules"])
def test_the_losses_reach_every_parameter_of_modules_and_trunk(config):
    model, tokens = make_model(config), make_tokens(config, 4, 24)
    sum(multi_token_losses(model, model.hidden_states(tokens[:, :-1]), tokens)).backward()
    assert gradient_census(model).all_learn, str(gradient_census(model))


def test_a_detached_trunk_learns_only_through_embedding_and_head():
    model, tokens = make_model(BASE), make_tokens(BASE, 4, 24)
    (loss,) = multi_token_losses(model, model.hidden_states(tokens[:, :-1]).detach(), tokens)
    loss.backward()
    census = gradient_census(model)
    assert {name for name in census.learning if not name.startswith("mtp.")} == {
        "model.embed_tokens.weight", "lm_head.weight"}  # fmt: skip
    assert gradient_census(model.mtp).all_learn


@pytest.mark.parametrize("depths", [1, 2, 3])
def test_losses_equal_a_computation_by_hand(depths):
    model, tokens = make_model(DEEP.replace(num_nextn_predict_layers=depths)), make_tokens(DEEP, 2, 8)
    length = tokens.shape[1] - 1
    main, rows = model.hidden_states(tokens[:, :length]), []
    for row in range(2):
        hidden, sums = [main[row : row + 1, i : i + 1] for i in range(length)], []
        for depth in range(depths):
            terms, made = [], []
            for i in range(length - depth - 1):  # at token i: read token i + depth + 1, predict the one behind it
                so_far = torch.cat(hidden[: i + 1], dim=1)
                read = tokens[row : row + 1, depth + 1 : depth + i + 2]
                out = model.predict_ahead(so_far, read, depth=depth)[:, -1:]
                logits = model.lm_head(out)[0, 0]
                terms.append(logits.logsumexp(0) - logits[tokens[row, i + depth + 2]])
                made.append(out)
            hidden = made
            sums.append(torch.stack(terms).mean())
        rows.append(torch.stack(sums))
    found = multi_token_losses(model, main, tokens)
    assert len(found) == depths
    assert difference(torch.stack(found), torch.stack(rows).mean(0)) < 1e-12


def test_last_target_is_the_last_token():
    model, tokens = make_model(BASE), make_tokens(BASE, 1, 6)
    hidden = model.hidden_states(tokens[:, :-1])
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % BASE.vocab_size
    with torch.no_grad():
        logits = model.lm_head(ahead(model, tokens[:, :-1])[0, -1])
    (before,), (after,) = multi_token_losses(model, hidden, tokens), multi_token_losses(model, hidden, changed)
    expected = (F.log_softmax(logits, -1)[tokens[0, -1]] - F.log_softmax(logits, -1)[changed[0, -1]]) / 4
    assert difference(after - before, expected) < 1e-12
