"""Multi-head Latent Attention: keys and values of all heads from one small latent per token.

DeepSeek-V2 report, section 2.1 and appendix C; DeepSeek-V3 report, section 2.1.1. The equations omit the RMSNorms on
both latents; the released code and weights have them, and so has this class. Weight names are Hugging Face's.

Two forms of one function: `expanded` builds every head's keys and values (cheaper when there are many queries:
training, prefill); `absorbed` moves W_UK to the query and W_UV behind the weighted sum, so that decoding reads the
latent as it lies in the cache.
"""

import torch
from torch import nn

from dsmini.model.attention import attend, attend_padded
from dsmini.model.layers import RMSNorm, apply_rope, yarn_factors


class LatentAttention(nn.Module):
    """MLA, with query compression if q_lora_rank is set (V2, V3) and without (V2-Lite).

    forward(x, rope, mask=None, cache=None): x (B, T, D), rope the (cos, sin) of the tokens' positions, mask as in
    `attend`, cache one layer of a `LatentCache` -> (B, T, D).
    """

    def __init__(self, config):
        super().__init__()
        self.num_heads, self.kv_lora_rank = config.num_attention_heads, config.kv_lora_rank
        self.d_nope, self.d_rope = config.qk_nope_head_dim, config.qk_rope_head_dim
        self.d_v, self.interleaved = config.v_head_dim, config.rope_interleave
        self.scale = config.qk_head_dim**-0.5 * yarn_factors(config.rope_scaling)[0]
        width, bias = config.hidden_size, config.attention_bias
        q_width = self.num_heads * config.qk_head_dim
        kv_width = self.num_heads * (self.d_nope + self.d_v)
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(width, q_width, bias=False)
        else:
            self.q_a_proj = nn.Linear(width, config.q_lora_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank)  # eps 1e-6 in every config
            self.q_b_proj = nn.Linear(config.q_lora_rank, q_width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(width, self.kv_lora_rank + self.d_rope, bias=bias)
        self.kv_a_layernorm = RMSNorm(self.kv_lora_rank)
        self.kv_b_proj = nn.Linear(self.kv_lora_rank, kv_width, bias=False)
        self.o_proj = nn.Linear(self.num_heads * self.d_v, width, bias=bias)

    def queries(self, x, rope):
        """The content and the (rotated) position part of every query. V3 report, eq. 6-9.

        x: (B, T, D)   returns q_nope (B, T, H, d_n), q_rope (B, T, H, d_r).
        """
        if hasattr(self, "q_proj"):
            q = self.q_proj(x)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.unflatten(-1, (self.num_heads, -1))  # (B, T, H, d_n + d_r)
        q_nope, q_rope = q.split((self.d_nope, self.d_rope), dim=-1)
        return q_nope, apply_rope(q_rope, *rope, self.interleaved)

    def latents(self, x, rope):
        """What the cache keeps: the normed latent and the one rotated key. V3 report, eq. 1, 3.

        x: (B, T, D)   returns (B, T, d_c + d_r).
        """
        both = self.kv_a_proj_with_mqa(x)  # (B, T, d_c + d_r)
        c_kv, k_rope = both.split((self.kv_lora_rank, self.d_rope), dim=-1)
        k_rope = apply_rope(k_rope[:, :, None], *rope, self.interleaved)  # one head for all
        return torch.cat((self.kv_a_layernorm(c_kv), k_rope[:, :, 0]), dim=-1)

    def up_projections(self):
        """kv_b_proj's weight as W_UK (H, d_n, d_c) and W_UV (H, d_v, d_c)."""
        per_head = (self.num_heads, self.d_nope + self.d_v)
        return self.kv_b_proj.weight.unflatten(0, per_head).split((self.d_nope, self.d_v), dim=1)

    def expanded(self, q_nope, q_rope, latent, mask=None):
        """Attention with keys and values built for every head.

        latent: (B, S, d_c + d_r)   returns (B, T, H, d_v).
        """
        c_kv, k_rope = latent.split((self.kv_lora_rank, self.d_rope), dim=-1)
        kv = self.kv_b_proj(c_kv).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k_nope, v = kv.split((self.d_nope, self.d_v), dim=-1)  # (B, H, S, d_n), (B, H, S, d_v)
        k_rope = k_rope[:, None].expand(-1, self.num_heads, -1, -1)  # (B, H, S, d_r)
        k = torch.cat((k_nope, k_rope), dim=-1)
        q = torch.cat((q_nope, q_rope), dim=-1).transpose(1, 2)  # (B, H, T, d_n + d_r)
        return attend(q, k, v, self.scale, mask).transpose(1, 2)

    def absorbed(self, q_nope, q_rope, latent, mask=None):
        """The same result straight from the latent, which is key and value of all heads.

        Shapes as in `expanded`.
        """
        w_uk, w_uv = self.up_projections()
        q_latent = torch.einsum("bthn,hnc->bthc", q_nope, w_uk)  # W_UK, absorbed by the query
        q = torch.cat((q_latent, q_rope), dim=-1)  # (B, T, H, d_c + d_r)
        shared = latent[:, None]  # (B, 1, S, d_c + d_r): one head, for all
        if q.shape[1] == 1 and mask is None:
            mixed = attend_padded(q, shared, shared, self.scale)  # the heads are rows of one query
        else:
            mixed = attend(q.transpose(1, 2), shared, shared, self.scale, mask).transpose(1, 2)
        mixed = mixed[..., : self.kv_lora_rank]  # (B, T, H, d_c)
        return torch.einsum("bthc,hvc->bthv", mixed, w_uv)  # W_UV, behind the sum

    def absorption_pays(self, num_queries, num_keys):
        """Whether `absorbed` takes fewer FLOPs than `expanded` to go on to `num_keys` tokens."""
        up = self.kv_lora_rank * (self.d_nope + self.d_v)
        extra = 2 * self.kv_lora_rank - self.d_nope - self.d_v  # multiplications more a pair
        old = num_keys - num_queries
        return old > 0 and num_queries * num_keys * extra < old * up

    def forward(self, x, rope, mask=None, cache=None):
        q_nope, q_rope = self.queries(x, rope)
        latent = self.latents(x, rope)  # (B, T, d_c + d_r)
        if cache is not None:
            latent = cache.append(latent)  # (B, S, d_c + d_r)
        absorb = self.absorption_pays(x.shape[1], latent.shape[1])
        attention = self.absorbed if absorb else self.expanded
        return self.o_proj(attention(q_nope, q_rope, latent, mask).flatten(-2))
