"""Snapshots hold all that the next step depends on, belong to one run, and are whole or not there."""


import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import CONFIGS, make_tokens

from dsmini.model.transformer import Transformer
from dsmini.training import snapshot
from dsmini.training.pretrain import TrainingSettings, new_optimizer, train
from dsmini.training.snapshot import SnapshotError, describe_run, load_snapshot, save_snapshot

SHORT = TrainingSettings(steps=4, batch_size=2, context=8, learning_rate=1e-2, warmup_steps=1, bias_speed=0.1)
CONFIG = CONFIGS["mla, experts, MTP"]


def new_model(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return Transformer(config)


def text(seed=0):
    return make_tokens(CONFIG, 1, 200, seed)[0]


def windows(step):
    return make_tokens(CONFIG, 2, 9, seed=step)


def parts(seed=0):
    model = new_model(seed=seed)
    return model, new_optimizer(model, SHORT), torch.Generator().manual_seed(seed)


@pytest.fixture
def stored(tmp_path):
    """A snapshot after two of four steps."""
    path = tmp_path / "run.safetensors"

    def stop(step, _):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(new_model(), text(), SHORT, progress=False, on_step=stop, snapshot=path, snapshot_every=2)
    return path


def test_state_comes_back_to_the_bit(stored, tmp_path):
    run = describe_run(new_model(), text(), SHORT, 0)
    model, optimizer, generator = parts(seed=7)  # everything in another state
    losses, names = load_snapshot(stored, run, model, optimizer, generator)
    assert len(losses) == 2 and names is None
    again = tmp_path / "again.safetensors"
    save_snapshot(again, run, model, optimizer, generator, losses)
    first, second = load_file(stored), load_file(again)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype, name


def test_router_biases_and_both_moments_are_in_it(stored):
    tensors = load_file(stored)
    assert tensors["model/model.layers.1.mlp.gate.e_score_correction_bias"].abs().max() > 0
    parameters = len(list(new_model().parameters()))
    for kind in ("exp_avg", "exp_avg_sq", "step"):
        assert sum(name.endswith(f"/{kind}") for name in tensors) == parameters
    assert tensors["losses"].dtype == torch.float64


def test_nothing_is_pickled(tmp_path, no_pickle):
    path = tmp_path / "run.safetensors"
    first = train(new_model(), text(), SHORT, progress=False, snapshot=path)
    assert train(new_model(), text(), SHORT, progress=False, snapshot=path) == first
    assert load_file(path)["losses"].tolist() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": TrainingSettings(**{**vars(SHORT), "steps": 9})}, r"\(steps = 4 there, 9 here\)"),
        ({"settings": TrainingSettings(**{**vars(SHORT), "mtp_weight": 0.5})}, r"\(mtp_weight = 0.3 there, 0.5 here\)"),
        ({"seed": 3}, r"\(seed = 0 there, 3 here\)"),
        ({"data": text(seed=1)}, r"\(data = '[0-9a-f]{16}' there, '[0-9a-f]{16}' here\)"),
        ({"data": windows}, r"\(data = "),
        ({"model": new_model(CONFIG.replace(rms_norm_eps=1e-5))}, r"\(config.rms_norm_eps = 1e-06 there, 1e-05 here\)"),
        ({"model": new_model(CONFIG.replace(hidden_size=16))}, r"config.hidden_size = 32 there, 16 here, train"),
        ({"model": new_model().double()}, r"\(precision = 'float32' there, 'float64' here\)"),
        ({"model": new_model().requires_grad_(False)}, r"\(trainable parameters = \d+ there, 0 here\)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_snapshot_of_another_run_is_refused_and_left_alone(stored, changes, message):
    before = stored.read_bytes()
    run = {"model": new_model(), "data": text(), "settings": SHORT, "seed": 0} | changes
    run = describe_run(**run)
    model, optimizer, generator = parts()
    weights = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(SnapshotError, match=f"run.safetensors: a snapshot of another run .*{message}.*; delete it to"):
        load_snapshot(stored, run, model, optimizer, generator)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert stored.read_bytes() == before


def test_functions_are_told_apart_by_what_they_give():
    describe = [describe_run(new_model(), data, SHORT, 0) for data in (windows, lambda step: windows(step))]
    other = describe_run(new_model(), lambda step: windows(step + 1), SHORT, 0)
    assert describe[0] == describe[1] != other


def test_half_a_snapshot_is_named(stored):
    stored.write_bytes(stored.read_bytes()[:-100])
    with pytest.raises(SnapshotError, match="run.safetensors is not a whole snapshot .*; delete it to start afresh"):
        train(new_model(), text(), SHORT, progress=False, snapshot=stored)


def test_file_of_another_kind_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(SnapshotError, match="model.safetensors is not a whole snapshot"):
        train(new_model(), text(), SHORT, progress=False, snapshot=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_stop_while_a_snapshot_is_written_leaves_the_old_one(stored, monkeypatch, error):
    before = stored.read_bytes()

    def half(tensors, path, metadata):
        path.write_bytes(before[: len(before) // 2])
        raise error

    whole = train(new_model(), text(), SHORT, progress=False)
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(snapshot, "save_file", half)
        train(new_model(), text(), SHORT, progress=False, snapshot=stored)
    assert stored.read_bytes() == before and list(stored.parent.iterdir()) == [stored]
    assert train(new_model(), text(), SHORT, progress=False, snapshot=stored) == whole
