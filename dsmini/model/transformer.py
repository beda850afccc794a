"""The decoder: embedding, layers of attention and feed-forward, final norm, head.

One class for every attention of this book; module and weight names are Hugging Face's, so a checkpoint's keys fit.
So far a layer's feed-forward is dense: experts come with chapter 3, sparse attention with chapter 10.
"""

import torch
from torch import nn

from dsmini.model.attention import Attention
from dsmini.model.cache import FullCache, LatentCache
from dsmini.model.layers import RMSNorm, RotaryEmbedding, SwiGLU
from dsmini.model.mla import LatentAttention


class DecoderLayer(nn.Module):
    """Pre-norm residual layer: x + attention(norm(x)), then x + feed_forward(norm(x)). (B, T, D) -> (B, T, D)."""

    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LatentAttention(config) if config.attention == "mla" else Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x, rope, mask=None, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    """A decoder-only language model from a `ModelConfig`.

    model(tokens, cache=None, lengths=None): (B, T) int64 -> logits (B, T, V).
    With a cache from `new_cache`, the tokens continue what it holds. lengths: (B,), how many of each right-padded
    row's tokens are real; what a padding position returns means nothing.

    Raises ValueError for tokens outside the vocabulary or of the wrong shape, for lengths out of range, and for a
    cache of another batch size or attention; CacheFullError if the tokens do not fit; NotImplementedError for a
    config with experts or an indexer.
    """

    def __init__(self, config):
        super().__init__()
        for name in ("vocab_size", "intermediate_size"):
            if getattr(config, name) is None:
                raise ValueError(f"{name} is None: this config describes only the cache, no model can be built from it")
        if any(config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)):
            raise NotImplementedError("this config has mixture-of-experts layers, which come with chapter 3")
        if config.has_indexer:
            raise NotImplementedError("this config has a lightning indexer, which comes with chapter 10")
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.model.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rope = RotaryEmbedding(config)
        self.apply(self._initialise)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens, cache=None, lengths=None):
        self._check_input(tokens, cache, lengths)
        if cache is None:
            positions, mask = torch.arange(tokens.shape[1], device=tokens.device)[None], None
        else:
            positions = cache.begin(tokens.shape[1], lengths)
            mask = cache.mask(positions)
        x = self.model.embed_tokens(tokens)  # (B, T, D)
        rope = self.rope(positions, x.dtype)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, rope, mask, None if cache is None else cache.layers[i])
        if cache is not None:
            cache.finish()
        return self.lm_head(self.model.norm(x))

    def new_cache(self, batch_size, max_tokens):
        """An empty cache for `batch_size` rows of at most `max_tokens` tokens, in the model's precision and place."""
        weight = self.lm_head.weight
        kind = LatentCache if self.config.attention == "mla" else FullCache
        return kind(self.config, batch_size, max_tokens, dtype=weight.dtype, device=weight.device)

    def _initialise(self, module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def _check_input(self, tokens, cache, lengths):
        if tokens.dim() != 2 or tokens.dtype != torch.int64 or tokens.numel() == 0:
            found = f"{tuple(tokens.shape)} {tokens.dtype}"
            raise ValueError(f"tokens: expected a non-empty (B, T) int64 tensor, got {found}")
        if not tokens.is_meta:
            low, high = (int(bound) for bound in tokens.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                worst = low if low < 0 else high
                raise ValueError(f"tokens: found {worst}, expected 0 <= token < vocab_size = {self.config.vocab_size}")
        if lengths is not None:
            if tuple(lengths.shape) != tokens.shape[:1]:
                raise ValueError(f"lengths: expected shape ({tokens.shape[0]},), got {tuple(lengths.shape)}")
            if int(lengths.min()) < 0 or not 0 < int(lengths.max()) <= tokens.shape[1]:
                raise ValueError(f"lengths: {lengths.tolist()}, expected 0 to {tokens.shape[1]}, and not all of them 0")
        if cache is not None:
            expected = "latent" if self.config.attention == "mla" else "full"
            if cache.kind != expected or len(cache.layers) != self.config.num_hidden_layers:
                raise ValueError(
                    f"cache: a {cache.kind} cache of {len(cache.layers)} layers, but this model needs a {expected} "
                    f"cache of {self.config.num_hidden_layers}; use model.new_cache(batch_size, max_tokens)"
                )
            if cache.batch_size != tokens.shape[0]:
                raise ValueError(f"cache: made for batch size {cache.batch_size}, tokens has {tokens.shape[0]} rows")
