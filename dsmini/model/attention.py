"""The baselines: multi-head, grouped-query and multi-query attention, one class for all three.

They differ in one number, `num_key_value_heads` (Vaswani et al. 2017; Ainslie et al. 2023; Shazeer 2019), and that
number is their whole cache. Weight names are Llama's. `attend` is the one place where attention is computed, for
these and for MLA.
"""

from torch import nn
from torch.nn import functional as F

from dsmini.model.layers import apply_rope


def attend(q, k, v, scale, mask=None):
    """Softmax attention with G key/value heads shared by H query heads.

    q: (B, H, T, d_k)   k: (B, G, S, d_k)   v: (B, G, S, d_v)   returns (B, H, T, d_v).
    mask: (B or 1, 1, T, S) bool, True where a query may look. Without one, T = S is causal and
    T = 1 sees everything. Vaswani et al. 2017, eq. 1.
    """
    causal, shared = mask is None and q.shape[2] > 1, q.shape[1] != k.shape[1]
    if q.shape[2] == 1 and mask is None and shared:
        # One query a head: heads that share keys are rows of one small matrix product.
        grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[-1])  # (B, G, H/G, d_k)
        return attend_padded(grouped, k, v, scale).reshape(q.shape[0], q.shape[1], 1, -1)
    return attend_padded(q, k, v, scale, attn_mask=mask, is_causal=causal, enable_gqa=shared)


def attend_padded(q, k, v, scale, **options):
    """PyTorch's fused attention, with v zero-padded to the keys' width (or they to its).

    Its CPU kernel takes the slow path, L x L scores per head in memory, whenever the widths
    differ, as MLA's do. The padding is cut off the result.
    """
    d_k, d_v = q.shape[-1], v.shape[-1]
    if d_v < d_k:
        v = F.pad(v, (0, d_k - d_v))
    elif d_k < d_v:
        q, k = F.pad(q, (0, d_v - d_k)), F.pad(k, (0, d_v - d_k))
    return F.scaled_dot_product_attention(q, k, v, scale=scale, **options)[..., :d_v]


class Attention(nn.Module):
    """Multi-head (G = H), grouped-query (1 < G < H) or multi-query (G = 1) attention.

    forward(x, rope, mask=None, cache=None): x (B, T, D), rope the (cos, sin) of the tokens'
    positions, mask as in `attend`, cache one layer of a `FullCache` -> (B, T, D).
    """

    def __init__(self, config):
        super().__init__()
        self.num_heads, self.num_groups = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        self.interleaved = config.rope_interleave
        self.scale = config.head_dim**-0.5
        width, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(width, self.num_heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, self.num_groups * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, self.num_groups * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, width, bias=bias)

    def forward(self, x, rope, mask=None, cache=None):
        q = self.q_proj(x).unflatten(-1, (self.num_heads, self.head_dim))  # (B, T, H, d_h)
        k = self.k_proj(x).unflatten(-1, (self.num_groups, self.head_dim))  # (B, T, G, d_h)
        v = self.v_proj(x).unflatten(-1, (self.num_groups, self.head_dim))  # (B, T, G, d_h)
        q, k = apply_rope(q, *rope, self.interleaved), apply_rope(k, *rope, self.interleaved)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or G, T, d_h)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, G, S, d_h)
        heads = attend(q, k, v, self.scale, mask)  # (B, H, T, d_h)
        return self.o_proj(heads.transpose(1, 2).flatten(-2))
