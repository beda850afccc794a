"""Tiny models that the tests share: every attention of the book, with weights that make attention far from uniform."""

import torch

from dsmini.config import ModelConfig, RopeScaling
from dsmini.model.transformer import Transformer

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61,
         "intermediate_size": 40}  # fmt: skip
MLA = {"kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 10}
EXPERTS = {"n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 9, "n_shared_experts": 2,
           "n_group": 4, "topk_group": 2, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5}  # fmt: skip
SOFTMAX = {"scoring_func": "softmax", "topk_method": "group_limited_greedy", "norm_topk_prob": False}
INDEXER = {"q_lora_rank": 14, "index_n_heads": 5, "index_head_dim": 8, "index_topk": 4}
YARN = RopeScaling(factor=40.0, original_max_position_embeddings=64, mscale=1.0, mscale_all_dim=1.0)

CONFIGS = {
    "mha": ModelConfig(**SHAPE),
    "gqa": ModelConfig(**SHAPE, num_key_value_heads=2, head_dim=6, rope_interleave=False),
    "mqa": ModelConfig(**SHAPE, num_key_value_heads=1, attention_bias=True),
    "mla": ModelConfig(**SHAPE, **MLA),
    "mla, compressed queries": ModelConfig(**SHAPE, **MLA, q_lora_rank=14, attention_bias=True),
    "mla, YaRN": ModelConfig(**SHAPE, **{**MLA, "v_head_dim": 20}, q_lora_rank=14, rope_scaling=YARN),
    "mla, experts": ModelConfig(**SHAPE, **MLA, **EXPERTS),
    "mla, softmax experts": ModelConfig(**SHAPE, **MLA, **EXPERTS, **SOFTMAX),
    "mla, experts, MTP": ModelConfig(**SHAPE, **MLA, **EXPERTS, q_lora_rank=14, num_nextn_predict_layers=1),
    "sparse mla": ModelConfig(**SHAPE, **MLA, **INDEXER, rope_scaling=YARN),
    "sparse mla, experts, MTP": ModelConfig(**SHAPE, **MLA, **EXPERTS, **INDEXER, num_nextn_predict_layers=1),
}


def make_model(config, seed=0, dtype=torch.float64):
    """A `Transformer` with `shake`n weights, ready to run."""
    return shake(Transformer(config), seed).to(dtype).eval()


@torch.no_grad()
def shake(module, seed=0, gain=1.5):
    """Give a module (anyone's) random weights that leave nothing at its initial value: outputs are of order 1."""
    random = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=random)
        if parameter.dim() > 1:
            parameter.copy_(gain * parameter.shape[-1] ** -0.5 * noise)
        else:
            parameter.copy_(0.2 * noise + (0 if name.endswith("bias") else 1))
    for name, buffer in module.named_buffers():
        if name.endswith("e_score_correction_bias"):  # large enough to choose other experts, small enough not to rule
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=random))
    return module


def make_tokens(config, batch_size, length, seed=0):
    random = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(config.vocab_size, (batch_size, length), generator=random)


def difference(a, b):
    """The largest absolute difference of two tensors of one shape, as a float."""
    assert a.shape == b.shape, f"{tuple(a.shape)} and {tuple(b.shape)}"
    return (a.double() - b.double()).abs().max().item()
