"""The stored references are what the installed library answers today, and the script makes them again."""

import json

import make_references
import pytest
import torch
from tiny import difference
from transformers import DeepseekV2Config, DeepseekV3Config, DeepseekV32Config

import dsmini

NAMES = list(make_references.REFERENCES)
KINDS = {"deepseek_v2": DeepseekV2Config, "deepseek_v3": DeepseekV3Config,
         "deepseek_v32": DeepseekV32Config}  # a model's; others have options  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_installed_library_gives_the_stored_outputs(name):
    config, tensors, _ = dsmini.reference.load(name)
    _, run = make_references.REFERENCES[name]
    kind = KINDS.get(config.get("model_type"), make_references.Options)
    live = run(kind.from_dict(config), tensors["weights"], tensors["inputs"])
    assert live.keys() == tensors["outputs"].keys()
    for key, stored in tensors["outputs"].items():
        assert difference(live[key], stored) <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_script_draws_the_stored_weights_and_inputs(name):
    config, tensors, _ = dsmini.reference.load(name)
    drawn_config, weights, inputs = make_references.REFERENCES[name][0]()
    if "model_type" in config:
        assert dsmini.ModelConfig.from_hf(drawn_config.to_dict()) == dsmini.ModelConfig.from_hf(config)
    else:
        assert json.loads(json.dumps(drawn_config)) == config
    for group, drawn in (("weights", weights), ("inputs", inputs)):
        assert drawn.keys() == tensors[group].keys()
        for key, tensor in drawn.items():
            torch.testing.assert_close(tensor, tensors[group][key])  # processors differ in a draw's last bit


def test_script_writes_the_same_file_twice_and_leaves_nothing_else(tmp_path):
    first = make_references.write("deepseek_v3_attention", tmp_path).read_bytes()
    second = make_references.write("deepseek_v3_attention", tmp_path).read_bytes()
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == ["deepseek_v3_attention.safetensors"]


def test_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = make_references.write("deepseek_v3_attention", tmp_path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(make_references, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        make_references.write("deepseek_v3_attention", tmp_path)
    assert path.read_bytes() == before
