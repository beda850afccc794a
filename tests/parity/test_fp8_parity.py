"""FP8 weights as transformers makes them and reads them: the same numbers, the same scales, the same logits."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import difference, make_model, make_tokens
from transformers import AutoModelForCausalLM, FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

from dsmini.config import ModelConfig
from dsmini.model import checkpoint
from dsmini.model.checkpoint import load_pretrained, save_pretrained
from dsmini.model.fp8 import dequantize_blocks, quantize_blocks

BLOCK = 8
CONFIG = ModelConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=61, intermediate_size=40, q_lora_rank=16,
    kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=8, num_experts_per_tok=2,
    moe_intermediate_size=16, n_shared_experts=1, n_group=2, topk_group=1, first_k_dense_replace=1,
)  # fmt: skip


def their_quantizer(scale_fmt):
    settings = FineGrainedFP8Config(weight_block_size=(BLOCK, BLOCK), scale_fmt=scale_fmt)
    return SimpleNamespace(quantization_config=settings)


def weights(seed):
    """A matrix whose blocks differ in size by many powers of two."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randn(6, 5, generator=random).mul(3).exp2().repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return torch.randn(6 * BLOCK, 5 * BLOCK, generator=random) * sizes


@pytest.mark.parametrize("seed", range(5))
def test_power_of_two_scales_and_values_are_theirs_to_the_bit(seed):
    theirs = Fp8Quantize(their_quantizer("ue8m0")).convert({"weight": weights(seed)})
    values, scales = quantize_blocks(weights(seed), BLOCK, power_of_two=True)
    assert torch.equal(scales, theirs["weight_scale_inv"].float())
    assert torch.equal(values.float(), theirs["weight"].float())
    back = Fp8Dequantize(None).convert({name: [tensor] for name, tensor in theirs.items()})["weight"]
    assert torch.equal(dequantize_blocks(values, scales, BLOCK), back.float())


@pytest.mark.parametrize("seed", range(5))
def test_exact_scales_are_theirs_up_to_their_last_bit(seed):
    theirs = Fp8Quantize(their_quantizer("float")).convert({"weight": weights(seed)})
    values, scales = quantize_blocks(weights(seed), BLOCK, power_of_two=False)
    torch.testing.assert_close(scales, theirs["weight_scale_inv"], rtol=2e-7, atol=0)
    other = values.float() != theirs["weight"].float()
    assert other.float().mean() < 0.01, "a value between two numbers may go either way, when its scale differs"


def fp8_checkpoint(folder):
    """A model's checkpoint with all its linear layers in FP8, as the hub's are: in transformers' format."""
    save_pretrained(make_model(CONFIG, dtype=torch.float32), folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight") or "proj_with_mqa" in name]:
        tensors[name], tensors[f"{name}_scale_inv"] = quantize_blocks(tensors[name], BLOCK)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return len([name for name in tensors if name.endswith("_scale_inv")])


def logits_of_both(folder):
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    settings = FineGrainedFP8Config(weight_block_size=(BLOCK, BLOCK), dequantize=True)
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=settings, **eager
    ).eval()
    ours, tokens = load_pretrained(folder), make_tokens(CONFIG, 2, 24)
    with torch.no_grad():
        return ours(tokens), theirs(tokens).logits


def test_their_loader_and_ours_read_the_same_model_from_an_fp8_checkpoint(tmp_path):
    assert fp8_checkpoint(tmp_path) > 24, "attention, the dense layer, the shared expert and every routed one"
    ours, theirs = logits_of_both(tmp_path)
    assert theirs.std() > 0.3 and difference(ours, theirs) <= 2e-5
    with torch.no_grad():
        unrounded = make_model(CONFIG, dtype=torch.float32)(make_tokens(CONFIG, 2, 24))
    assert difference(ours, unrounded) > 1e-2, "FP8 must have been used at all"


def test_scale_taken_for_a_divisor_is_seen(tmp_path, monkeypatch):
    fp8_checkpoint(tmp_path)
    monkeypatch.setattr(checkpoint, "dequantize_blocks", lambda v, scales, b: dequantize_blocks(v, 1 / scales, b))
    ours, theirs = logits_of_both(tmp_path)
    assert difference(ours, theirs) > 1e-2
