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
from dsmini.training.rlvr import GRPOSettings, policy, train_grpo
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


def test_shares_of_a_step_are_parts_of_the_whole(off_policy):
    for options in ({}, {"normalization": "constant", "scale_rewards": "none"}):
        settings = dataclasses.replace(EXACT, minibatches=3, **options)
        entry, found = step_of(speaker(), settings)
        loss, expected = plain_gradient(speaker(), settings)
        assert len(found) == 3 and entry["mismatch"] > 0.1
        sizes = 6 / 16, 5 / 16, 5 / 16  # of sixteen answers
        mean = {name: sum(n * g[name] for n, g in zip(sizes, found, strict=True)) for name in expected}
        assert apart(mean, expected) < 1e-9  # the weights moved by 1e-12
        assert entry["loss"] != pytest.approx(loss, rel=1e-3) and apart(found[0], found[1]) > 1e-3


def test_end_of_the_sentence_is_trained():
    model = speaker()
    _, (found,) = step_of(model, EXACT)
    _, without = plain_gradient(model, EXACT, keep=lambda targets, mask: mask & (targets != END))
    assert apart(found, plain_gradient(model, EXACT)[1]) < 1e-14 and apart(found, without) > 1e-2


def test_every_tensor_learns_and_multi_token_prediction_does_not():
    model = speaker("mla, experts, MTP")
    _, (found,) = step_of(model, SMALL)
    names = {name for name, _ in model.named_parameters()}
    assert names - found.keys() == {name for name in names if name.startswith("mtp.")} != set()
    assert all(slope.abs().max() > 0 for slope in found.values())


# ---- what a step tells ----------------------------------------------------------------------------------------------


def train(model, settings=SMALL, problems=problems, reward=reward, **options):
    return train_grpo(model, problems, reward, settings, progress=False, **options)


def test_first_update_is_on_policy_and_the_later_ones_are_not():
    entry, _ = step_of(speaker(), SMALL)
    assert entry["mismatch"] < 1e-12 and abs(entry["ratio"] - 1) < 1e-12 and entry["clip_fraction"] == 0
    bold = dataclasses.replace(SMALL, minibatches=4, learning_rate=0.05)
    entry, _ = step_of(speaker(), bold)
    assert entry["mismatch"] < 1e-12 and abs(entry["ratio"] - 1) > 1e-3 and entry["clip_fraction"] > 0


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_rollout_and_training_are_at_one_temperature(temperature, monkeypatch):
    settings = dataclasses.replace(SMALL, temperature=temperature)
    assert step_of(speaker(), settings)[0]["mismatch"] < 1e-12
    forgetful = lambda *arguments: roll_out(*arguments[:5], 1.0, *arguments[6:])  # noqa: E731
    monkeypatch.setattr(rlvr, "roll_out", forgetful)
    assert step_of(speaker(), settings)[0]["mismatch"] > 0.1


def test_entry_says_what_was_said(monkeypatch):
    said = []

    def recorded(*arguments):
        said.append(roll_out(*arguments))
        return said[-1]

    monkeypatch.setattr(rlvr, "roll_out", recorded)
    model = speaker()
    parts = lambda problem, text: {"right": reward(problem, text), "length": -0.01 * len(text)}  # noqa: E731
    entry = rlvr.grpo_step(model, new_optimizer(model, EXACT), ASKED, parts, EXACT, generator=random())
    (rollout,) = said
    lengths = [len(tokens) for tokens in rollout.tokens]
    assert entry["reward"] == rollout.rewards.mean() == pytest.approx(entry["right"] + entry["length"])
    assert entry["right"] == rollout.parts["right"].mean() and entry["zero_groups"] < 1
    ended = sum(tokens[-1] == END for tokens in rollout.tokens)
    assert entry["tokens"] == sum(lengths) / 16 and entry["stopped"] == ended / 16 > 0
    inputs, targets, mask = pad(rollout.prompts, rollout.tokens)
    probs = model(inputs).softmax(-1)
    surprise = -(probs * probs.log()).sum(-1)
    moving = grpo.group_advantages(rollout.rewards).flatten() != 0
    assert entry["entropy"] == pytest.approx(surprise[moving][mask[moving]].mean().item())


