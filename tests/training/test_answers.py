"""Training on answers alone: which targets count, and runs that go on where they stopped."""

import dataclasses
import math

import pytest
import torch
from tiny import CONFIGS, difference, make_model
from torch.nn import functional as F

from dsmini.model.transformer import Transformer
from dsmini.probes import gradient_census
from dsmini.tasks.needle import VOCAB_SIZE, needles
from dsmini.training.answers import answer_loss, checked, train_answers
from dsmini.training.pretrain import TrainingSettings, learning_rate_at
from dsmini.training.sft import response_loss
from dsmini.training.snapshot import SnapshotError

CONFIG = CONFIGS["mla"].replace(vocab_size=VOCAB_SIZE)
SHORT = TrainingSettings(steps=6, batch_size=4, context=16, learning_rate=1e-2, warmup_steps=2)
DATA = needles(SHORT.batch_size, SHORT.context)


def new_model(seed=0):
    torch.manual_seed(seed)
    return Transformer(CONFIG)


def train(model, data=DATA, settings=SHORT, **options):
    return train_answers(model, data, settings, progress=False, **options)


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_loss_is_that_of_the_marked_targets_with_the_same_gradients():
    batch, gradients = DATA(0), []
    for loss_of in (answer_loss, response_loss):  # the second makes all logits, the first only those it needs
        model = make_model(CONFIG)
        loss = loss_of(model, *batch)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert difference(*gradients) < 1e-13
    logits = model(batch.inputs)[batch.mask]
    assert loss.item() == pytest.approx(F.cross_entropy(logits, batch.targets[batch.mask]).item(), abs=1e-13)


def test_training_is_adamw_with_the_settings_on_the_data_of_the_step():
    trained, model = new_model(), new_model()
    losses = train(trained)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for step, expected in enumerate(losses):
        optimizer.zero_grad()
        loss = answer_loss(model, *DATA(step))
        assert loss.item() == expected
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, SHORT)
        optimizer.step()
    assert same_weights(trained, model) and not trained.training


def test_everything_learns_but_an_indexer():
    model = make_model(CONFIGS["sparse mla"].replace(vocab_size=VOCAB_SIZE))
    answer_loss(model, *DATA(0)).backward()
    census = gradient_census(model)
    assert set(census.none) == {name for name, _ in model.named_parameters() if ".indexer." in name} != set()
    assert not census.zero


def test_weight_decay_leaves_what_does_not_learn_alone():
    """A dense model carries its untrained indexers along, exactly as they were drawn."""
    torch.manual_seed(0)
    model = Transformer(CONFIGS["sparse mla"].replace(vocab_size=VOCAB_SIZE, index_topk=64))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]) == (".indexer." in name), name


def test_on_step_is_told_every_loss():
    told = []
    losses = train(new_model(), on_step=lambda *step: told.append(step))
    assert told == list(enumerate(losses)) and len(losses) == SHORT.steps
    assert losses[-1] < losses[0] == pytest.approx(math.log(VOCAB_SIZE), abs=0.3)


class Killed(Exception):
    pass


def test_killed_run_goes_on_to_the_same_end(tmp_path):
    whole, file = new_model(), tmp_path / "run.safetensors"
    losses = train(whole)

    def kill(step, loss):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        train(new_model(), snapshot=file, snapshot_every=2, on_step=kill)
    steps, again = [], new_model(seed=1)
    assert train(again, snapshot=file, on_step=lambda step, _: steps.append(step)) == losses
    assert same_weights(again, whole) and steps[0] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": dataclasses.replace(SHORT, learning_rate=1e-3)}, "learning_rate = 0.01 there, 0.001 here"),
        ({"seed": 1}, "seed = 0 there, 1 here"),
        ({"data": needles(4, 16, seed=1)}, "data = "),
    ],
)
def test_snapshot_of_another_run_is_refused(change, message, tmp_path):
    file = tmp_path / "run.safetensors"
    train(new_model(), snapshot=file)
    with pytest.raises(SnapshotError, match=message):
        train(new_model(), **{"snapshot": file, **change})


def test_loss_that_is_not_finite_stops_the_run_at_its_step():
    model = new_model()

    def poison(step, loss):
        if step == 2:
            model.model.norm.weight.data.fill_(math.inf)

    with pytest.raises(FloatingPointError, match="the loss is nan at step 3; lower learning_rate"):
        train(model, on_step=poison)


INPUTS, TARGETS, MASK = DATA(0)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((INPUTS, TARGETS), "a step of 2 parts, expected"),
        ((INPUTS, TARGETS[:, 1:], MASK), r"data: \(4, 16\) torch.int64, \(4, 15\) torch.int64"),
        ((INPUTS, TARGETS, MASK.long()), r"expected inputs and targets \(B, T\) int64 and a mask \(B, T\) bool"),
        ((INPUTS[0], TARGETS[0], MASK[0]), r"data: \(16,\) torch.int64"),
        ((INPUTS, TARGETS, MASK & False), "mask keeps nothing, expected an answer"),
        ((INPUTS, TARGETS, MASK, torch.tensor([16, 16, 0, 2])), r"lengths \[16, 16, 0, 2\], expected for each of 4 r"),
        ((INPUTS, TARGETS, MASK, torch.tensor([16, 17, 1, 2])), "expected for each of 4 rows 1 to 16"),
        ((INPUTS, TARGETS, MASK, torch.tensor([16])), r"lengths \[16\]"),
    ],
)
def test_data_of_another_shape_is_named(batch, message):
    with pytest.raises(ValueError, match=message):
        train(new_model(), data=lambda step: batch)


def test_rows_without_lengths_are_full():
    assert checked(DATA(0))[3] is None
    lengths = torch.tensor([16, 3, 1, 9])
    assert checked((*DATA(0), lengths))[3] is lengths
