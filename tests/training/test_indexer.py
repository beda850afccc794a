"""Training the indexer: the report's losses to the last digit, who learns from what, and runs that go on."""

import contextlib
import copy
import dataclasses
import math

import pytest
import torch
from planted import planted
from tiny import CONFIGS, difference, make_model

from dsmini.model import dsa
from dsmini.model.dsa import SparseLatentAttention, watch_selection
from dsmini.model.selectors import selecting
from dsmini.model.transformer import Transformer
from dsmini.probes import gradient_census
from dsmini.tasks.needle import VOCAB_SIZE, draw_needles, needles
from dsmini.training import indexer
from dsmini.training.answers import answer_loss
from dsmini.training.indexer import (
    IndexerSettings,
    divergence,
    draw_queries,
    indexer_loss,
    only_indexers_learn,
    train_sparse,
    train_warmup,
    with_indexer,
)
from dsmini.training.pretrain import learning_rate_at
from dsmini.training.snapshot import SnapshotError

CONFIG = CONFIGS["sparse mla"].replace(vocab_size=VOCAB_SIZE)  # 2 layers, topk 4, YaRN
SHORT = IndexerSettings(steps=6, learning_rate=1e-2, model_learning_rate=2e-3, warmup_steps=2, queries=10)
DATA = needles(3, 24)
EVERY = torch.arange(24)


def new_model(seed=0):
    torch.manual_seed(seed)
    return Transformer(CONFIG)


def warm_up(model, data=DATA, settings=SHORT, **options):
    return train_warmup(model, data, settings, progress=False, **options)


def go_sparse(model, data=DATA, settings=SHORT, **options):
    return train_sparse(model, data, settings, progress=False, **options)


STAGES = {"warm-up": warm_up, "sparse": go_sparse}


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def names(model, of_indexers):
    return {name for name, _ in model.named_parameters() if (".indexer." in name) == of_indexers}


# ---- the loss -------------------------------------------------------------------------------------------------------


def layer_inputs(model, tokens, sparse):
    """What every attention layer was given: a list of (layer, x, rope)."""
    inputs = []
    with contextlib.ExitStack() as stack:
        for layer in model.model.layers:
            hook = lambda module, args, _: inputs.append((module, args[0].detach(), args[1]))  # noqa: E731
            stack.callback(layer.self_attn.register_forward_hook(hook).remove)
        if not sparse:
            stack.enter_context(selecting(model, topk=math.inf))
        with torch.no_grad():
            model(tokens)
    return inputs


def written_out(model, tokens, sparse):
    """The mean KL over layers and queries, one query at a time, one head at a time, from textbook pieces."""
    total, count = 0.0, 0
    for layer, x, rope in layer_inputs(model, tokens, sparse):
        with torch.no_grad():
            c_q = layer.q_a_layernorm(layer.q_a_proj(x))
            q = torch.cat(layer.queries(x, rope), dim=-1)  # (B, T, H, d_k)
            c_kv, k_rope = layer.latents(x, rope).split((layer.kv_lora_rank, layer.d_rope), dim=-1)
            k_nope = layer.kv_b_proj(c_kv).unflatten(-1, (layer.num_heads, -1))[..., : layer.d_nope]
            k = torch.cat((k_nope, k_rope[:, :, None].expand(-1, -1, layer.num_heads, -1)), dim=-1)
        scores = layer.indexer(x, c_q, rope)
        for b in range(len(x)):
            for t in range(x.shape[1]):
                seen = list(range(t + 1))
                if sparse:
                    seen = sorted(seen, key=lambda s: -scores[b, t, s].item())[: layer.topk]
                p = 0
                for head in range(layer.num_heads):
                    p = p + (layer.scale * (k[b, seen, head] @ q[b, t, head])).softmax(-1)
                p = p / p.sum()
                log_q = scores[b, t, seen] - scores[b, t, seen].logsumexp(-1)
                total, count = total + (p * (p.log() - log_q)).sum(), count + 1
    return total / count


