"""The training loop: its schedule, its windows, what it repeats and what it refuses."""

import math

import pytest
import torch
from tiny import CONFIGS, make_model, make_tokens
from torch import nn

from dsmini.model.moe import expert_load, watch_routing
from dsmini.model.transformer import Transformer
from dsmini.training import pretrain
from dsmini.training.pretrain import (
    TrainingSettings,
    balance_routers,
    evaluate,
    learning_rate_at,
    next_token_loss,
    random_windows,
    train,
    training_loss,
)

MOE = "mla, experts, MTP"
SHORT = TrainingSettings(steps=6, batch_size=4, context=8, learning_rate=1e-2, warmup_steps=2)


def new_model(name="mla", seed=0):
    torch.manual_seed(seed)
    return Transformer(CONFIGS[name])


def text(length=200):
    return make_tokens(CONFIGS["mla"], 1, length)[0]


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_schedule_warms_up_and_falls_to_a_tenth():
    settings = TrainingSettings(steps=100, learning_rate=1.0, warmup_steps=20)
    rates = [learning_rate_at(step, settings) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == 1.0 and rates[60] == pytest.approx(0.55)
    assert rates[20:] == pytest.approx([0.1 + 0.45 * (1 + math.cos(math.pi * i / 80)) for i in range(80)])
    assert rates[-1] == pytest.approx(0.1, rel=0.01) and sorted(rates[20:], reverse=True) == rates[20:]


def test_schedule_of_a_run_that_only_warms_up():
    assert learning_rate_at(3, TrainingSettings(steps=4, warmup_steps=8, learning_rate=1.0)) == 0.5
    assert learning_rate_at(0, TrainingSettings(steps=1, warmup_steps=0, learning_rate=1.0)) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps = 0: expected more than 0"),
        ({"batch_size": -1}, "batch_size = -1: expected more than 0"),
        ({"context": 0}, "context = 0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: expected more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"warmup_steps": -1}, "warmup_steps = -1: expected 0 or more"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1: expected 0 or more"),
        ({"max_grad_norm": 0.0}, "max_grad_norm = 0.0"),
        ({"mtp_weight": -0.3}, "mtp_weight = -0.3: expected 0 or more"),
        ({"bias_speed": -0.001}, "bias_speed = -0.001: expected 0 or more"),
        ({"balance_weight": float("nan")}, "balance_weight = nan: expected 0 or more"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


def test_windows_are_pieces_of_the_text_and_targets_one_token_further():
    tokens = torch.arange(30)
    inputs, targets = random_windows(tokens, batch_size=50, context=6, generator=random())
    assert inputs.shape == targets.shape == (50, 6)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(6))


def test_every_window_of_the_text_can_be_drawn():
    inputs, targets = random_windows(torch.arange(10), batch_size=200, context=6, generator=random())
    assert set(inputs[:, 0].tolist()) == {0, 1, 2, 3}
    assert targets.max() == 9


def test_text_shorter_than_a_window_is_refused():
    assert random_windows(torch.arange(7), 1, 6, random())[1].tolist() == [[1, 2, 3, 4, 5, 6]]
    with pytest.raises(ValueError, match="tokens: 6 tokens, but a window of context = 6 needs 7"):
        random_windows(torch.arange(6), 1, 6, random())


def test_loss_is_the_mean_surprise_in_nats():
    def even_odds(tokens):
        return torch.zeros(*tokens.shape, 61)

    inputs, targets = random_windows(text(), 4, 8, random())
    assert next_token_loss(even_odds, inputs, targets).item() == pytest.approx(math.log(61))
    assert evaluate(even_odds, text(), context=8, batches=2) == pytest.approx(math.log(61))


@pytest.mark.parametrize("name", ["gqa", "mla, compressed queries"])
def test_tiny_model_learns_a_short_text_by_heart(name):
    model, words = new_model(name), text(24)
    settings = TrainingSettings(steps=80, batch_size=8, context=16, learning_rate=2e-2, warmup_steps=5)
    losses = train(model, words, settings, progress=False)
    assert losses[0] == pytest.approx(math.log(61), abs=0.3)
    assert losses[-1] < 0.2
    assert evaluate(model, words, context=16, batches=2) < 0.2


def test_same_seed_trains_the_same_model_to_the_bit():
    models = [new_model(), new_model()]
    first, second = (train(model, text(), SHORT, seed=3, progress=False) for model in models)
    assert first == second
    states = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


def test_seed_changes_the_windows_and_nothing_else_draws_from_it():
    losses = {seed: train(new_model(), text(), SHORT, seed=seed, progress=False) for seed in (0, 1)}
    assert losses[0] != losses[1]
    torch.manual_seed(99)  # the global generator has no say
    assert train(new_model(), text(), SHORT, seed=0, progress=False) == losses[0]


def test_models_of_one_comparison_read_the_same_windows(monkeypatch):
    seen = []
    draw = random_windows
    monkeypatch.setattr(pretrain, "random_windows", lambda *a: seen.append(draw(*a)) or seen[-1])
    for name in ("mha", "mla"):
        train(new_model(name), text(), SHORT, seed=5, progress=False)
    for first, second in zip(seen[:6], seen[6:], strict=True):
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_evaluation_repeats_and_follows_its_seed():
    model = new_model().eval()
    assert evaluate(model, text(), context=8, batches=2) == evaluate(model, text(), context=8, batches=2)
    assert evaluate(model, text(), context=8, batches=2) != evaluate(model, text(), context=8, batches=2, seed=1)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_loss_that_is_not_finite_stops_the_run_at_its_step():
    model, steps = new_model(), []

    def poison(step, loss):
        steps.append((step, loss))
        if step == 2:
            nn.init.constant_(model.model.norm.weight, float("inf"))

    with pytest.raises(FloatingPointError, match="the loss is nan at step 3; lower learning_rate"):
        train(model, text(), SHORT, progress=False, on_step=poison)
    assert [step for step, _ in steps] == [0, 1, 2]


def test_on_step_is_told_every_loss():
    told = []
    losses = train(new_model(), text(), SHORT, progress=False, on_step=lambda *step: told.append(step))
    assert told == list(enumerate(losses)) and len(losses) == SHORT.steps


class Recorder(torch.optim.AdamW):
    """AdamW that remembers how it was made and what it was asked."""

    def __init__(self, groups, **options):
        Recorder.latest = self
        self.options, self.rates, self.norms = options, [], []
        super().__init__(groups, **options)

    def step(self):
        self.rates.append({group["lr"] for group in self.param_groups})
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        self.norms.append(torch.cat([grad.flatten() for grad in grads]).norm().item())
        super().step()


def test_matrices_decay_and_vectors_do_not(monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", Recorder)
    model = new_model("mqa")  # has biases
    train(model, text(), SHORT, progress=False)
    matrices, vectors = Recorder.latest.param_groups
    assert all(p.dim() == 2 for p in matrices["params"]) and matrices["weight_decay"] == 0.1
    assert all(p.dim() == 1 for p in vectors["params"]) and vectors["weight_decay"] == 0.0
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(model.parameters()))
    assert Recorder.latest.options["betas"] == (0.9, 0.95)


def test_every_step_uses_its_rate_and_clips_the_gradient(monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", Recorder)
    settings = TrainingSettings(**{**vars(SHORT), "max_grad_norm": 0.01})
    train(new_model(), text(), settings, progress=False)
    assert Recorder.latest.rates == [{learning_rate_at(step, settings)} for step in range(settings.steps)]
    assert Recorder.latest.norms == pytest.approx([0.01] * settings.steps, rel=1e-3)


def test_frozen_parameters_stay_and_the_rest_moves():
    model = new_model()
    frozen = model.model.embed_tokens.weight.requires_grad_(False)
    before, head = frozen.clone(), model.lm_head.weight.clone()
    train(model, text(), SHORT, progress=False)
    assert torch.equal(frozen, before) and not torch.equal(model.lm_head.weight, head)


def test_model_is_left_ready_to_be_used():
    model = new_model()
    train(model, text(), SHORT, progress=False)
    assert not model.training


# ---- data as a function of the step ---------------------------------------------------------------------------------


def windows_at(step):
    return make_tokens(CONFIGS["mla"], 3, 12, seed=step)


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_function_is_asked_for_every_step_once_and_in_order():
    asked = []
    train(new_model(), lambda step: asked.append(step) or windows_at(step), SHORT, progress=False)
    assert asked == list(range(SHORT.steps))


@pytest.mark.parametrize("name", ["mha", MOE])
def test_function_that_draws_the_windows_of_a_text_equals_the_text(name):
    drawn, generator = [], random(3)
    for _ in range(SHORT.steps):
        inputs, targets = random_windows(text(), SHORT.batch_size, SHORT.context, generator)
        drawn.append(torch.cat((inputs, targets[:, -1:]), dim=1))
    from_text, from_function = new_model(name), new_model(name)
    losses = train(from_text, text(), SHORT, seed=3, progress=False)
    assert train(from_function, drawn.__getitem__, SHORT, progress=False) == losses
    assert same_weights(from_text, from_function)


# ---- what is minimised ----------------------------------------------------------------------------------------------


def surprise(logits, targets):
    """Mean cross-entropy, written out."""
    picked = (logits.exp() / logits.exp().sum(-1, keepdim=True)).gather(-1, targets[..., None])
    return -picked.log().mean().item()


def imbalance(scores, k):
    """The sequence-wise balance loss of one router, loop by loop: V3 report, eq. 17-20."""
    rows, length, experts = scores.shape
    total = 0.0
    for row in scores.tolist():
        for e in range(experts):
            often = sum(e in sorted(range(experts), key=lambda i: -token[i])[:k] for token in row)
            share = sum(token[e] / sum(token) for token in row) / length
            total += often * experts / (k * length) * share
    return total / rows


@pytest.mark.parametrize("depths", [1, 2])
def test_loss_is_the_weighted_sum_that_a_hand_finds(depths):
    model = make_model(CONFIGS[MOE].replace(num_nextn_predict_layers=depths))
    windows = make_tokens(model.config, 3, 12)
    settings = TrainingSettings(mtp_weight=0.25, balance_weight=0.125)
    with watch_routing(model) as routes:
        loss, main = training_loss(model, windows, settings, routes)
    assert len(routes) == 1 + depths  # one layer with experts, and that of every module
    with torch.no_grad():
        assert main == pytest.approx(surprise(model(windows[:, :-1]), windows[:, 1:]), rel=1e-12)
        hidden, ahead = model.hidden_states(windows[:, :-1]), []
        for depth in range(depths):  # module `depth` reads token i + 1 + depth at i and predicts the one after it
            length = 11 - 1 - depth
            next_tokens = windows[:, 1 + depth : 1 + depth + length]
            hidden = model.predict_ahead(hidden[:, :length], next_tokens, depth=depth)
            ahead.append(surprise(model.lm_head(hidden), windows[:, 2 + depth : 2 + depth + length]))
        balance = sum(imbalance(route.scores, model.config.num_experts_per_tok) for route in routes.values())
    expected = main + 0.25 * sum(ahead) / depths + 0.125 * balance
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_weights_of_zero_leave_the_next_token_loss_alone():
    model = make_model(CONFIGS[MOE])
    windows = make_tokens(model.config, 3, 12)
    with watch_routing(model) as routes:
        loss, main = training_loss(model, windows, TrainingSettings(mtp_weight=0, balance_weight=0), routes)
    assert loss.item() == main
    assert not any(name.startswith("mtp") for name in routes)  # the module did not even run


def test_modules_learn_only_with_a_weight():
    def moved(mtp_weight):
        model, start = new_model(MOE), new_model(MOE)
        train(model, text(), TrainingSettings(**{**vars(SHORT), "mtp_weight": mtp_weight}), progress=False)
        pairs = zip(model.mtp.parameters(), start.mtp.parameters(), strict=True)
        return {not torch.equal(a, b) for a, b in pairs}

    assert moved(0.3) == {True} and moved(0.0) == {False}


def one_step(name, speed):
    """(router name -> load that step 0 puts on it, model before, model after it)."""
    before, after = new_model(name), new_model(name)
    settings = TrainingSettings(**{**vars(SHORT), "steps": 1, "bias_speed": speed})
    with torch.no_grad(), watch_routing(before) as routes:
        training_loss(before, windows_at(0), settings, routes)
    train(after, windows_at, settings, progress=False)
    return routes, before, after


def test_router_biases_move_by_the_sign_rule():
    routes, before, after = one_step(MOE, speed=0.25)
    assert set(routes) == {"model.layers.1.mlp.gate", "mtp.0.block.mlp.gate"}
    for name, route in routes.items():
        load = [int((route.experts == e).sum()) for e in range(8)]
        mean = sum(load) / 8
        assert load == expert_load(route.experts, 8).tolist() and max(load) > mean
        expected = [0.25 * ((mean > tokens) - (mean < tokens)) for tokens in load]
        assert before.get_submodule(name).e_score_correction_bias.abs().max() == 0
        assert after.get_submodule(name).e_score_correction_bias.tolist() == expected


def test_router_biases_stay_without_speed():
    routes, _, after = one_step(MOE, speed=0.0)
    assert routes
    assert all(after.get_submodule(name).e_score_correction_bias.abs().max() == 0 for name in routes)


def test_routers_without_a_bias_are_passed_over():
    _, before, after = one_step("mla, softmax experts", speed=0.25)
    assert not same_weights(before, after)
    with watch_routing(before) as routes:
        before(text(12)[None])
    balance_routers(before, routes, 0.25)
    assert before.model.layers[1].mlp.gate.e_score_correction_bias is None


@pytest.mark.parametrize("name", ["mha", "mqa", "mla, compressed queries"])
def test_dense_model_trains_as_by_the_plain_loop_to_the_bit(name):
    """The extras for experts and MTP cost a model without them not one bit."""
    model, plain = new_model(name), new_model(name)
    losses = train(model, text(), SHORT, seed=5, progress=False)
    generator, expected = random(5), []
    decayed = [p for p in plain.parameters() if p.dim() > 1]
    others = [{"params": [p for p in plain.parameters() if p.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, *others], betas=(0.9, 0.95))
    for step in range(SHORT.steps):
        inputs, targets = random_windows(text(), SHORT.batch_size, SHORT.context, generator)
        loss = nn.functional.cross_entropy(plain(inputs).flatten(0, 1), targets.flatten())
        plain.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, SHORT)
        optimizer.step()
        expected.append(loss.item())
    assert losses == expected and same_weights(model, plain)


# ---- killed and resumed ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def killed_at(last):
    def on_step(step, loss):
        if step == last:
            raise Killed

    return on_step


@pytest.mark.parametrize("data", [text(), windows_at], ids=["text", "function"])
@pytest.mark.parametrize("name", ["mqa", MOE])
@pytest.mark.parametrize("every", [1, 2, 4])
def test_run_killed_at_any_step_ends_as_if_it_had_not_been(tmp_path, name, data, every):
    whole = new_model(name)
    losses = train(whole, data, SHORT, seed=2, progress=False)
    for last in range(SHORT.steps):
        path = tmp_path / f"{last}.safetensors"
        kept = {"seed": 2, "progress": False, "snapshot": path, "snapshot_every": every}
        with pytest.raises(Killed):
            train(new_model(name), data, SHORT, on_step=killed_at(last), **kept)
        assert path.exists() == (last >= every)
        model, steps = new_model(name, seed=9 if path.exists() else 0), []  # a snapshot brings its own weights
        resumed = train(model, data, SHORT, on_step=lambda step, _, steps=steps: steps.append(step), **kept)
        assert resumed == losses and same_weights(model, whole)
        assert steps == list(range(last // every * every, SHORT.steps))  # no more than one interval is done twice


def test_run_killed_again_and_again_still_ends_the_same(tmp_path):
    whole, model = new_model(MOE), new_model(MOE)
    losses = train(whole, text(), SHORT, progress=False)
    path = tmp_path / "run.safetensors"
    for last in (2, 3, 4):
        with pytest.raises(Killed):
            train(new_model(MOE), text(), SHORT, progress=False, on_step=killed_at(last), snapshot=path,
                  snapshot_every=1)  # fmt: skip
    assert train(model, text(), SHORT, progress=False, snapshot=path) == losses
    assert same_weights(model, whole)


def test_model_that_was_interrupted_can_be_handed_in_again(tmp_path):
    whole, model = new_model(MOE), new_model(MOE)
    losses = train(whole, text(), SHORT, progress=False)
    kept = {"progress": False, "snapshot": tmp_path / "run.safetensors", "snapshot_every": 2}
    with pytest.raises(Killed):
        train(model, text(), SHORT, on_step=killed_at(3), **kept)
    assert train(model, text(), SHORT, **kept) == losses  # the same cell, run again: a model that has moved on
    assert same_weights(model, whole)


def test_finished_run_is_not_trained_again(tmp_path):
    path, steps = tmp_path / "new" / "run.safetensors", []
    whole, model = new_model(), new_model(seed=1)
    losses = train(whole, text(), SHORT, progress=False, snapshot=path)
    again = train(model, text(), SHORT, progress=False, snapshot=path, on_step=lambda *step: steps.append(step))
    assert again == losses and steps == [] and same_weights(model, whole) and not model.training


def test_without_a_snapshot_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(new_model(), text(), SHORT, progress=False, snapshot_every=1)
    assert list(tmp_path.iterdir()) == []


def test_interval_is_checked():
    with pytest.raises(ValueError, match="snapshot_every = 0: expected 1 or more steps"):
        train(new_model(), text(), SHORT, progress=False, snapshot_every=0)


def test_bar_starts_where_the_run_goes_on(tmp_path, capsys):
    kept = {"snapshot": tmp_path / "run.safetensors", "snapshot_every": 4}
    with pytest.raises(Killed):
        train(new_model(), text(), SHORT, progress=False, on_step=killed_at(4), **kept)
    capsys.readouterr()
    train(new_model(), text(), SHORT, progress="second try", **kept)
    shown = capsys.readouterr().err
    assert shown.startswith("\rsecond try:  67%") and "4/6" in shown and "0/6" not in shown
