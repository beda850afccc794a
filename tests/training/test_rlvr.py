"""The trainer: one gradient, however it is computed; runs that go on where they stopped; and what it refuses."""

import copy
import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from planted import planted
from tiny import CONFIGS, difference, make_model

from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.model.transformer import Transformer
from dsmini.training import grpo, rlvr
from dsmini.training.pretrain import new_optimizer
from dsmini.training.rlvr import GRPOSettings, grpo_step, policy, train_grpo
from dsmini.training.rollout import pad, roll_out
from dsmini.training.snapshot import SnapshotError

END = TOKENIZER.id(EOS)
ASKED = [SimpleNamespace(prompt=text) for text in ("cups 1 2", "reach 9 with 3 6", "1 + 2", "yes")]
SMALL = GRPOSettings(steps=5, prompts=4, group_size=4, max_new_tokens=7, learning_rate=1e-3, max_grad_norm=1e9)
EXACT = dataclasses.replace(SMALL, learning_rate=1e-12)  # updates that leave the weights where they are


def speaker(name="mla", seed=0, dtype=torch.float64):
    """A model that knows the book's symbols, and ends an answer often."""
    model = make_model(CONFIGS[name].replace(vocab_size=TOKENIZER.vocab_size), seed, dtype)
    with torch.no_grad():
        model.lm_head.weight[END] *= 4
    return model


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def problems(step):
    return ASKED


def reward(problem, text):
    """The first problem is out of reach; whatever is said, nobody is better than anybody."""
    return 0.0 if problem is ASKED[0] else len(text) % 5 + text.count("1")


def from_another_policy(*arguments, **options):
    """A rollout whose log-probabilities say that a less certain policy drew it."""
    said = roll_out(*arguments, **options)
    return dataclasses.replace(said, log_probs=[0.9 * log_probs for log_probs in said.log_probs])


@pytest.fixture
def off_policy(monkeypatch):
    monkeypatch.setattr(rlvr, "roll_out", from_another_policy)


def step_of(model, settings, module=rlvr, reference=None, asked=ASKED):
    """One step of a copy of the model: (its dict, name -> gradient of every update)."""
    module.roll_out = rlvr.roll_out
    model, gradients = copy.deepcopy(model), []
    optimizer = new_optimizer(model, settings)
    named = dict(model.named_parameters())

    def record(*_):
        gradients.append({name: weight.grad.clone() for name, weight in named.items() if weight.grad is not None})

    optimizer.register_step_pre_hook(record)
    entry = module.grpo_step(model, optimizer, asked, reward, settings, 0, random(), reference)
    return entry, gradients


def plain_gradient(model, settings, reference=None, keep=lambda targets, mask: mask):
    """The gradient of the same step with nothing clever: every row, one batch, `grpo_loss` with its own weights."""
    said = rlvr.roll_out(model, ASKED, reward, settings.group_size, settings.max_new_tokens, settings.temperature,
                         random())  # fmt: skip
    inputs, targets, mask = pad(said.prompts, said.tokens)
    old = torch.zeros(mask.shape, dtype=torch.float64)
    old[mask] = torch.cat(said.log_probs)
    ref = policy(reference, inputs, targets, settings.temperature)[0].detach() if reference else None
    loss, _ = grpo.grpo_loss(
        policy(model, inputs, targets, settings.temperature)[0], old,
        grpo.group_advantages(said.rewards, settings.scale_rewards).flatten(), keep(targets, mask),
        epsilon=settings.epsilon, importance_sampling_level=settings.importance_sampling_level,
        normalization=settings.normalization, max_tokens=settings.max_new_tokens,
        beta=settings.beta, kl=settings.kl, ref_log_probs=ref,
    )  # fmt: skip
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return loss.item(), {name: slope for name, slope in zip(named, found, strict=True) if slope is not None}


def apart(first, second):
    """The largest difference between two dicts of gradients."""
    assert first.keys() == second.keys()
    return max(difference(first[name], second[name]) for name in first)


# ---- one gradient, however it is computed ---------------------------------------------------------------------------

OPTIONS = [
    {},
    {"normalization": "tokens"},
    {"normalization": "constant"},
    {"scale_rewards": "none", "importance_sampling_level": "sequence"},
    {"scale_rewards": "batch", "temperature": 0.7},
    {"beta": 0.1, "kl": "ratio*k3"},
    {"beta": 0.1, "kl": "k2", "temperature": 1.4, "normalization": "tokens"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("token_budget", [1, 40, 16384])
def test_dropped_rows_and_micro_batches_leave_the_gradient_as_it_is(options, token_budget, off_policy):
    settings = dataclasses.replace(EXACT, token_budget=token_budget, **options)
    model, reference = speaker(), speaker(seed=1) if settings.beta else None
    entry, (found,) = step_of(model, settings, reference=reference)
    loss, expected = plain_gradient(model, settings, reference)
    assert entry["zero_groups"] >= 0.25 and max(slope.abs().max() for slope in expected.values()) > 1e-3
    assert entry["loss"] == pytest.approx(loss, abs=1e-14) and apart(found, expected) < 1e-14
    norm = torch.cat([slope.flatten() for slope in expected.values()]).norm().item()
    assert entry["grad_norm"] == pytest.approx(norm)


MISTAKES = {
    "weights of the micro-batch": (
        {}, "weights=mask * per_token[:, None]", "normalization=settings.normalization"),
    "weights of the rows that are left": ({}, "(lengths, settings)  # (n,)", "(lengths[4:], settings)[0].expand(16)"),
    "a gradient for every micro-batch": ({}, "loss.backward()", "optimizer.zero_grad(); loss.backward()"),
    "advantages of other rows": ({}, "advantages[rows]", "advantages[rows[::-1]]"),
    "the policy's own log-probabilities for old": ({}, "old[mask] = torch.cat([rollout.log_probs[r] for r in rows])",
        "old = policy(model, inputs, targets, settings.temperature)[0].detach()"),
    "the policy at temperature 1": (
        {"temperature": 0.7}, "policy(model, inputs, targets, settings.temperature)", "policy(model, inputs, targets)"),
    "the reference at temperature 1": (
        {"temperature": 0.7, "beta": 0.1}, "policy(reference, inputs, targets, settings.temperature)",
        "policy(reference, inputs, targets)"),
    "rows without advantage dropped with a divergence": ({"beta": 0.1}, " or settings.beta]", "]"),
    "the estimator not handed on": ({"beta": 0.1, "kl": "k2"}, "kl=settings.kl,", ""),
    "the level not handed on": (
        {"importance_sampling_level": "sequence"}, "importance_sampling_level=settings.importance_sampling_level,", ""),
    "the scale not handed on": ({"scale_rewards": "none"}, "(rollout.rewards, s.scale_rewards)", "(rollout.rewards)"),
    "the length not handed on": (
        {"normalization": "constant"}, "settings.normalization, settings.max_new_tokens)[:, 0]",
        "settings.normalization, 1)[:, 0]"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_changes_the_gradient(mistake, off_policy):
    options, right, wrong = MISTAKES[mistake]
    settings = dataclasses.replace(EXACT, token_budget=40, **options)
    model, reference = speaker(), speaker(seed=1) if settings.beta else None
    _, expected = plain_gradient(model, settings, reference)
    _, (found,) = step_of(model, settings, planted(rlvr, right, wrong), reference)
    assert apart(found, expected) > 1e-5
