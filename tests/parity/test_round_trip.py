"""`ModelConfig.to_hf` writes a config.json that transformers understands as the same model."""

import json

import pytest
import torch
from tiny import difference, make_model
from transformers import AutoConfig, AutoModelForCausalLM
from twins import our_logits, their_logits, tokens_for

from dsmini.accounting import count_parameters
from dsmini.config import ModelConfig, RopeScaling

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61, "intermediate_size": 40,
         "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 10}  # fmt: skip
YARN = RopeScaling(40.0, 64, mscale=0.707, mscale_all_dim=0.707)
EXPERTS = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1,
           "n_group": 2, "topk_group": 1}  # fmt: skip

DENSE = {
    "v3": ModelConfig(**SHAPE, q_lora_rank=14),
    "v3, YaRN": ModelConfig(**SHAPE, q_lora_rank=14, rope_scaling=YARN),
    "v3, YaRN without mscale_all_dim": ModelConfig(**SHAPE, rope_scaling=RopeScaling(8.0, 64, mscale=1.0)),
    "v3, odd YaRN": ModelConfig(**SHAPE, rope_scaling=RopeScaling(8.0, 64, 16.0, 2.0, 1.0, 0.5, 1.1, truncate=False)),
    "v3, options": ModelConfig(**SHAPE, attention_bias=True, rope_interleave=False, rms_norm_eps=1e-2, rope_theta=99.0),
    "v3, tied embeddings": ModelConfig(**SHAPE, tie_word_embeddings=True),
    "v2": ModelConfig(**SHAPE, model_type="deepseek_v2", rope_scaling=YARN),
}


def read_by_transformers(config, folder):
    """Their config, from a config.json that holds what `to_hf` returned."""
    (folder / "config.json").write_text(json.dumps(config.to_hf()))
    return AutoConfig.from_pretrained(folder, attn_implementation="eager")


@pytest.mark.parametrize("name", DENSE)
def test_their_model_of_our_config_gives_our_logits(name, tmp_path):
    ours = make_model(DENSE[name])
    theirs = AutoModelForCausalLM.from_config(read_by_transformers(DENSE[name], tmp_path)).double().eval()
    theirs.load_state_dict(ours.state_dict())
    assert sum(p.numel() for p in theirs.parameters()) == count_parameters(DENSE[name]).total
    tokens = tokens_for(ours)
    assert difference(our_logits(ours, tokens), their_logits(theirs, tokens)) <= 1e-12


@pytest.mark.parametrize("name", DENSE)
def test_config_survives_their_hands(name, tmp_path):
    returned = ModelConfig.from_hf(read_by_transformers(DENSE[name], tmp_path).to_dict())
    back = returned.replace(model_type=DENSE[name].model_type)
    for field in ("hidden_size", "q_lora_rank", "rope_scaling", "rope_theta", "rope_interleave", "attention_bias",
                  "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings", "vocab_size"):  # fmt: skip
        assert getattr(back, field) == getattr(DENSE[name], field), field


@pytest.mark.parametrize("dense_layers", [0, 1, 2])
@pytest.mark.parametrize(
    "extra",
    [
        {"model_type": "deepseek_v3"},
        {"model_type": "deepseek_v2", "scoring_func": "softmax", "topk_method": "group_limited_greedy"},
        {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 4, "q_lora_rank": 14},
    ],
    ids=["v3", "v2", "v3.2"],
)
def test_their_model_of_our_config_has_our_parameters(extra, dense_layers, tmp_path):
    config = ModelConfig(**SHAPE, **EXPERTS, **extra, first_k_dense_replace=dense_layers)
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(read_by_transformers(config, tmp_path))
    bias = sum(b.numel() for name, b in theirs.named_buffers() if name.endswith("e_score_correction_bias"))
    assert sum(p.numel() for p in theirs.parameters()) + bias == count_parameters(config).total
    assert ModelConfig.from_hf(theirs.config.to_dict()).first_k_dense_replace == dense_layers