def test_step_without_any_advantage_leaves_the_model_as_it_is():
    model = speaker()
    before = copy.deepcopy(model.state_dict())
    settings = dataclasses.replace(SMALL, weight_decay=0.1)
    (entry, *_) = train(model, settings, reward=lambda problem, text: 1.0)
    assert same(model.state_dict(), before)
    assert entry["zero_groups"] == entry["reward"] == 1
    assert not any(entry[name] for name in ("loss", "grad_norm", "entropy", "ratio", "kl", "mismatch"))


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_learning_rate_warms_up_and_stays():
    model = speaker()
    optimizer, rates = new_optimizer(model, SMALL), []
    settings = dataclasses.replace(SMALL, warmup_steps=3, learning_rate=0.4)
    for step in range(6):
        rlvr.grpo_step(model, optimizer, ASKED, lambda *_: 1.0, settings, step)
        rates.append({group["lr"] for group in optimizer.param_groups})
    assert [rate for (rate,) in rates] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_long_gradient_is_cut_and_told_at_full_length():
    model = speaker()
    whole, (gradient,) = step_of(model, SMALL)
    cut, (shorter,) = step_of(model, dataclasses.replace(SMALL, max_grad_norm=0.1))
    assert cut["grad_norm"] == whole["grad_norm"] > 0.2
    scaled = {name: slope * 0.1 / whole["grad_norm"] for name, slope in gradient.items()}
    assert apart(shorter, scaled) < 1e-6


# ---- the divergence and its reference -------------------------------------------------------------------------------


def test_divergence_is_zero_at_the_start_and_the_reference_never_moves(monkeypatch):
    model, seen = speaker(), []
    start = copy.deepcopy(model.state_dict())

    def watched(network, *arguments):
        if network is not model:
            seen.append((network, network.training))
        return policy(network, *arguments)

    monkeypatch.setattr(rlvr, "policy", watched)
    history = train(model, dataclasses.replace(SMALL, beta=0.1, learning_rate=0.02))
    assert abs(history[0]["kl"]) < 1e-12 < 1e-3 < history[-1]["kl"]
    assert not same(model.state_dict(), start)
    assert all(same(network.state_dict(), start) and not training for network, training in seen) and len(seen) >= 5
    assert all(weight.grad is None for weight in seen[0][0].parameters())


def test_another_reference_is_used():
    entry, _ = step_of(speaker(), dataclasses.replace(SMALL, beta=0.1), reference=speaker(seed=1))
    assert entry["kl"] > 0.1


# ---- learning -------------------------------------------------------------------------------------------------------


def beginner(seed=0):
    torch.manual_seed(seed)
    return Transformer(CONFIGS["mla"].replace(vocab_size=TOKENIZER.vocab_size, num_hidden_layers=1))


BANDIT = GRPOSettings(steps=30, prompts=2, group_size=32, max_new_tokens=1, learning_rate=2e-2)


def small_for_no(problem, text):
    """Asked "no", say a number below 32; asked "yes", any other number."""
    return float(text.isdigit() and (int(text) < 32) == (problem.prompt == "no"))


def play(**options):
    asked = [SimpleNamespace(prompt="yes"), SimpleNamespace(prompt="no")]
    return train(beginner(), dataclasses.replace(BANDIT, **options), lambda step: asked, small_for_no)


@pytest.mark.parametrize("options", [{}, {"scale_rewards": "none", "normalization": "constant", "minibatches": 2}])
def test_reward_rises(options):
    history = play(**options)
    rewards = [entry["reward"] for entry in history]
    assert rewards[0] < 0.5 < 0.95 < sum(rewards[-3:]) / 3
    assert history[-1]["entropy"] < history[0]["entropy"] == pytest.approx(math.log(128), abs=0.1)


@pytest.mark.parametrize(("kl", "holds"), [("k1", False), ("k2", True), ("k3", True), ("ratio*k3", True)])
def test_divergence_holds_the_policy_unless_its_gradient_is_none(kl, holds):
    """beta = 3, against rewards of 0 and 1: nearly nothing may be learnt. k1 as a loss only adds noise."""
    last = [entry["kl"] for entry in play(beta=3.0, kl=kl, scale_rewards="none")[-3:]]
    assert max(last) < 0.1 if holds else min(last) > 1


def test_model_learns_to_stop():
    settings = GRPOSettings(steps=25, prompts=1, group_size=32, max_new_tokens=12, learning_rate=2e-2)
    history = train(beginner(), settings, lambda step: ASKED[:1], lambda problem, text: float(EOS in text))
    assert history[0]["stopped"] < 0.3 and history[-1]["stopped"] > 0.95 and history[-1]["tokens"] < 6


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_same_seed_trains_the_same_model_to_the_bit_and_another_does_not():
    models = [speaker(dtype=torch.float32) for _ in range(3)]
    runs = [train(model, seed=seed) for model, seed in zip(models, (3, 3, 4), strict=True)]
    assert runs[0] == runs[1] != runs[2]
    assert same(models[0].state_dict(), models[1].state_dict())
    torch.manual_seed(99)  # the global generator has no say
    assert train(speaker(dtype=torch.float32), seed=3) == runs[0]