def loss_of(model, tokens, sparse, queries=None, lengths=None):
    """The stage's loss, as the trainers form it; of all queries by default."""
    queries = torch.arange(tokens.shape[1]) if queries is None else queries
    with contextlib.ExitStack() as stack:
        if not sparse:
            stack.enter_context(selecting(model, topk=math.inf))
        seen = stack.enter_context(watch_selection(model, queries))
        model.hidden_states(tokens)
    return indexer_loss(seen, indexer.sparse_divergence if sparse else indexer.warmup_divergence, queries, lengths)


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def agrees(model, tokens, sparse):
    """Whether the stage's loss is the written-out one, and moves the same parameters in the same way."""
    ours, exact = loss_of(model, tokens, sparse), written_out(model, tokens, sparse)
    if abs(ours.item() - exact.item()) > 1e-12:
        return False
    grads, same = gradients_of(model, ours), gradients_of(model, exact)
    return grads.keys() == same.keys() and all(difference(grads[name], same[name]) < 1e-12 for name in grads)


@pytest.mark.parametrize("sparse", [False, True])
def test_loss_is_the_reports_sum_written_out_with_its_gradients(sparse):
    model = make_model(CONFIG)
    assert agrees(model, draw_needles(2, 16).inputs, sparse)


WITHIN = "    with torch.no_grad():\n"
MISTAKES = {  # in which module, in which stages, and how
    "input not detached": (dsa, (False, True), "    x = x.detach()\n", ""),
    "target not detached": (
        dsa, (False, True), WITHIN + "        view =", WITHIN.replace("no", "enable") + "        view =",
        WITHIN + "        selected =", WITHIN.replace("no", "enable") + "        selected =",
    ),
    "target over all instead of the selected": (dsa, (True,), "attention.shares(view, selected)",
                                                "attention.shares(view)"),
    "softmax over all instead of the selected": (indexer, (True,), "selection.scores, selection.selected)",
                                                 'selection.scores, selection.scores != float("-inf"))'),
    "heads not summed": (dsa, (False, True), "total = total + (", "total = self.num_heads * ("),
    "not normalised": (dsa, (False, True), "return total / self.num_heads", "return total"),
    "the other way round": (
        indexer, (False, True), "(torch.xlogy(shares, shares) - shares * log_q)",
        "(log_q.exp().masked_fill(~among, 0) * (log_q - shares.clamp(min=1e-30).log()))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistakes_are_found(mistake, sparse, monkeypatch):
    module, stages, *pairs = MISTAKES[mistake]
    wrong = planted(module, *pairs)
    if module is dsa:
        monkeypatch.setattr(dsa, "observe", wrong.observe)
        monkeypatch.setattr(SparseLatentAttention, "shares", wrong.SparseLatentAttention.shares)
    else:
        monkeypatch.setattr(indexer, "sparse_divergence", wrong.sparse_divergence)
        monkeypatch.setattr(indexer, "warmup_divergence", wrong.warmup_divergence)
    assert agrees(make_model(CONFIG), draw_needles(2, 16).inputs, sparse) == (sparse not in stages)


def random_case(seed=0):
    """Scores, what counts, and shares of what counts: rows of 1 to 7 tokens, and one of none."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 8, 7, generator=random, dtype=torch.float64)
    among = torch.ones(8, 7).tril(-1).bool() & (torch.rand(2, 8, 7, generator=random) < 0.7)
    among[:, range(1, 8), range(7)] = True
    shares = torch.rand(2, 8, 7, generator=random, dtype=torch.float64) * among
    return shares / shares.sum(-1, keepdim=True).clamp(min=1e-9), scores.requires_grad_(), among


def test_divergence_is_zero_for_the_right_scores_and_else_above():
    shares, scores, among = random_case()
    exact = shares.log() + 3.7  # -inf where there is no share: a shift of all scores changes nothing
    assert divergence(shares, exact, among).abs().max() < 1e-14
    found = divergence(shares, scores, among)
    assert (found[:, 2:] > 0).all() and (found[:, :2] == 0).all(), "none or one token: nothing to be wrong about"
    for b, t in ((0, 5), (1, 7)):
        chosen = among[b, t]
        p, log_q = shares[b, t, chosen], scores[b, t, chosen].log_softmax(0)
        expected = torch.nn.functional.kl_div(log_q, p, reduction="sum")
        assert found[b, t].item() == pytest.approx(expected.item(), abs=1e-14)


def test_divergence_has_the_gradient_of_finite_differences():
    shares, scores, among = random_case()
    assert torch.autograd.gradcheck(lambda scores: divergence(shares, scores, among), scores)
    (gradient,) = torch.autograd.grad(divergence(shares, scores, among).sum(), scores)
    exact = scores.masked_fill(~among, float("-inf")).softmax(-1).nan_to_num(0) - shares  # q - p, as the textbooks say
    assert difference(gradient, exact) < 1e-14


@pytest.mark.parametrize("outside", [float("-inf"), float("inf"), float("nan"), 1e30])
def test_divergence_never_reads_what_does_not_count(outside):
    shares, scores, among = random_case()
    with torch.no_grad():
        scores[~among] = outside
    found = divergence(shares, scores, among)
    assert torch.equal(found, divergence(shares, scores.detach().masked_fill(~among, 0), among))
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert gradient.isfinite().all() and not gradient[~among].any()


def test_extreme_scores_and_shares_stay_finite():
    """Attention that is sure of one token, and scores that differ by more than float32's exponent."""
    shares = torch.tensor([[[1.0, 0.0, 0.0]]])
    scores = torch.tensor([[[-1e4, 1e4, 0.0]]], requires_grad=True)
    found = divergence(shares, scores, torch.ones(1, 1, 3, dtype=torch.bool))
    found.sum().backward()
    assert found.item() == 2e4 and torch.equal(scores.grad, torch.tensor([[[-1.0, 1.0, 0.0]]]))


@pytest.mark.parametrize("sparse", [False, True])
def test_gradient_of_every_indexer_tensor_is_that_of_finite_differences(sparse):
    """The hidden states are data: a frozen copy makes them, as if the loss had no way back to them."""
    model, step = make_model(CONFIG), 1e-6
    tokens = draw_needles(2, 16).inputs
    grads = gradients_of(model, loss_of(model, tokens, sparse))
    assert grads.keys() == names(model, of_indexers=True)
    random = torch.Generator().manual_seed(0)
    for name, gradient in grads.items():
        weight = model.get_parameter(name)
        for place in torch.randint(weight.numel(), (3,), generator=random).tolist():
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[place] += sign * step
                    values.append(loss_of(model, tokens, sparse).item())
                    weight.view(-1)[place] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            assert gradient.view(-1)[place].item() == pytest.approx(slope, abs=1e-8), name


# ---- padded and short rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_padding_counts_for_nothing(sparse):
    """Right-padded rows: the mean over all real queries, whatever the padding is; nothing that is not finite."""
    model, lengths = make_model(CONFIG), torch.tensor([16, 1, 7])
    tokens = draw_needles(3, 16).inputs
    grads = gradients_of(model, loss := loss_of(model, tokens, sparse, lengths=lengths))
    alone = [(loss_of(model, row[None, :n], sparse).item(), n) for row, n in
             zip(tokens, lengths.tolist(), strict=True)]  # fmt: skip
    assert alone[1][0] == 0, "one token: nothing to be wrong about"
    assert loss.item() == pytest.approx(sum(mean * n for mean, n in alone) / 24, abs=1e-13)
    other = tokens.clone()
    for row, length in enumerate(lengths):
        other[row, length:] = 0
    same = gradients_of(model, loss_of(model, other, sparse, lengths=lengths))
    assert all(grads[name].isfinite().all() and difference(grads[name], same[name]) < 1e-12 for name in grads)


@pytest.mark.parametrize("sparse", [False, True])
def test_step_that_drew_only_padding_teaches_nothing(sparse):
    model = make_model(CONFIG)
    loss = loss_of(model, draw_needles(3, 16).inputs, sparse, torch.tensor([9, 12]), torch.tensor([9, 1, 7]))
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in gradients_of(model, loss).values())


@pytest.mark.parametrize("stage", STAGES)
def test_rows_shorter_than_the_selection_train(stage):
    """index_topk is 4: rows of 1, 2 and 16 tokens, in float32."""
    inputs, targets, mask = draw_needles(3, 16)
    mask = mask | (torch.arange(16) == 0)
    lengths = torch.tensor([1, 2, 16])
    settings = dataclasses.replace(SHORT, queries=None)
    model = new_model()
    history = STAGES[stage](model, lambda step: (inputs, targets, mask, lengths), settings)
    assert len(history) == 6 and all(weight.isfinite().all() for weight in model.state_dict().values())


# ---- who learns from what -------------------------------------------------------------------------------------------


def test_warmup_trains_the_indexers_and_nothing_else():
    model = new_model()
    model.model.norm.weight.requires_grad_(False)  # was frozen before, and is to be so behind it
    before, wanted = copy.deepcopy(model.state_dict()), {n: p.requires_grad for n, p in model.named_parameters()}
    warm_up(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]) == (".indexer." not in name), name
    assert {n: p.requires_grad for n, p in model.named_parameters()} == wanted
    assert all(parameter.grad is None for n, parameter in model.named_parameters() if ".indexer." not in n)


