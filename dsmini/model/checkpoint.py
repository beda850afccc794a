"""Hugging Face checkpoints, both ways: config.json and safetensors in, the same out. No pickle anywhere.

Names on disk are the hub's. Three things differ from the model in memory: experts lie one by one (fused files are read
as well), an MTP module is stored as layer number `num_hidden_layers` with copies of embedding and head, and FP8 weights
come with a `weight_scale_inv` that a loader multiplies back (DeepSeek-V3, README_WEIGHTS).
"""

import json
import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dsmini.config import ModelConfig, read_json
from dsmini.files import atomically
from dsmini.model.fp8 import dequantize_blocks
from dsmini.model.transformer import Transformer

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.*)")
_MTP = re.compile(r"mtp\.(\d+)\.(?:block\.)?(.*)")
_COPIES = {"embed_tokens.weight": "model.embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"}


class CheckpointError(ValueError):
    """A checkpoint that does not fit its config: tensors are missing, unexpected or of another shape."""


def load_pretrained(folder, dtype=torch.float32):
    """A `Transformer` from a folder in Hugging Face layout (deepseek_v2 or deepseek_v3).

    folder: config.json and model.safetensors, or several safetensors files and model.safetensors.index.json. Experts
    may be stored one by one or fused. FP8 weights are multiplied out. A checkpoint without MTP weights gives a model
    without MTP modules, whatever its config says. dtype: the precision of the model; router biases stay float32.
    Raises FileNotFoundError; ValueError for a config that cannot be honoured; CheckpointError, listing all missing,
    unexpected and misshapen tensors at once.
    """
    folder = Path(folder)
    raw = read_json(folder)
    config = ModelConfig.from_hf(raw)
    tensors = _dequantize(_read(folder), _block_size(raw))
    layers = {int(found[1]) for name in tensors if (found := _LAYER.match(name))}
    if not any(layer >= config.num_hidden_layers for layer in layers):
        config = config.replace(num_nextn_predict_layers=0)
    with torch.device("meta"):
        model = Transformer(config)
    _fit(model, tensors, folder, dtype)
    return model.eval()


def save_pretrained(model, folder):
    """Write a `Transformer` as config.json and model.safetensors: experts one by one, MTP modules as further layers.

    transformers loads the result: `AutoModelForCausalLM.from_pretrained(folder)`. Both files are complete before
    either takes its place. Raises ValueError for a model whose attention no DeepSeek model type has.
    """
    folder = Path(folder)
    config = model.config.to_hf() | {"dtype": str(model.lm_head.weight.dtype).removeprefix("torch.")}
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensors |= _to_disk(name, tensor.detach(), model.config)
    for depth in range(len(model.mtp)):
        stem = f"model.layers.{model.config.num_hidden_layers + depth}"
        tensors |= {f"{stem}.{copy}": tensors[original].clone() for copy, original in _COPIES.items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    folder.mkdir(parents=True, exist_ok=True)
    with atomically(folder / "config.json") as config_file, atomically(folder / _WEIGHTS) as weights_file:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights_file, {"format": "pt"})
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def fill(model, weights):
    """Give a `Transformer` on the meta device its weights, name -> tensor; a tied head comes from the embedding."""
    if model.config.tie_word_embeddings:
        weights = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
    model.load_state_dict(weights, assign=True)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight


# ---- reading --------------------------------------------------------------------------------------------------------


def _read(folder):
    """Every tensor of a checkpoint by its name on disk."""
    tensors = {}
    for path in _files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                tensors |= {name: file.get_tensor(name) for name in names}
        except Exception as error:  # safetensors raises its own type, without the file's name
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".rotary_emb.inv_freq")}


def _files(folder):
    index = folder / _INDEX
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = [_WEIGHTS]
    if lacking := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(lacking)}")
    return [folder / name for name in names]


def _block_size(raw):
    """Side of an FP8 weight block, from a config.json; 128 in every released checkpoint."""
    settings = raw.get("quantization_config") or {}
    rows, columns = settings.get("weight_block_size") or (128, 128)
    if rows != columns:
        raise ValueError(f"quantization_config.weight_block_size = {[rows, columns]}: expected a square")
    return rows


