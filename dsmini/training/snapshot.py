"""Snapshots of a training run, so that a killed run loses no more than one interval.

Everything the next step depends on is in one safetensors file: weights and buffers, AdamW's moments, the state of the
random generator, the losses so far. No pickle. The file also holds what the run was asked to do, and a snapshot of
another run is refused instead of being continued by mistake.
"""

import json

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dsmini.files import atomically


def save_snapshot(path, run, model, optimizer, generator, losses):
    """Write the state after len(losses) steps to `path`, in one step. run: a dict that describes the run, for JSON."""
    tensors = {f"model/{name}": tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value).clone() for key, value in state.items()}
    tensors["generator"] = generator.get_state()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    with atomically(path) as temporary:
        save_file(tensors, temporary, {"run": json.dumps(run, sort_keys=True)})


def load_snapshot(path, run, model, optimizer, generator):
    """Put model, optimizer and generator into the state of `path`; returns the losses so far.

    Raises ValueError, naming what differs, for the snapshot of another run.
    """
    with safe_open(path, framework="pt") as file:
        stored = json.loads(file.metadata()["run"])
        run = json.loads(json.dumps(run))
        if differing := sorted(key for key in {*run, *stored} if run.get(key) != stored.get(key)):
            found = ", ".join(f"{key} = {stored.get(key)!r} there, {run.get(key)!r} here" for key in differing)
            raise ValueError(f"{path}: a snapshot of another run ({found}); delete it to start afresh")
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model/")})
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])
    return tensors["losses"].tolist()