def test_model_can_learn_again_after_a_warmup_that_failed():
    model = new_model()
    with pytest.raises(ZeroDivisionError):
        warm_up(model, on_step=lambda *_: 1 / 0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    with only_indexers_learn(model):
        learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == names(model, of_indexers=True)


def test_two_losses_share_a_step_and_no_parameter():
    """Census and gradients of both losses together, and of each alone."""
    model, batch = make_model(CONFIG), draw_needles(3, 24)
    with watch_selection(model, EVERY) as seen:
        own = answer_loss(model, *batch)
    imitation = indexer_loss(seen, indexer.sparse_divergence, EVERY)
    alone = []
    for loss in (own, imitation):
        model.zero_grad()
        loss.backward(retain_graph=True)
        census = gradient_census(model)
        assert not census.zero
        alone.append({name: model.get_parameter(name).grad.clone() for name in census.learning})
    assert alone[0].keys() == names(model, of_indexers=False) and alone[1].keys() == names(model, of_indexers=True)
    together = gradients_of(model, own + imitation)
    assert gradient_census(model).all_learn
    assert all(torch.equal(together[name], gradient) for part in alone for name, gradient in part.items())


def test_sparse_stage_trains_everything():
    model = new_model()
    before = copy.deepcopy(model.state_dict())
    go_sparse(model)
    assert not any(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(("stage", "dense"), [("warm-up", True), ("sparse", False)])
def test_stage_attends_to(stage, dense, monkeypatch):
    """The warm-up to everything, the sparse stage to what is selected; the budget is as before when it is over."""
    model, calls = new_model(), []
    original = SparseLatentAttention.dense
    spy = lambda *arguments: calls.append(1) or original(*arguments)  # noqa: E731
    monkeypatch.setattr(SparseLatentAttention, "dense", spy)
    STAGES[stage](model)
    assert len(calls) == (2 * 6 if dense else 0)
    assert {layer.self_attn.topk for layer in model.model.layers} == {4}


# ---- steps ----------------------------------------------------------------------------------------------------------


def stepped(model, stage, data, settings, seed):
    """The stage once more, by hand: AdamW with a rate for each part, each part's gradient clipped for itself."""
    parts = [[p for n, p in model.named_parameters() if (".indexer." in n) == mine] for mine in (True, False)]
    rates = (settings.learning_rate, settings.model_learning_rate)
    parts, rates = (parts[:1], rates[:1]) if stage == "warm-up" else (parts, rates)
    groups = [
        {"params": [p for p in part if (p.dim() > 1) == matrix], "weight_decay": settings.weight_decay * matrix}
        for part in parts
        for matrix in (True, False)
    ]
    optimizer, generator = torch.optim.AdamW(groups, betas=(0.9, 0.95)), torch.Generator().manual_seed(seed)
    history = []
    for step in range(settings.steps):
        queries = draw_queries(24, settings.queries, generator)
        batch = data(step)
        imitation = loss_of(model, batch.inputs, stage != "warm-up", queries)
        own = answer_loss(model, *batch)
        optimizer.zero_grad()
        (imitation if stage == "warm-up" else own + imitation).backward()
        factor = learning_rate_at(step, settings) / settings.learning_rate
        for i, group in enumerate(optimizer.param_groups):
            group["lr"] = rates[i // 2] * factor
        for part in parts:
            torch.nn.utils.clip_grad_norm_(part, settings.max_grad_norm)
        optimizer.step()
        history.append(imitation.item() if stage == "warm-up"
                       else {"loss": own.item(), "divergence": imitation.item()})  # fmt: skip
    return history


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_adamw_with_the_settings_on_the_data_of_the_step(stage):
    settings = dataclasses.replace(SHORT, steps=3, weight_decay=0.2, max_grad_norm=0.05)
    model, same = new_model(), new_model()
    history = STAGES[stage](model, settings=settings, seed=7)
    assert history == stepped(same, stage, DATA, settings, seed=7)
    for name, weight in model.state_dict().items():
        assert difference(weight, same.state_dict()[name]) < 1e-6, name
    assert not model.training


def test_warmup_brings_the_indexer_near_to_the_attention():
    model = make_model(CONFIG, dtype=torch.float32)
    text = draw_needles(3, 24)
    losses = warm_up(model, lambda step: text, dataclasses.replace(SHORT, steps=60, queries=None))
    assert losses[-1] < 0.5 * losses[0]


def test_queries_are_drawn_without_repetition_and_in_order():
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_queries(24, 10, generator) for _ in range(200)]
    assert all(len(places) == 10 and (places[1:] > places[:-1]).all() for places in drawn)
    counts = torch.cat(drawn).bincount(minlength=24)
    assert len(counts) == 24 and counts.min() > 50
    for count in (None, 24, 99):
        assert torch.equal(draw_queries(24, count, generator), torch.arange(24))


def test_a_sample_of_queries_has_the_expectation_of_all():
    model, generator = make_model(CONFIG), torch.Generator().manual_seed(0)
    tokens = draw_needles(1, 16).inputs
    every = loss_of(model, tokens, True).item()
    some = [loss_of(model, tokens, True, draw_queries(16, 4, generator)).item() for _ in range(60)]
    some = torch.tensor(some)
    assert some.std() > 0 and abs(some.mean() - every) < 3 * some.std() / 60**0.5


# ---- runs -----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("stage", STAGES)
def test_killed_run_goes_on_to_the_same_end(stage, tmp_path):
    whole, file = new_model(), tmp_path / "run.safetensors"
    history = STAGES[stage](whole)

    def kill(step, given):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        STAGES[stage](new_model(), snapshot=file, snapshot_every=2, on_step=kill)
    steps, again = [], new_model(seed=1)
    assert STAGES[stage](again, snapshot=file, on_step=lambda step, _: steps.append(step)) == history
    assert same_weights(again, whole) and steps[0] == 2


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("warm-up", {"settings": dataclasses.replace(SHORT, queries=9)}, "queries = 10 there, 9 here"),
        ("sparse", {"seed": 1}, "seed = 0 there, 1 here"),
        ("sparse", {"data": needles(3, 24, seed=1)}, "data = 'sparse stage, "),
    ],
)
def test_snapshot_of_another_run_is_refused(stage, change, message, tmp_path):
    file = tmp_path / "run.safetensors"
    STAGES[stage](new_model(), snapshot=file)
    with pytest.raises(SnapshotError, match=message):
        STAGES[stage](new_model(), **{"snapshot": file, **change})


