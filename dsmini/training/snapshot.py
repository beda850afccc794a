"""Snapshots of a training run, so that a killed run loses no more than one interval.

Everything the next step depends on is in one safetensors file: weights and buffers, AdamW's moments, the state of the
random generator, the losses so far. No pickle. The file also holds what the run was asked to do, and a snapshot of
another run is refused instead of being continued by mistake.
"""

import dataclasses
import hashlib
import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dsmini.files import atomically


class SnapshotError(ValueError):
    """A snapshot that is not whole, or belongs to another run."""


def describe_run(model, data, settings, seed):
    """What a run was asked to do, as a flat dict for JSON; two runs that differ here may not share a snapshot.

    The weights that it starts from are not part of it: who trains on in the same notebook after an interrupt hands in
    a model that has already learned something.
    """
    return describe(model, fingerprint(data(0) if callable(data) else data), settings, seed)


def describe(model, data, settings, seed):
    """The same where the data has a fingerprint already, a text."""
    config = {f"config.{key}": value for key, value in dataclasses.asdict(model.config).items() if value is not None}
    run = {
        **dataclasses.asdict(settings),
        **config,
        "seed": seed,
        "data": data,
        "trainable parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "precision": str(model.lm_head.weight.dtype).removeprefix("torch."),
    }
    return json.loads(json.dumps(run))


def fingerprint(tokens):
    """A short text that differs between tensors that differ."""
    return hashlib.sha256(tokens.cpu().numpy().tobytes()).hexdigest()[:16]


def save_snapshot(path, run, model, optimizer, generator, losses, names=None):
    """Write the state after len(losses) steps to `path`, in one step. run: from `describe_run`.

    losses: a float a step; or a row of floats a step, with the names of its columns.
    """
    tensors = {f"model/{name}": tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value).clone() for key, value in state.items()}
    tensors["generator"] = generator.get_state()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    with atomically(path) as temporary:
        about = {"run": run, "names": names}
        save_file(tensors, temporary, {"about": json.dumps(about, sort_keys=True)})


def load_snapshot(path, run, model, optimizer, generator):
    """Put model, optimizer and generator into the state of `path`; returns the losses so far, and their names.

    Raises SnapshotError for a file that is not a whole snapshot, and, naming what differs, for that of another run.
    """
    stored, names, tensors = _read(path)
    if differing := sorted(key for key in {*run, *stored} if run.get(key) != stored.get(key)):
        found = ", ".join(f"{key} = {stored.get(key)!r} there, {run.get(key)!r} here" for key in differing)
        raise SnapshotError(f"{path}: a snapshot of another run ({found}); delete it to start afresh")
    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model/")})
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])
    return tensors["losses"].tolist(), names


def _read(path):
    """(what the run was asked to do, the losses' names, all tensors) of a snapshot."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {})["about"])
            return about["run"], about["names"], tensors
    except (SafetensorError, KeyError) as error:
        raise SnapshotError(f"{path} is not a whole snapshot ({error}); delete it to start afresh") from error
