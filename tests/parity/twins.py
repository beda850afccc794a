"""The same random model twice: in transformers and in this package."""

import contextlib

import torch
from tiny import make_tokens, shake
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    DeepseekV3Config,
    DeepseekV32Config,
    DynamicCache,
    LlamaConfig,
)
from true_float64 import TrueFloat64

from dsmini.config import ModelConfig, RopeScaling
from dsmini.model.transformer import Transformer

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61, "intermediate_size": 40,
         "max_position_embeddings": 40 * 256, "attn_implementation": "eager",
         "experts_implementation": "eager"}  # fmt: skip
MLA = {"num_key_value_heads": 4, "q_lora_rank": 14, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
       "v_head_dim": 10, "first_k_dense_replace": 2}  # fmt: skip
INDEXER = {"index_n_heads": 16, "index_head_dim": 12, "index_topk": 6}  # so many heads that none of 700 scores is 0
EXPERTS = {"first_k_dense_replace": 1, "n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 12,
           "n_shared_experts": 2, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}  # fmt: skip


def rope(**yarn):
    """`rope_parameters`: plain RoPE, or YaRN with these settings."""
    if not yarn:
        return {"rope_type": "default", "rope_theta": 10000.0}
    return {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "original_max_position_embeddings": 256, **yarn}


YARN = rope(mscale=1.0, mscale_all_dim=1.0, beta_fast=32.0, beta_slow=1.0)


def v3(**changes):
    return DeepseekV3Config(**{**SHAPE, **MLA, "rope_parameters": rope(), **changes})


def v32(**changes):
    """Dense layers unless `EXPERTS` are asked for: their first_k_dense_replace is a limit of theirs, not a default."""
    return DeepseekV32Config(**{**SHAPE, **MLA, **INDEXER, "rope_parameters": rope(), **changes})


def v2(**changes):
    return DeepseekV2Config(**{**SHAPE, **MLA, "num_experts_per_tok": 2, "rope_parameters": rope(), **changes})


def llama(**changes):
    return LlamaConfig(**{**SHAPE, "num_key_value_heads": 2, "rope_parameters": rope(), **changes})


def our_config(config):
    """Their config in this book's words."""
    if config.model_type != "llama":
        return ModelConfig.from_hf(config.to_dict())
    shared = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
              "vocab_size", "intermediate_size", "attention_bias", "rms_norm_eps", "tie_word_embeddings")  # fmt: skip
    settings = dict(config.rope_parameters)
    theta, yarn = settings.pop("rope_theta"), settings.pop("rope_type") == "yarn"
    scaling = RopeScaling(**settings) if yarn else None
    fields = {name: getattr(config, name) for name in shared}
    return ModelConfig(**fields, rope_theta=theta, rope_scaling=scaling, rope_interleave=False)


def make_twins(config, seed=0, dtype=torch.float64):
    """(theirs, ours): two models with the same random weights, far from their initial ones; logits are of size 1.

    In float64 attention is made sharp, so that a small mistake moves the logits; float32 would lose its digits there.
    """
    theirs = shake(AutoModelForCausalLM.from_config(config), seed, gain=1.5 if dtype == torch.float64 else 1.0)
    ours = Transformer(our_config(config).replace(num_nextn_predict_layers=0))  # theirs has no MTP module inside
    ours.load_state_dict(theirs.state_dict())
    return theirs.to(dtype).eval(), ours.to(dtype).eval()


def precision(dtype):
    """Their model's arithmetic: as shipped in float32, without its inner casts in float64."""
    return TrueFloat64() if dtype == torch.float64 else contextlib.nullcontext()


def their_logits(model, tokens, ends=None):
    """Logits of (B, T) tokens; `ends`: feed a cache chunk by chunk, each up to the next end."""
    with torch.no_grad(), precision(model.dtype):
        if ends is None:
            return model(tokens).logits
        cache, starts = DynamicCache(config=model.config), [0, *ends[:-1]]
        chunks = zip(starts, ends, strict=True)
        return torch.cat([model(tokens[:, s:e], past_key_values=cache).logits for s, e in chunks], dim=1)


def our_logits(model, tokens, ends=None):
    with torch.no_grad():
        if ends is None:
            return model(tokens)
        cache, starts = model.new_cache(*tokens.shape), [0, *ends[:-1]]
        return torch.cat([model(tokens[:, s:e], cache) for s, e in zip(starts, ends, strict=True)], dim=1)


def tokens_for(model, batch_size=3, length=40):
    return make_tokens(model.config, batch_size, length)