def test_snapshot_of_the_other_stage_is_refused(tmp_path):
    warm_up(new_model(), snapshot=tmp_path / "run.safetensors")
    with pytest.raises(SnapshotError, match="data = 'warm-up"):
        go_sparse(new_model(), snapshot=tmp_path / "run.safetensors")


@pytest.mark.parametrize("stage", STAGES)
def test_loss_that_is_not_finite_stops_the_run_at_its_step(stage):
    model = new_model()

    def poison(step, given):
        if step == 2:
            model.model.layers[1].self_attn.indexer.weights_proj.weight.data.fill_(math.nan)

    with pytest.raises(FloatingPointError, match="the loss is nan at step 3; lower learning_rate"):
        STAGES[stage](model, on_step=poison)


@pytest.mark.parametrize("stage", STAGES)
def test_model_without_sparse_attention_is_refused(stage):
    model = Transformer(CONFIGS["mla"].replace(vocab_size=VOCAB_SIZE))
    with pytest.raises(ValueError, match="model: expected one with sparse attention"):
        STAGES[stage](model)


@pytest.mark.parametrize("stage", STAGES)
def test_data_of_another_shape_is_named(stage):
    with pytest.raises(ValueError, match="data: a step of 2 parts"):
        STAGES[stage](new_model(), lambda step: DATA(step)[:2])


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("steps", 0, "more than 0"), ("learning_rate", 0.0, "more than 0"), ("queries", 0, "more than 0"),
     ("weight_decay", -0.1, "0 or more"), ("max_grad_norm", None, "more than 0"),
     ("learning_rate", math.nan, "more than 0")],
)  # fmt: skip
def test_bad_settings_are_named(field, value, expected):
    with pytest.raises(ValueError, match=f"{field} = {value!r}: expected {expected}"):
        IndexerSettings(**{field: value})


