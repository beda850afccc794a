"""The decoder: embedding, layers of attention and feed-forward, final norm, head.

One class for every attention of this book; module and weight names are Hugging Face's, so a checkpoint's keys fit.
Multi-token-prediction modules stand beside the decoder in `mtp`: the logits never depend on them.
"""

import copy

import torch
from torch import nn

from dsmini.model.attention import Attention
from dsmini.model.cache import FullCache, IndexedLatentCache, LatentCache
from dsmini.model.dsa import SparseLatentAttention
from dsmini.model.layers import RMSNorm, RotaryEmbedding, SwiGLU
from dsmini.model.mla import LatentAttention
from dsmini.model.moe import Experts, MixtureOfExperts, Router
from dsmini.model.mtp import MultiTokenPrediction


def make_attention(config):
    """The attention that a config describes: MHA, GQA or MQA, MLA, or MLA with an indexer (V3.2)."""
    if config.attention != "mla":
        return Attention(config)
    return SparseLatentAttention(config) if config.has_indexer else LatentAttention(config)


class DecoderLayer(nn.Module):
    """Pre-norm residual layer: x + attention(norm(x)), then x + feed_forward(norm(x)).

    layer: its number, from 0; the first `first_k_dense_replace` layers of a MoE model are dense.
    forward(x, rope, mask=None, cache=None): (B, T, D) -> (B, T, D).
    """

    def __init__(self, config, layer=0):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = make_attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        if config.is_moe_layer(layer):
            self.mlp = MixtureOfExperts(config)
        else:
            self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x, rope, mask=None, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    """A decoder-only language model from a `ModelConfig`.

    model(tokens, cache=None, lengths=None): (B, T) int64 -> logits (B, T, V).
    With a cache from `new_cache`, the tokens continue what it holds. lengths: (B,), how many of each right-padded
    row's tokens are real; what a padding position returns means nothing.
    mtp: one `MultiTokenPrediction` for each of num_nextn_predict_layers; see `predict_ahead`.

    Raises ValueError for tokens outside the vocabulary or of the wrong shape, for lengths out of range, and for a
    cache of another batch size or attention; CacheFullError if the tokens do not fit.
    """

    def __init__(self, config):
        super().__init__()
        _check_buildable(config)
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = config.num_hidden_layers
        self.model.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(layers))
        self.model.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.mtp = nn.ModuleList(
            MultiTokenPrediction(config, DecoderLayer(config, layers + depth))
            for depth in range(config.num_nextn_predict_layers)
        )
        self.rope = RotaryEmbedding(config)
        self.apply(self._initialise)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens, cache=None, lengths=None):
        return self.lm_head(self.hidden_states(tokens, cache, lengths))

    def hidden_states(self, tokens, cache=None, lengths=None):
        """What the head reads, (B, T, D): the last layer's output after the final norm. Arguments as forward's."""
        self._check_input(tokens, cache, lengths, self.config.num_hidden_layers)
        x = self.model.embed_tokens(tokens)  # (B, T, D)
        return self.model.norm(self._run(self.model.layers, x, cache, lengths))

    def predict_ahead(self, hidden, next_tokens, cache=None, lengths=None, depth=0):
        """Run MTP module `depth`: hand its result to `lm_head` for the logits of the token after the next.

        hidden: (B, T, D), from `hidden_states` for depth 0, from depth - 1 above it; hidden[:, i] knows tokens 0..i.
        next_tokens: (B, T) int64, next_tokens[:, i] is token i + 1 (+ depth). cache: from `new_mtp_cache`.
        Returns (B, T, D). V3 report, section 2.2, eq. 21-23. Raises ValueError without such a module.
        """
        if not 0 <= depth < len(self.mtp):
            raise ValueError(f"depth = {depth}: this model has {len(self.mtp)} multi-token-prediction modules")
        if hidden.shape != (*next_tokens.shape, self.config.hidden_size):
            found = f"{tuple(hidden.shape)} and {tuple(next_tokens.shape)}"
            raise ValueError(f"hidden, next_tokens: expected (B, T, D) and (B, T), got {found}")
        self._check_input(next_tokens, cache, lengths, 1)
        embedded = self.model.embed_tokens(next_tokens)  # (B, T, D)
        return self._run([lambda x, *rest: self.mtp[depth](x, embedded, *rest)], hidden, cache, lengths)

    def _run(self, layers, x, cache, lengths):
        """x (B, T, D) through some layers, at the positions that follow what the cache holds."""
        if cache is None:
            positions, mask = torch.arange(x.shape[1], device=x.device)[None], None
        else:
            positions = cache.begin(x.shape[1], lengths)
            mask = cache.mask(positions)
        rope = self.rope(positions, x.dtype)
        for i, layer in enumerate(layers):
            x = layer(x, rope, mask, None if cache is None else cache.layers[i])
        if cache is not None:
            cache.finish()
        return x

    def new_cache(self, batch_size, max_tokens):
        """An empty cache for `batch_size` rows of at most `max_tokens` tokens, in the model's precision and place."""
        return self._new_cache(self.config.num_hidden_layers, batch_size, max_tokens)

    def new_mtp_cache(self, batch_size, max_tokens):
        """The same for one MTP module, which keeps keys and values of its own."""
        return self._new_cache(1, batch_size, max_tokens)

    def without_mtp(self):
        """A copy without the MTP modules, which serve pre-training and drafting: every logit is the same."""
        model = copy.deepcopy(self)
        model.mtp = nn.ModuleList()
        model.config = self.config.replace(num_nextn_predict_layers=0)
        return model

    def _new_cache(self, num_layers, batch_size, max_tokens):
        weight = self.lm_head.weight
        return _cache_of(self.config)(self.config, batch_size, max_tokens, weight.dtype, weight.device, num_layers)

    def _initialise(self, module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Experts | Router):
            for weight in module.parameters(recurse=False):
                nn.init.normal_(weight, std=self.config.initializer_range)

    def _check_input(self, tokens, cache, lengths, num_layers):
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
            expected = _cache_of(self.config).kind
            if cache.kind != expected or len(cache.layers) != num_layers:
                raise ValueError(
                    f"cache: a {cache.kind} cache of {len(cache.layers)} layers, but this model needs a {expected} "
                    f"cache of {num_layers}; use model.new_cache(batch_size, max_tokens), or new_mtp_cache for its MTP"
                )
            if cache.batch_size != tokens.shape[0]:
                raise ValueError(f"cache: made for batch size {cache.batch_size}, tokens has {tokens.shape[0]} rows")


def _check_buildable(config):
    for name in ("vocab_size", "intermediate_size"):
        if getattr(config, name) is None:
            raise ValueError(f"{name} is None: this config describes only the cache, no model can be built from it")


def _cache_of(config):
    if config.attention != "mla":
        return FullCache
    return IndexedLatentCache if config.has_indexer else LatentCache
