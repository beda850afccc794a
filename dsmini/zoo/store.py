"""Where results lie, and whether one can be trusted.

A result is two files: NAME.safetensors, the weights in bfloat16, and NAME.json, the record of how they were made, with
the SHA-256 of the weights. The package ships with results; what has to be made again goes to the user's cache folder
and never into the package. A result that is missing, truncated, tampered with or made by another recipe is unfit, and
`Unfit` says why.
"""

import contextlib
import errno
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from dsmini.config import ModelConfig
from dsmini.files import atomically
from dsmini.model.checkpoint import fill
from dsmini.model.transformer import Transformer
from dsmini.zoo.recipe import changed_fields

LIMIT = 2_000_000  # bytes of a shipped file: every version of it stays in the repository's history
SHIPPED = Path(__file__).parent / "data"
_ROUTER_BIAS = "e_score_correction_bias"  # stays float32: its steps are smaller than bfloat16's digits


class Unfit(Exception):
    """A stored result that cannot be used; the message says why."""


def cache_folder():
    """The user's folder for results: below DSMINI_HOME if that is set, else below the system's place for caches."""
    home = os.environ.get("DSMINI_HOME")
    if home:
        return Path(home).expanduser() / "zoo"
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "dsmini" / "zoo"


# ---- weights as bytes -----------------------------------------------------------------------------------------------


def encode(model, recipe):
    """The content of NAME.safetensors, the same bytes every time. Raises ValueError above the size limit."""
    about = {"name": recipe.name, "recipe": recipe.hash(), "config": changed_fields(model.config)}
    # one entry only: the library writes several in another order every time
    data = save_tensors(_weights(model), {"dsmini": json.dumps(about, sort_keys=True)})
    if len(data) > LIMIT:
        raise ValueError(f"{recipe.name} takes {len(data):,} bytes in bfloat16: expected at most {LIMIT:,}")
    return data


def decode(data):
    """The model in the content of a NAME.safetensors: float32, in eval mode, ready to be used or trained further."""
    about = json.loads(header(data)["__metadata__"]["dsmini"])
    with torch.device("meta"):
        model = Transformer(ModelConfig(**about["config"]))
    fill(model, {name: tensor.to(torch.float32) for name, tensor in load_tensors(data).items()})
    return model.eval()


def _weights(model):
    """The tensors of a model as they are stored; a tied head is stored once."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {
        name: tensor.detach().to(torch.float32 if name.endswith(_ROUTER_BIAS) else torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name not in tied
    }


def header(data):
    """The header of a safetensors file, a dict."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


# ---- files ----------------------------------------------------------------------------------------------------------


def write(folder, name, data, record):
    """Store a result: its bytes, and its record with their SHA-256. Each file is replaced in one step."""
    record = {**record, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    record["checksum"] = _checksum(record)
    lines = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in record.items())
    with atomically(folder / f"{name}.safetensors") as weights_file, atomically(folder / f"{name}.json") as record_file:
        weights_file.write_bytes(data)
        record_file.write_text(f"{{\n {lines}\n}}\n", encoding="utf-8")
    return record


def read(folder, recipe):
    """(bytes, record) of a result that is whole, unchanged and made by this recipe. Raises Unfit otherwise."""
    record_path, path = folder / f"{recipe.name}.json", folder / f"{recipe.name}.safetensors"
    for needed in (record_path, path):
        if not needed.is_file():
            raise Unfit(f"{needed} is missing")
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        whole = record["checksum"] == _checksum(record)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise Unfit(f"{record_path} is damaged")
    data = path.read_bytes()
    if len(data) != record["bytes"]:
        raise Unfit(f"{path} is damaged: it has {len(data):,} bytes and should have {record['bytes']:,}")
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise Unfit(f"{path} is damaged: its SHA-256 is not the recorded one")
    if record["recipe"] != recipe.hash():
        raise Unfit(f"{path} was made by another recipe than the package holds now")
    return data, record


def _checksum(record):
    rest = {key: value for key, value in record.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


# ---- one builder at a time ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(name, waiting):
    """Let one process (or thread) at a time build `name`; waiting() is called once by whoever has to wait.

    The lock is the operating system's, so it ends with its owner, however that ends: a lock is never stale. Where a
    file system has no locks, two builders work side by side, and since both make the same and write it in one step,
    the last one wins and nothing is lost but time.
    """
    path = cache_folder() / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error}); set DSMINI_HOME to a folder that can") from error
    with open(path, "r+b") as file:
        told = False
        while not _try_lock(file):
            if not told:
                waiting()
            told = True
            time.sleep(0.1)
        yield


def _try_lock(file):
    """Take the lock of an open file without waiting; False if another holds it. Closing the file gives it back."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
