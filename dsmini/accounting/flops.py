"""FLOPs and cache bytes of one decoded token in one attention layer.

A multiply and an add are 2 FLOPs. Softmax, norms and RoPE are left out: they are thousands of times smaller in the
real models. The forms of MLA are those of DeepSeek-V3's inference code ("naive" and "absorb"), of transformers
("rebuilt") and of DeepSeek-V3.2-Exp ("sparse").
"""

from dsmini.accounting.kv_cache import kv_elements

_MLA_FORMS = ("expanded", "rebuilt", "absorbed", "sparse")


def projection_flops(config):
    """FLOPs of the projections that every form of MLA shares: query down and up, latent down, output."""
    _require_mla(config)
    d, heads = config.hidden_size, config.num_attention_heads
    q_width = heads * config.qk_head_dim
    query = d * q_width if config.q_lora_rank is None else config.q_lora_rank * (d + q_width)
    latent = d * (config.kv_lora_rank + config.qk_rope_head_dim)
    return 2 * (query + latent + heads * config.v_head_dim * d)


def attention_flops(config, context, form):
    """FLOPs of one decoded token over `context` cached tokens in one layer, less `projection_flops`.

    form:
      "expanded"  keys and values of all heads are cached; the new token's are made by kv_b_proj
      "rebuilt"   the latent is cached, and all keys and values are made from it again at every step
      "absorbed"  W_UK moves to the query and W_UV behind the weighted sum; the latent is used as it is
      "sparse"    absorbed over index_topk selected tokens, plus the indexer over all of them (V3.2)
    Raises ValueError for another form, a negative context, or a model that lacks the parts.
    """
    _check(config, context, form)
    heads = config.num_attention_heads
    up = 2 * config.kv_lora_rank * heads * (config.qk_nope_head_dim + config.v_head_dim)
    per_head_key = 2 * heads * (config.qk_head_dim + config.v_head_dim)
    per_latent = 2 * heads * (2 * config.kv_lora_rank + config.qk_rope_head_dim)
    if form == "expanded":
        return up + context * per_head_key
    if form == "rebuilt":
        return context * (up + per_head_key)
    if form == "absorbed":
        return up + context * per_latent
    return up + min(context, config.index_topk) * per_latent + _index_flops(config, context)


def attention_bytes(config, context, form, bytes_per_value=2):
    """Bytes read from the cache for one decoded token over `context` tokens in one layer. Forms as above.

    "rebuilt" and "absorbed" read the latent; what "rebuilt" writes and reads between its steps is not counted.
    """
    _check(config, context, form)
    if form == "expanded":
        return context * kv_elements(config, "expanded") * bytes_per_value
    latent = config.kv_lora_rank + config.qk_rope_head_dim
    if form == "sparse":
        keys = context * config.index_head_dim
        return (min(context, config.index_topk) * latent + keys) * bytes_per_value
    return context * latent * bytes_per_value


def _index_flops(config, context):
    """The indexer's two large matrix products for the new token, and its scores over all keys."""
    width = config.index_n_heads * config.index_head_dim
    d = config.hidden_size
    made = 2 * (config.q_lora_rank * width + d * config.index_head_dim + d * config.index_n_heads)
    return made + context * 2 * width


def _check(config, context, form):
    _require_mla(config)
    if form not in _MLA_FORMS:
        raise ValueError(f"form = {form!r}: expected one of {', '.join(_MLA_FORMS)}")
    if form == "sparse" and not config.has_indexer:
        raise ValueError("form = 'sparse' needs a model with an indexer (V3.2)")
    if context < 0:
        raise ValueError(f"context = {context!r}: expected 0 or more")


def _require_mla(config):
    if config.attention != "mla":
        raise ValueError(f"config.attention = {config.attention!r}: these forms exist only for MLA")
