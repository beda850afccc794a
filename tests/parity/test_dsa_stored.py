"""The stored whole V3.2: our loader reads its checkpoint, every layer gives what theirs gave and looks where it looked.

Needs no other library. 48 tokens, of which a query sees 8; `test_references` computes the stored outputs again.
"""

import json

import pytest
import torch
from planted import planted
from safetensors.torch import load_file, save_file
from tiny import difference

import dsmini
from dsmini.model import indexer
from dsmini.model.checkpoint import CheckpointError, load_pretrained, save_pretrained
from dsmini.model.dsa import watch_selection

CONFIG, STORED, MADE_BY = dsmini.reference.load("deepseek_v32_model")
TOKENS, THEIRS = STORED["inputs"]["tokens"], STORED["outputs"]
ENDS = (20, 29, *range(30, 49))  # a prompt, one more chunk, then token by token


def loaded(folder, dtype=torch.float64, weights=STORED["weights"]):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return load_pretrained(folder, dtype)


@torch.no_grad()
def outputs(model, ends=(48,)):
    """What embedding, layers, norm and head give, under the reference's names; fed chunk by chunk, up to each end."""
    parts = {"embed_tokens": model.model.embed_tokens, "norm": model.model.norm, "logits": model.lm_head}
    parts |= {f"layers.{i}": layer for i, layer in enumerate(model.model.layers)}
    found = {name: [] for name in parts}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, output, name=name: found[name].append(output))
    cache, start = model.new_cache(*TOKENS.shape), 0
    for end in ends:
        model(TOKENS[:, start:end], cache)
        start = end
    return {name: torch.cat(pieces, dim=1) for name, pieces in found.items()}


@pytest.mark.parametrize("ends", [(48,), ENDS], ids=["at once", "prefill and decode"])
def test_every_layer_is_theirs(tmp_path, ends):
    assert MADE_BY == "transformers 5.23.0" and CONFIG["model_type"] == "deepseek_v32"
    ours = outputs(loaded(tmp_path), ends)
    assert ours.keys() == {name for name in THEIRS if not name.startswith("selected")}
    for name, found in ours.items():
        assert difference(found, THEIRS[name]) <= 1e-12, name


@torch.no_grad()
def test_every_query_looks_where_theirs_looked(tmp_path):
    model = loaded(tmp_path)
    with watch_selection(model) as seen:
        model(TOKENS)
    for i in range(2):
        selection = seen[f"model.layers.{i}.self_attn"]
        assert torch.equal(selection.selected, THEIRS[f"selected.{i}"])
        inside = selection.scores.masked_fill(~selection.selected, float("inf")).amin(-1)
        outside = selection.scores.masked_fill(selection.selected, float("-inf")).amax(-1)
        assert (inside - outside).min() > 1e-7, "no two scores at the edge are so near that rounding could decide"


@torch.no_grad()
def test_fp8_selects_nearly_the_same(tmp_path):
    """Simulated FP8 keys and queries, as the released inference code has them: the choice is close, not equal."""
    model = loaded(tmp_path)
    for layer in model.model.layers:
        layer.self_attn.indexer.fp8 = True
    with watch_selection(model) as seen:
        model(TOKENS)
    first = seen["model.layers.0.self_attn"].selected
    assert 0.9 < (first & THEIRS["selected.0"]).sum() / first.sum() < 1


def test_what_we_save_is_what_was_read(tmp_path):
    save_pretrained(loaded(tmp_path, torch.float32), tmp_path / "ours")
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    assert ours.keys() == STORED["weights"].keys()
    assert all(torch.equal(ours[name], weight) for name, weight in STORED["weights"].items())


def test_checkpoint_without_its_indexer_is_refused(tmp_path):
    weights = {name: weight for name, weight in STORED["weights"].items() if ".layers.1.self_attn.indexer" not in name}
    with pytest.raises(CheckpointError, match=r"5 missing: model.layers.1.self_attn.indexer.wq_b.weight, "):
        loaded(tmp_path, weights=weights)


MISTAKES = {
    "interleaved rope": ("*rope, interleaved=False", "*rope, interleaved=True"),
    "no ReLU": (".relu_()", ""),
    "other epsilon": ("nn.LayerNorm(self.head_dim, eps=1e-6)", "nn.LayerNorm(self.head_dim, eps=1e-2)"),
    "weights not negative": ("return self._place(q, rope), w * self.scale", "return self._place(q, rope), w.abs()"),
    "keys not rotated": ("return self._place(k[:, :, None], rope)[:, :, 0]", "return k"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_breaks_parity(mistake, tmp_path):
    model = loaded(tmp_path)
    wrong = planted(indexer, *MISTAKES[mistake]).LightningIndexer
    for layer in model.model.layers:
        old = layer.self_attn.indexer
        layer.self_attn.indexer = wrong(model.config).double()
        layer.self_attn.indexer.load_state_dict(old.state_dict())
    for ends in ((48,), ENDS):
        assert difference(outputs(model, ends)["logits"], THEIRS["logits"]) > 1e-3
