"""The training loop: its schedule, its windows, what it repeats and what it refuses."""

import math

import pytest
import torch
from tiny import CONFIGS, make_tokens
from torch import nn

from dsmini.model.transformer import Transformer
from dsmini.training import pretrain
from dsmini.training.pretrain import (
    TrainingSettings,
    evaluate,
    learning_rate_at,
    next_token_loss,
    random_windows,
    train,
)

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
