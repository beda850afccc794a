"""`ModelConfig.to_hf` writes a config.json that transformers understands as the same model."""

import json

import pytest
import torch
from tiny import difference, make_model, shake
from transformers import AutoConfig, AutoModelForCausalLM
from twins import our_logits, their_logits, tokens_for

from dsmini.accounting import count_parameters
from dsmini.config import ModelConfig, RopeScaling
from dsmini.model.checkpoint import load_pretrained, save_pretrained

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61, "intermediate_size": 40,
         "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 10}  # fmt: skip
YARN = RopeScaling(40.0, 64, mscale=0.707, mscale_all_dim=0.707)
EXPERTS = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1,
           "n_group": 2, "topk_group": 1}  # fmt: skip
INDEXER = {"q_lora_rank": 14, "index_n_heads": 16, "index_head_dim": 12, "index_topk": 6}  # so many heads never tie
EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}

DENSE = {
    "v3": ModelConfig(**SHAPE, q_lora_rank=14),
    "v3, YaRN": ModelConfig(**SHAPE, q_lora_rank=14, rope_scaling=YARN),
    "v3, YaRN without mscale_all_dim": ModelConfig(**SHAPE, rope_scaling=RopeScaling(8.0, 64, mscale=1.0)),
    "v3, odd YaRN": ModelConfig(**SHAPE, rope_scaling=RopeScaling(8.0, 64, 16.0, 2.0, 1.0, 0.5, 1.1, truncate=False)),
    "v3, options": ModelConfig(**SHAPE, attention_bias=True, rope_interleave=False, rms_norm_eps=1e-2, rope_theta=99.0),
    "v3, tied embeddings": ModelConfig(**SHAPE, tie_word_embeddings=True),
    "v2": ModelConfig(**SHAPE, model_type="deepseek_v2", rope_scaling=YARN),
    "v3.2": ModelConfig(**SHAPE, **INDEXER),
    "v3.2, YaRN": ModelConfig(**SHAPE, **INDEXER, rope_scaling=YARN),
    "v3.2, options": ModelConfig(**SHAPE, **INDEXER, attention_bias=True, tie_word_embeddings=True, rope_theta=99.0),
}
WITH_EXPERTS = {
    "v3, experts": ModelConfig(**SHAPE, **EXPERTS, q_lora_rank=14, first_k_dense_replace=1, routed_scaling_factor=2.5),
    "v3, experts and MTP": ModelConfig(**SHAPE, **EXPERTS, q_lora_rank=14, num_nextn_predict_layers=1),
    "v3, tied experts": ModelConfig(**SHAPE, **EXPERTS, rope_scaling=YARN, tie_word_embeddings=True),
    "v3.2, experts and MTP": ModelConfig(**SHAPE, **EXPERTS, **INDEXER, num_nextn_predict_layers=1),
    "v2, experts": ModelConfig(**SHAPE, **EXPERTS, model_type="deepseek_v2", scoring_func="softmax",
                               topk_method="group_limited_greedy", norm_topk_prob=False, first_k_dense_replace=1),
}  # fmt: skip


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


@pytest.mark.parametrize("name", [*DENSE, *WITH_EXPERTS])
def test_their_loader_reads_our_checkpoint(name, tmp_path):
    ours = make_model({**DENSE, **WITH_EXPERTS}[name])
    save_pretrained(ours, tmp_path)
    theirs, told = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float64, output_loading_info=True, **EAGER
    )
    assert not told["missing_keys"] and not told["mismatched_keys"]
    assert all(key.startswith("model.layers.2.") for key in told["unexpected_keys"]), "the MTP module, if there is one"
    tokens = tokens_for(ours)
    assert difference(our_logits(ours, tokens), their_logits(theirs.eval(), tokens)) <= 1e-12


@pytest.mark.parametrize("shards", ["5GB", "30KB"])
@pytest.mark.parametrize("name", [*DENSE, *WITH_EXPERTS])
def test_our_loader_reads_their_checkpoint(name, shards, tmp_path):
    config = read_by_transformers({**DENSE, **WITH_EXPERTS}[name], tmp_path)
    config._experts_implementation = "eager"
    theirs = shake(AutoModelForCausalLM.from_config(config)).eval()
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=shards)
    ours = load_pretrained(tmp_path / "theirs", torch.float64)
    assert len(ours.mtp) == 0, "their model holds no MTP weights, whatever its config says"
    tokens = tokens_for(ours)
    assert difference(our_logits(ours, tokens), their_logits(theirs.double(), tokens)) <= 1e-12


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
