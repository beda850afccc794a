"""The stored whole V3: our loader reads its checkpoint, and every layer gives what theirs gave."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import difference

import dsmini
from dsmini.model.checkpoint import load_pretrained, save_pretrained

CONFIG, STORED, _ = dsmini.reference.load("deepseek_v3_model")
TOKENS, THEIRS = STORED["inputs"]["tokens"], STORED["outputs"]
ENDS = (6, *range(7, 17))  # a prompt, then token by token


def written(folder, weights, config=CONFIG):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def outputs(model, ends=(16,)):
    """What embedding, layers, norm and head give, under the reference's names; fed chunk by chunk, up to each end."""
    parts = {"embed_tokens": model.model.embed_tokens, "norm": model.model.norm, "logits": model.lm_head}
    parts |= {f"layers.{i}": layer for i, layer in enumerate(model.model.layers)}
    found = {name: [] for name in parts}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, output, name=name: found[name].append(output))
    cache, start = model.new_cache(*TOKENS.shape), 0
    for end in ends:
        with torch.no_grad():
            model(TOKENS[:, start:end], cache)
        start = end
    return {name: torch.cat(pieces, dim=1) for name, pieces in found.items()}


@pytest.mark.parametrize("ends", [(16,), ENDS], ids=["at once", "prefill and decode"])
def test_every_layer_is_theirs(tmp_path, ends):
    ours = outputs(load_pretrained(written(tmp_path, STORED["weights"]), torch.float64), ends)
    assert ours.keys() == THEIRS.keys()
    for name, expected in THEIRS.items():
        assert difference(ours[name], expected) <= 1e-12, name


def test_what_we_save_is_what_was_read(tmp_path):
    model = load_pretrained(written(tmp_path / "theirs", STORED["weights"]))
    save_pretrained(model, tmp_path / "ours")
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    assert ours.keys() == STORED["weights"].keys()
    assert all(torch.equal(ours[name], weight) for name, weight in STORED["weights"].items())


def swapped(weights):
    """Gate and up of every expert the wrong way round."""
    turn = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    return {
        ".".join(turn.get(part, part) for part in name.split(".")) if ".experts." in name else name: weight
        for name, weight in weights.items()
    }


PLANTED = {
    "gate and up swapped": (swapped, {}, "layers.1"),
    "router biases lost": (lambda w: {n: t * ("correction" not in n) for n, t in w.items()}, {}, "layers.1"),
    "head is the embedding": (lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()}, {}, "logits"),
    "last norm lost": (lambda w: w | {"model.norm.weight": torch.ones(32)}, {}, "norm"),
    "other rotary layout": (dict, {"rope_interleave": False}, "layers.0"),
    "other epsilon": (dict, {"rms_norm_eps": 1e-5}, "layers.0"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_error_shows_first_where_it_was_planted(tmp_path, name):
    spoil, changes, where = PLANTED[name]
    spoiled = written(tmp_path, spoil(STORED["weights"]), CONFIG | changes)
    ours = outputs(load_pretrained(spoiled, torch.float64))
    order = ["embed_tokens", "layers.0", "layers.1", "layers.2", "norm", "logits"]
    wrong = [part for part in order if difference(ours[part], THEIRS[part]) > 1e-9]
    assert wrong and wrong == order[order.index(where) :]