# ---- from V3 to V3.2 ------------------------------------------------------------------------------------------------

PLAIN = CONFIGS["mla, compressed queries"]


def test_model_of_v3_gets_indexers_and_says_the_same_while_nothing_is_left_out():
    model = make_model(PLAIN)
    tokens = draw_needles(2, 20).inputs % PLAIN.vocab_size
    sparse = with_indexer(model, topk=20, heads=3, head_dim=10, seed=5)
    assert sparse.config == PLAIN.replace(index_topk=20, index_n_heads=3, index_head_dim=10)
    assert difference(sparse(tokens), model(tokens)) == 0.0 and not sparse.training
    fewer = with_indexer(sparse, topk=6)
    assert same_weights(fewer, sparse) and difference(fewer(tokens), model(tokens)) > 1e-3
    assert torch.equal(fewer(tokens)[:, :6], model(tokens)[:, :6]) or difference(
        fewer(tokens)[:, :6], model(tokens)[:, :6]) < 1e-12  # fmt: skip


def test_new_indexers_follow_the_seed_alone():
    model, state = make_model(PLAIN), torch.get_rng_state()
    models = [with_indexer(model, 4, 3, 10, seed) for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(*models[:2]) and not same_weights(*models[1:])


def test_copy_is_a_copy():
    model = make_model(CONFIG)
    before = copy.deepcopy(model.state_dict())
    sparse = with_indexer(model, 4)
    assert same_weights(sparse, model)
    with torch.no_grad():
        for parameter in sparse.parameters():
            parameter.zero_()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_indexer_of_other_sizes_is_a_new_one():
    model = make_model(CONFIG)
    sparse = with_indexer(model, 4, heads=2)
    indexer = sparse.model.layers[0].self_attn.indexer
    assert indexer.num_heads == 2 and indexer.head_dim == CONFIG.index_head_dim
    assert torch.equal(sparse.lm_head.weight, model.lm_head.weight)


def test_checkpoint_of_v3_becomes_one_of_v32():
    model = make_model(PLAIN.replace(model_type="deepseek_v3"))
    assert with_indexer(model, 4, 3, 10).config.to_hf()["model_type"] == "deepseek_v32"


@pytest.mark.parametrize(
    ("name", "message"),
    [("gqa", "model: its attention is 'gqa', expected 'mla'"), ("mla", "q_lora_rank = None: expected a number"),
     ("mla, compressed queries", "index_n_heads, index_head_dim, index_topk")],
)  # fmt: skip
def test_model_that_cannot_have_an_indexer_is_refused(name, message):
    sizes = {} if "compressed" in name else {"heads": 2, "head_dim": 8}
    with pytest.raises(ValueError, match=message):
        with_indexer(make_model(CONFIGS[name]), 4, **sizes)
