"""The lightning indexer of DeepSeek-V3.2: a small scorer that says which earlier tokens are worth attending to.

DeepSeek-V3.2-Exp report, section 1, eq. 1; V3.2 report, section 2.1. What the equation leaves open follows the released
weights: queries come from MLA's normed query latent, the one key per token from the hidden state through a LayerNorm
(mean and bias, unlike every other norm of the model), and positions turn the first dimensions of a head in half-split
layout, where MLA turns the last ones in interleaved layout. The first release of the inference code used MLA's layout
here as well: a mistake that shows only where there are more tokens than the indexer keeps.
"""

import torch
from torch import nn
from torch.nn import functional as F

from dsmini.model.fp8 import dequantize_tiles, quantize_tiles
from dsmini.model.layers import apply_rope, at_least_float32


class LightningIndexer(nn.Module):
    """Scores of all stored tokens for every query; what is done with them is the attention's business.

    forward(x, c_q, rope): hidden states (B, T, D), MLA's query latent (B, T, d_q), (cos, sin) as MLA gets them
    -> scores (B, T, T), not yet causal. `keys` is what a cache keeps.
    hadamard, fp8: set them to True to simulate the released inference code, which turns queries and keys by a Hadamard
    matrix (no score changes, but no value stands out) and then rounds both to FP8.
    """

    def __init__(self, config):
        super().__init__()
        self.num_heads, self.head_dim = config.index_n_heads, config.index_head_dim
        self.d_rope = config.qk_rope_head_dim
        self.scale = (self.num_heads * self.head_dim) ** -0.5
        self.hadamard = self.fp8 = False
        self.wq_b = nn.Linear(config.q_lora_rank, self.num_heads * self.head_dim, bias=False)
        self.wk = nn.Linear(config.hidden_size, self.head_dim, bias=False)
        self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-6)
        self.weights_proj = nn.Linear(config.hidden_size, self.num_heads, bias=False)

    def keys(self, x, rope):
        """One key per token, shared by all indexer heads: x (B, T, D) -> (B, T, d_I)."""
        k = self.k_norm(self.wk(x))
        return self._place(k[:, :, None], rope)[:, :, 0]

    def queries(self, x, c_q, rope):
        """The heads' queries, and what each head's opinion weighs: of either sign, and no softmax.

        x: (B, T, D)   c_q: (B, T, d_q)   returns q (B, T, H_I, d_I), w (B, T, H_I).
        """
        q = self.wq_b(c_q).unflatten(-1, (self.num_heads, self.head_dim))
        w = F.linear(at_least_float32(x), at_least_float32(self.weights_proj.weight))
        return self._place(q, rope), w * self.scale

    def scores(self, q, w, k):
        """I[t, s] = sum over heads of w[t, j] ReLU(q[t, j] . k[s]). V3.2-Exp report, eq. 1.

        q: (B, T, H_I, d_I)   w: (B, T, H_I)   k: (B, S, d_I)   returns (B, T, S), float32 at least.
        """
        q, k = at_least_float32(q), at_least_float32(k)
        hits = (q.flatten(1, 2) @ k.mT).relu_().unflatten(1, q.shape[1:3])  # (B, T, H_I, S)
        return (w[:, :, None] @ hits)[:, :, 0]

    def forward(self, x, c_q, rope):
        return self.scores(*self.queries(x, c_q, rope), self.keys(x, rope))

    def _place(self, heads, rope):
        """RoPE on the first d_r dimensions of every head, the rest as it is; (B, T, heads, d_I) in and out."""
        turned, rest = heads.split((self.d_rope, self.head_dim - self.d_rope), dim=-1)
        heads = torch.cat((apply_rope(turned, *rope, interleaved=False), rest), dim=-1)
        if self.hadamard:
            heads = hadamard(heads)
        return round_to_fp8(heads) if self.fp8 else heads


def select_topk(scores, k):
    """Places of the k highest scores of every row: (..., S) -> (..., k) int64, in no particular order.

    Among equal scores the lowest place wins, whatever the row's length: ReLU makes exact zeros, and a cached and an
    uncached pass must choose alike. `torch.topk` promises no order among equals, so rows where the k-th score has an
    equal that was left out are chosen again.
    """
    values, places = scores.topk(k, dim=-1, sorted=False)
    last = values.amin(-1, keepdim=True)  # (..., 1)
    tied = (scores >= last).sum(-1) > k
    tied &= last[..., 0] > float("-inf")  # among hidden tokens nobody minds
    if tied.any():
        rows, last = scores[tied], last[tied]  # (n, S), (n, 1)
        above, equal = rows > last, rows == last
        room = k - above.sum(-1, keepdim=True)
        chosen = above | (equal & (equal.cumsum(-1, dtype=torch.int32) <= room))  # k in each row
        places[tied] = chosen.nonzero()[:, 1].unflatten(0, (-1, k))
    return places


def hadamard(x):
    """The Walsh-Hadamard transform of the last dimension, scaled to keep every length and dot product.

    Raises ValueError unless its size is a power of two.
    """
    size = x.shape[-1]
    if size & (size - 1):
        raise ValueError(f"hadamard: a last dimension of {size}, expected a power of two")
    span = 1
    while span < size:
        first, second = x.unflatten(-1, (-1, 2, span)).unbind(-2)
        x = torch.stack((first + second, first - second), dim=-2).flatten(-3)
        span *= 2
    return x * size**-0.5


def round_to_fp8(x):
    """x as FP8 would store it, one scale per vector of the last dimension; gradients pass as if nothing were done."""
    values, scales = quantize_tiles(x.detach(), tile=x.shape[-1])
    return x + (dequantize_tiles(values, scales, tile=x.shape[-1]).to(x.dtype) - x).detach()