def test_every_step_asks_its_own_problems_and_tells_what_happened():
    asked, told = [], []
    model = speaker()
    ask = lambda step: asked.append(step) or ASKED  # noqa: E731
    history = train(model, problems=ask, on_step=lambda *step: told.append(step))
    assert asked == [0, 1, 2, 3, 4] and told == list(enumerate(history))
    assert not model.training
    assert {type(value) for entry in history for value in entry.values()} == {float}


class Killed(Exception):
    pass


@pytest.mark.parametrize("options", [{}, {"minibatches": 3}, {"beta": 0.1}], ids=str)
@pytest.mark.parametrize("killed_at", [1, 2, 4])
def test_killed_run_goes_on_to_the_same_end(options, killed_at, tmp_path):
    settings, file = dataclasses.replace(SMALL, **options), tmp_path / "run.safetensors"
    whole, model = speaker(), speaker()
    history = train(whole, settings)

    def kill(step, entry):
        if step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(model, settings, snapshot=file, snapshot_every=2, on_step=kill)
    assert file.exists() == (killed_at >= 2)  # step 1 is killed before it is kept
    steps, again = [], speaker()
    assert (
        train(again, settings, snapshot=file, snapshot_every=2, on_step=lambda step, _: steps.append(step)) == history
    )
    assert same(again.state_dict(), whole.state_dict()) and not again.training
    assert steps[0] == killed_at // 2 * 2
    assert train(speaker(), settings, snapshot=file, on_step=lambda *_: pytest.fail("it was done")) == history


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": dataclasses.replace(SMALL, learning_rate=0.5)}, "learning_rate = 0.001 there, 0.5 here"),
        ({"settings": dataclasses.replace(SMALL, kl="k2")}, "kl = 'k3' there, 'k2' here"),
        ({"seed": 1}, "seed = 0 there, 1 here"),
        ({"problems": lambda step: ASKED[::-1]}, "data = "),
        ({"model": speaker("gqa")}, "config"),
    ],
)
def test_snapshot_of_another_run_is_refused(change, message, tmp_path):
    file = tmp_path / "run.safetensors"
    train(speaker(), snapshot=file)
    with pytest.raises(SnapshotError, match=message):
        train(change.pop("model", None) or speaker(), snapshot=file, **change)


def test_run_that_goes_on_keeps_its_reference(tmp_path):
    """In a notebook the model has learned before the cell is run again: it is no longer what it was compared with."""
    settings, file = dataclasses.replace(SMALL, beta=0.1), tmp_path / "run.safetensors"
    model = speaker()
    train(model, settings, snapshot=file)
    with pytest.raises(SnapshotError, match="reference = "):
        train(model, settings, snapshot=file)
    train(model, settings, snapshot=file, reference=speaker())


# ---- what is not finite ---------------------------------------------------------------------------------------------


def stops(model, error, message, note=None, settings=SMALL, reward=reward):
    """The run ends with this message, and the step that ended it has not touched the weights."""
    kept = {}

    def keep(step, entry):
        kept.update(copy.deepcopy(model.state_dict()), step=step)

    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=message) as caught:
        train(model, settings, reward=reward, on_step=keep)
    kept.pop("step", None)
    assert note is None or note in "".join(caught.value.__notes__)
    now, then = model.state_dict(), kept or before
    assert all(torch.equal(now[name].nan_to_num(), then[name].nan_to_num()) for name in then)


def test_poisoned_weight_is_noticed_in_the_rollout():
    model = speaker()
    with torch.no_grad():
        model.lm_head.weight[3, 3] = torch.nan
    stops(model, ValueError, "logits: found NaN", "in the rollout of step 0; the weights are as they were before")


def test_reward_that_is_no_number_stops_the_run_at_its_step():
    calls = iter(range(1000))

    def broken(problem, text):
        return math.nan if next(calls) == 40 else reward(problem, text)

    stops(speaker(), ValueError, "the reward of .* for '1 [+] 2' is nan", "in the rollout of step 2", reward=broken)


def with_log_probs(monkeypatch, change, step=2):
    """From `step` on the rollout says something else than what was sampled."""
    calls = iter(range(100))

    def changed(*arguments):
        said = roll_out(*arguments)
        old = [change(log_probs) for log_probs in said.log_probs] if next(calls) >= step else said.log_probs
        return dataclasses.replace(said, log_probs=old)

    monkeypatch.setattr(rlvr, "roll_out", changed)


def test_ratio_that_overflows_stops_the_run_at_its_step(monkeypatch):
    with_log_probs(monkeypatch, lambda log_probs: log_probs - 2000)
    message = "step 2, minibatch 0: the loss is inf, from finite log-probabilities: the ratio pi/pi_old has overflowed"
    stops(speaker(), FloatingPointError, message)


