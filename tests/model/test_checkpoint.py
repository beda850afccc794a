"""Checkpoints in Hugging Face layout: a round trip changes nothing, and what does not fit is listed at once."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import CONFIGS, difference, make_model, make_tokens

import dsmini
from dsmini.accounting import count_parameters
from dsmini.model import checkpoint
from dsmini.model.checkpoint import CheckpointError, load_pretrained, save_pretrained
from dsmini.model.fp8 import quantize_blocks

LATENT = [name for name, config in CONFIGS.items() if config.attention == "mla"]


def config_for(name):
    """A config of `CONFIGS` with the model type that its router belongs to."""
    kind = "deepseek_v2" if "softmax" in name else "deepseek_v32" if "sparse" in name else "deepseek_v3"
    return CONFIGS[name].replace(model_type=kind)


def saved(folder, name="mla, experts, MTP", dtype=torch.float32, **changes):
    model = make_model(config_for(name).replace(**changes), dtype=dtype)
    save_pretrained(model, folder)
    return model


def rewrite(folder, edit):
    """Change the tensors of a saved checkpoint in place."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def assert_same(model, other):
    before, after = model.state_dict(), other.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    tokens = make_tokens(model.config, 2, 9)
    torch.testing.assert_close(model(tokens), other(tokens))


@pytest.mark.parametrize("name", LATENT)
def test_round_trip_changes_nothing(name, tmp_path):
    model = saved(tmp_path / "new" / "folder", name)
    back = load_pretrained(tmp_path / "new" / "folder")
    dense = model.config.first_k_dense_replace  # a model without experts is saved as one whose layers are all dense
    assert back.config.replace(first_k_dense_replace=dense) == model.config and not back.training
    assert_same(model, back)


def test_public_names_are_these():
    assert dsmini.load_pretrained is load_pretrained and dsmini.save_pretrained is save_pretrained


@pytest.mark.parametrize("tied", [False, True])
def test_disk_has_the_hubs_names(tied, tmp_path):
    model = saved(tmp_path, tie_word_embeddings=tied)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert tensors["model.layers.1.mlp.experts.7.gate_proj.weight"].shape == (9, 32)
    assert tensors["model.layers.1.mlp.experts.7.down_proj.weight"].shape == (32, 9)
    ahead = {name.removeprefix("model.layers.2.") for name in tensors if name.startswith("model.layers.2.")}
    assert {"enorm.weight", "hnorm.weight", "eh_proj.weight", "shared_head.norm.weight", "self_attn.o_proj.weight",
            "embed_tokens.weight", "shared_head.head.weight"} <= ahead  # fmt: skip
    assert not any(name.startswith("mtp.") or ".block." in name or "gate_up" in name for name in tensors)
    assert ("lm_head.weight" in tensors) is not tied
    if not tied:
        assert sum(tensor.numel() for tensor in tensors.values()) == count_parameters(model.config).stored


def test_loaded_model_can_be_trained(tmp_path):
    saved(tmp_path)
    model = load_pretrained(tmp_path)
    model(make_tokens(model.config, 2, 5)).sum().backward()
    assert model.model.layers[1].mlp.experts.down_proj.grad is not None


def test_tied_matrices_are_one_after_loading(tmp_path):
    model = saved(tmp_path, tie_word_embeddings=True)
    back = load_pretrained(tmp_path)
    assert back.lm_head.weight is back.model.embed_tokens.weight
    assert_same(model, back)


def test_precision_is_the_callers_and_router_biases_stay_float32(tmp_path):
    model = saved(tmp_path, dtype=torch.bfloat16)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert load_file(tmp_path / "model.safetensors")["lm_head.weight"].dtype == torch.bfloat16
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        back = load_pretrained(tmp_path, dtype)
        assert back.lm_head.weight.dtype == dtype
        bias = back.model.layers[1].mlp.gate.e_score_correction_bias
        assert bias.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert difference(bias, model.model.layers[1].mlp.gate.e_score_correction_bias) == 0
    assert_same(model, load_pretrained(tmp_path, torch.bfloat16))


def test_fused_experts_are_read(tmp_path):
    model = saved(tmp_path)

    def fuse(tensors):
        for layer in (1, 2):
            stem = f"model.layers.{layer}.mlp.experts"
            take = [{kind: tensors.pop(f"{stem}.{e}.{kind}_proj.weight") for kind in ("gate", "up", "down")}
                    for e in range(8)]  # fmt: skip
            tensors[f"{stem}.gate_up_proj"] = torch.stack([torch.cat((e["gate"], e["up"])) for e in take])
            tensors[f"{stem}.down_proj"] = torch.stack([e["down"] for e in take])

    rewrite(tmp_path, fuse)
    assert_same(model, load_pretrained(tmp_path))


