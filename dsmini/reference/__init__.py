"""Outputs of models that nobody here wrote, stored so that a reader can compare without installing them.

Each NAME.safetensors holds the weights, inputs and outputs of one tiny random model of another library, its config and
that library's version; `tests/parity/make_references.py` made the files and the parity tests make them again, live.
"""

import json
from importlib import resources


def load(name):
    """The stored reference `name`: (config, tensors, made_by).

    config: the model's config.json as a dict. tensors: {"weights": {...}, "inputs": {...}, "outputs": {...}}, names
    as in the other library. made_by: that library and its version.
    Raises ValueError, listing what there is, for an unknown name.
    """
    from safetensors import safe_open

    folder = resources.files(__name__)
    known = sorted(path.name.removesuffix(".safetensors") for path in folder.iterdir() if path.suffix == ".safetensors")
    if name not in known:
        raise ValueError(f"name = {name!r}: expected one of {', '.join(known)}")
    with resources.as_file(folder / f"{name}.safetensors") as path, safe_open(path, framework="pt") as file:
        header, keys = file.metadata(), file.keys()
        tensors = {"weights": {}, "inputs": {}, "outputs": {}}
        for key in keys:
            group, _, tensor_name = key.partition("/")
            tensors[group][tensor_name] = file.get_tensor(key)
    return json.loads(header["config"]), tensors, header["made_by"]
