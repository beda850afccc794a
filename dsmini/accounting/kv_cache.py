"""KV-cache bytes of a model, in the layouts that DeepSeek's reports and kernels use.

Sources: DeepSeek-V2 report, table 1 (elements per token); FlashMLA's README, "FP8 KV Cache" (656 bytes per token
and layer); DeepSeek-V3.2-Exp's inference code (indexer keys: fp8 values and one float32 scale each).
"""

LAYOUTS = ("plain", "expanded", "fp8-index", "production")

_FP8, _SCALE, _ROPE = 1, 4, 2  # bytes of an fp8 value, of a float32 scale, of a bfloat16 RoPE value
_TILE = 128  # latent values that share one scale


def kv_elements(config, layout="plain"):
    """Values that one layer keeps for one token, for the layouts that store every value alike.

    layout: "plain" (what the attention needs) or "expanded" (MLA's keys and values per head, as if never compressed).
    Raises ValueError for another layout, or for "expanded" on a model without MLA.
    """
    if layout == "plain":
        if config.attention != "mla":
            return 2 * config.num_key_value_heads * config.head_dim
        return config.kv_lora_rank + config.qk_rope_head_dim + (config.index_head_dim or 0)
    if layout == "expanded":
        _require(config.attention == "mla", layout, "a model with MLA")
        return config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
    raise ValueError(f"layout = {layout!r}: expected 'plain' or 'expanded'")


def kv_cache_bytes(config, tokens, batch_size=1, bytes_per_value=2, layout="plain"):
    """Bytes that the whole model caches for `batch_size` sequences of `tokens` tokens.

    layout:
      "plain"       every cached value at bytes_per_value: K and V, or MLA's latent and RoPE key (+ the indexer's key)
      "expanded"    MLA's keys and values of every head, as if they were never compressed
      "fp8-index"   latent and RoPE key at bytes_per_value, the indexer's key in fp8 with one float32 scale
      "production"  latent in fp8 with a float32 scale per 128 values, RoPE key in bfloat16 (656 bytes in V3's sizes),
                    and the fp8 indexer key where there is an indexer
    Raises ValueError, naming the argument, for negative sizes, an unknown layout, or one that the model cannot have.
    """
    for name, value in (("tokens", tokens), ("batch_size", batch_size), ("bytes_per_value", bytes_per_value)):
        if value < 0:
            raise ValueError(f"{name} = {value!r}: expected 0 or more")
    return batch_size * tokens * config.num_hidden_layers * _layer_bytes(config, bytes_per_value, layout)


def tokens_that_fit(config, memory_bytes, batch_size=1, bytes_per_value=2, layout="plain"):
    """Tokens per sequence whose cache fits into `memory_bytes` when `batch_size` sequences share it.

    Raises ValueError, naming the argument, for sizes with which any number would fit, and as `kv_cache_bytes` does.
    """
    if memory_bytes < 0:
        raise ValueError(f"memory_bytes = {memory_bytes!r}: expected 0 or more")
    for name, value in (("batch_size", batch_size), ("bytes_per_value", bytes_per_value)):
        if value <= 0:
            raise ValueError(f"{name} = {value!r}: expected more than 0")
    return int(memory_bytes // kv_cache_bytes(config, 1, batch_size, bytes_per_value, layout))


def _layer_bytes(config, bytes_per_value, layout):
    if layout not in LAYOUTS:
        raise ValueError(f"layout = {layout!r}: expected one of {', '.join(LAYOUTS)}")
    if layout in ("plain", "expanded"):
        return kv_elements(config, layout) * bytes_per_value
    index = config.index_head_dim * _FP8 + _SCALE if config.has_indexer else 0
    if layout == "fp8-index":
        _require(config.has_indexer, layout, "a model with an indexer (V3.2)")
        return (config.kv_lora_rank + config.qk_rope_head_dim) * bytes_per_value + index
    _require(config.attention == "mla", layout, "a model with MLA")
    scales = -(-config.kv_lora_rank // _TILE) * _SCALE
    return config.kv_lora_rank * _FP8 + scales + config.qk_rope_head_dim * _ROPE + index


def _require(holds, layout, what):
    if not holds:
        raise ValueError(f"layout = {layout!r} needs {what}")