def test_shards_are_read(tmp_path):
    model = saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    (tmp_path / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(model, load_pretrained(tmp_path))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="lacks b.safetensors"):
        load_pretrained(tmp_path)


def test_fp8_weights_are_multiplied_out(tmp_path):
    model = saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    exact = load_file(tmp_path / "model.safetensors")
    rounded = [name for name in exact if "proj" in name and "layernorm" not in name]

    def to_fp8(tensors):
        for name in rounded:
            tensors[name], tensors[name + "_scale_inv"] = quantize_blocks(tensors[name], 16, power_of_two=False)

    rewrite(tmp_path, to_fp8)
    back = load_pretrained(tmp_path)
    mine = back.model.layers[0].self_attn.o_proj.weight
    assert 0 < difference(mine, exact["model.layers.0.self_attn.o_proj.weight"]) < 0.05
    gate = exact["model.layers.1.mlp.experts.3.gate_proj.weight"]
    assert 0 < difference(back.model.layers[1].mlp.experts.gate_up_proj[3, :9], gate) < 0.1
    tokens = make_tokens(model.config, 2, 9)
    assert (back(tokens) - model(tokens)).abs().mean() < 0.2 * model(tokens).std()
    rewrite(tmp_path, lambda tensors: tensors.pop(rounded[0] + "_scale_inv"))
    with pytest.raises(CheckpointError, match=f"FP8 weights without a weight_scale_inv: {rounded[0]}"):
        load_pretrained(tmp_path)


def test_checkpoint_without_mtp_weights_gives_a_model_without_mtp(tmp_path):
    model = saved(tmp_path, num_nextn_predict_layers=0)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 1}))
    back = load_pretrained(tmp_path)
    assert len(back.mtp) == 0 and back.config == model.config
    assert_same(model, back)


def test_all_that_does_not_fit_is_one_error(tmp_path):
    saved(tmp_path)

    def spoil(tensors):
        tensors.pop("model.norm.weight")
        tensors.pop("model.layers.1.mlp.experts.4.up_proj.weight")
        tensors["model.layers.0.self_attn.k_proj.weight"] = torch.zeros(2)
        tensors["lm_head.weight"] = torch.zeros(61, 31)
        tensors["model.layers.2.embed_tokens.weight"] += 1

    rewrite(tmp_path, spoil)
    with pytest.raises(CheckpointError) as error:
        load_pretrained(tmp_path)
    text = str(error.value)
    assert "2 missing: model.layers.1.mlp.experts.4.up_proj.weight, model.norm.weight\n" in text
    assert "model.layers.0.self_attn.k_proj.weight" in text.split("unexpected: ")[1].split("\n")[0]
    assert "model.layers.2.embed_tokens.weight" in text, "a copy that differs from the original is no copy"
    assert "misshapen: lm_head.weight ((61, 31) for (61, 32))" in text


def test_expert_of_another_width_is_misshapen(tmp_path):
    saved(tmp_path)
    name = "model.layers.1.mlp.experts.4.up_proj.weight"
    rewrite(tmp_path, lambda tensors: tensors.update({name: torch.zeros(5, 32)}))
    with pytest.raises(CheckpointError, match=r"1 misshapen: model.layers.1.mlp.experts.gate_up_proj \(\(5, 32\), "):
        load_pretrained(tmp_path)


def test_long_lists_are_cut(tmp_path):
    saved(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.update({f"odd.{i}": torch.zeros(1) for i in range(40)}))
    with pytest.raises(CheckpointError, match="40 unexpected: odd.0, .* and 28 more"):
        load_pretrained(tmp_path)


def test_truncated_file_is_named(tmp_path):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="model.safetensors is not a whole safetensors file"):
        load_pretrained(tmp_path)


def test_folder_without_weights_or_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        load_pretrained(tmp_path)
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="lacks model.safetensors"):
        load_pretrained(tmp_path)


def test_baselines_have_no_model_type_to_be_saved_as(tmp_path):
    with pytest.raises(ValueError, match="attention = 'mha'"):
        save_pretrained(make_model(CONFIGS["mha"]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_save_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    model = saved(tmp_path)

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_pretrained(make_model(config_for("mla")), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert_same(model, load_pretrained(tmp_path))


def test_pickled_weights_are_never_opened(tmp_path):
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="lacks model.safetensors"):
        load_pretrained(tmp_path)