def test_overflow_behind_the_clip_is_found_in_the_gradient(monkeypatch):
    with_log_probs(monkeypatch, lambda log_probs: log_probs - 2000)
    settings = dataclasses.replace(SMALL, token_budget=1)
    monkeypatch.setattr(grpo, "group_advantages", lambda rewards, _: torch.ones_like(rewards))  # all clipped
    message = "step 2, minibatch 0: the gradient of model.* is not finite; the weights are as they were before"
    stops(speaker(), FloatingPointError, message, settings=settings)


def test_log_probabilities_that_are_not_finite_are_named_with_their_problem(monkeypatch):
    with_log_probs(monkeypatch, lambda log_probs: log_probs + math.nan)
    stops(
        speaker(), FloatingPointError, "step 2, minibatch 0: old log-probabilities of an answer to '.*' are not finite"
    )

    def poisoned(model, inputs, targets, temperature):
        log_probs, entropy = policy(model, inputs, targets, temperature)
        return log_probs * math.nan, entropy

    monkeypatch.setattr(rlvr, "roll_out", roll_out)
    monkeypatch.setattr(rlvr, "policy", poisoned)
    stops(speaker(), FloatingPointError, "step 0, minibatch 0: log-probabilities of an answer to '.*' are not finite")


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps = 0: expected more than 0"),
        ({"prompts": -1}, "prompts = -1: expected more than 0"),
        ({"group_size": 1}, "group_size = 1: expected 2 or more, an answer is compared with others"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"temperature": 0.0}, "temperature = 0.0: expected more than 0"),
        ({"learning_rate": math.nan}, "learning_rate = nan"),
        ({"learning_rate": math.inf}, "learning_rate = inf"),
        ({"warmup_steps": -1}, "warmup_steps = -1: expected 0 or more"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1: expected 0 or more"),
        ({"max_grad_norm": 0.0}, "max_grad_norm = 0.0"),
        ({"minibatches": 0}, "minibatches = 0"),
        ({"prompts": 2, "group_size": 3, "minibatches": 7}, "minibatches = 7: a step has 6 answers"),
        ({"epsilon": 0.0}, "epsilon = 0.0: expected more than 0"),
        ({"epsilon_high": -0.1}, "epsilon_high = -0.1"),
        ({"beta": -0.1}, "beta = -0.1: expected 0 or more"),
        ({"token_budget": 0}, "token_budget = 0"),
        ({"importance_sampling_level": "word"}, "importance_sampling_level = 'word': expected one of 'token', 'sequen"),
        ({"scale_rewards": "std"}, "scale_rewards = 'std': expected one of 'group'"),
        ({"normalization": "length"}, "normalization = 'length': expected one of 'sequence'"),
        ({"kl": "k4"}, "kl = 'k4': expected one of 'k1'"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        GRPOSettings(**changes)


def test_settings_without_a_clip_are_fine():
    assert GRPOSettings(epsilon=None).epsilon is None and GRPOSettings(epsilon=10.0, beta=0.001).beta == 0.001


def test_snapshots_need_an_interval():
    with pytest.raises(ValueError, match="snapshot_every = 0: expected 1 or more steps"):
        train(speaker(), snapshot_every=0)


def test_a_part_may_not_have_the_name_of_a_figure():
    model = speaker()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="reward: its part 'tokens' has the name of a figure of the step"):
        train(model, reward=lambda problem, text: {"accuracy": 1.0, "tokens": -0.01 * len(text)})
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 2.5}, "steps = 2.5: expected a whole number"),
        ({"steps": "60"}, "steps = '60': expected a whole number"),
        ({"minibatches": None}, "minibatches = None: expected a whole number"),
        ({"learning_rate": "5e-4"}, "learning_rate = '5e-4': expected a number"),
        ({"epsilon": "0.2"}, "epsilon = '0.2': expected a number"),
    ],
)
def test_settings_have_types(changes, message):
    with pytest.raises(ValueError, match=message):
        GRPOSettings(**changes)


def test_problems_are_a_function_that_gives_as_many_as_asked_for():
    with pytest.raises(ValueError, match="problems, settings: list, GRPOSettings, expected a function"):
        train(speaker(), problems=[])
    with pytest.raises(ValueError, match="problems, settings: function, dict, expected a function"):
        train(speaker(), settings={"steps": 2})
    with pytest.raises(ValueError, match=f"step 0: {SMALL.prompts + 1} problems, expected settings.prompts"):
        train(speaker(), problems=lambda step: [*problems(step), *problems(step)[:1]])