def _dequantize(tensors, block):
    """FP8 weights times their scales; everything else as it is."""
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(".weight_scale_inv")}
    for name, scale in scales.items():
        weight = name.removesuffix("_scale_inv")
        if weight not in tensors:
            raise CheckpointError(f"{name} belongs to {weight}, which is not there")
        tensors[weight] = dequantize_blocks(tensors[weight], scale, block)
    if bare := [name for name, tensor in tensors.items() if tensor.dtype.itemsize == 1 and tensor.is_floating_point()]:
        raise CheckpointError(f"FP8 weights without a weight_scale_inv: {_listed(bare)}")
    return tensors


def _fit(model, tensors, folder, dtype):
    """Put the tensors into a model on the meta device, or say all that does not fit."""
    wanted = model.state_dict()
    loaded, used, missing, misshapen = {}, set(), [], []
    for name, empty in wanted.items():
        parts = _names_on_disk(name, empty, model.config, tensors)
        used |= set(parts)
        if lacking := [part for part in parts if part not in tensors]:
            missing += [] if name == "lm_head.weight" and model.config.tie_word_embeddings else lacking
            continue
        tensor = _joined(name, [tensors[part] for part in parts], empty)
        if tensor is None:
            shapes = sorted({tuple(tensors[part].shape) for part in parts})
            misshapen.append(f"{name} ({', '.join(map(str, shapes))} for {tuple(empty.shape)})")
            continue
        keep = name.endswith("e_score_correction_bias") and dtype in (torch.bfloat16, torch.float16)
        loaded[name] = tensor.to(torch.float32 if keep else dtype)
    unexpected = [name for name in tensors if name not in used and not _is_copy(name, tensors, model.config)]
    report = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if any(report.values()):
        lines = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in report.items() if names]
        raise CheckpointError(f"{folder} does not fit its config.json\n" + "\n".join(lines))
    fill(model, loaded)


def _names_on_disk(name, empty, config, tensors):
    """Which tensors of a checkpoint make up one of the model: itself, or the experts of a fused one, one by one."""
    name = _renamed(name, config)
    stem, _, which = name.rpartition(".")
    if name in tensors or not stem.endswith(".experts"):
        return [name]
    kinds = ("gate", "up") if which == "gate_up_proj" else ("down",)
    return [f"{stem}.{expert}.{kind}_proj.weight" for expert in range(len(empty)) for kind in kinds]


def _joined(name, parts, empty):
    """The parts as one tensor of the wanted shape; None if their shapes do not allow it."""
    if len(parts) == 1 and parts[0].shape == empty.shape:
        return parts[0]
    if ".experts." not in name or len(parts) % len(empty) or len({tuple(part.shape) for part in parts}) > 1:
        return None
    each = len(parts) // len(empty)  # gate and up, or down alone
    joined = torch.stack([torch.cat(parts[i : i + each]) for i in range(0, len(parts), each)])
    return joined if joined.shape == empty.shape else None


def _is_copy(name, tensors, config):
    """Whether a tensor is an MTP layer's copy of the embedding or the head, as checkpoints store them."""
    found = _LAYER.match(name)
    if not found or int(found[1]) < config.num_hidden_layers or found[2] not in _COPIES:
        return False
    original = tensors.get("model.embed_tokens.weight" if config.tie_word_embeddings else _COPIES[found[2]])
    return original is not None and torch.equal(original, tensors[name])


def _listed(names, most=12):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# ---- writing --------------------------------------------------------------------------------------------------------


def _renamed(name, config):
    """A name in the model -> its name on disk: MTP module k is layer num_hidden_layers + k there."""
    found = _MTP.match(name)
    return f"model.layers.{config.num_hidden_layers + int(found[1])}.{found[2]}" if found else name


def _to_disk(name, tensor, config):
    """One tensor of the model as {name on disk: tensor}."""
    stem, _, which = name.rpartition(".")
    name = _renamed(name, config)
    disk_stem = name.rpartition(".")[0]
    if stem.endswith(".experts") and which == "down_proj":
        return {f"{disk_stem}.{e}.down_proj.weight": down.clone() for e, down in enumerate(tensor)}
    if stem.endswith(".experts") and which == "gate_up_proj":
        halves = {}
        for e, both in enumerate(tensor):
            for kind, half in zip(("gate", "up"), both.chunk(2), strict=True):
                halves[f"{disk_stem}.{e}.{kind}_proj.weight"] = half.clone()
        return halves
    return {name: tensor}
