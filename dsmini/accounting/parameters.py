"""Parameters of a model, total and active, counted from its config to the unit.

Counting rule: `total` is every weight of the main model, with both embedding matrices (one if they are tied) and
the router's bias (a buffer in transformers, so `sum(p.numel())` there is short by one value per expert). `active` is
what one token multiplies or reads: the same with num_experts_per_tok routed experts instead of all of them. The
multi-token-prediction block is counted apart, as the reports do.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """The result of `count_parameters`.

    total, active: see the module's counting rule (`rule`). components: name -> parameters, adding up to total.
    input_embedding: the part of `active` that a token only looks up (some reports leave it out).
    mtp: unique weights of the multi-token-prediction blocks, which `total` does not hold.
    mtp_shared: copies of embedding and head that checkpoints store with them.
    """

    total: int
    active: int
    components: dict
    input_embedding: int
    mtp: int
    mtp_shared: int
    rule: str = "embeddings, head and router bias counted; MTP apart; active = all but the unchosen routed experts"

    @property
    def active_without_input_embedding(self):
        """Active parameters less the input embedding: the convention of V2-Lite's 2.4B."""
        return self.active - self.input_embedding

    @property
    def stored(self):
        """Main model, MTP and the copies that a checkpoint stores (V3: the hub's 685B)."""
        return self.total + self.mtp + self.mtp_shared


def count_parameters(config):
    """Count a model's parameters. Returns a `ParameterCount`.

    Raises ValueError if the config lacks vocab_size or intermediate_size (models kept only for their cache).
    """
    for name in ("vocab_size", "intermediate_size"):
        if getattr(config, name) is None:
            raise ValueError(f"{name} is None: this config describes only the cache, its parameters cannot be counted")
    layers, d = config.num_hidden_layers, config.hidden_size
    moe_layers = sum(config.is_moe_layer(layer) for layer in range(layers))
    embedding = config.vocab_size * d
    head = 0 if config.tie_word_embeddings else embedding
    expert = _expert(config)
    components = {
        "embedding": embedding,
        "attention": layers * _attention(config),
        "indexer": layers * _indexer(config),
        "dense feed-forward": (layers - moe_layers) * 3 * d * config.intermediate_size,
        "routed experts": moe_layers * (config.n_routed_experts or 0) * expert,
        "shared experts": moe_layers * (config.n_shared_experts or 0) * expert,
        "router": moe_layers * _router(config),
        "norms": layers * 2 * d + d,
        "head": head,
    }
    total = sum(components.values())
    idle = moe_layers * ((config.n_routed_experts or 0) - (config.num_experts_per_tok or 0)) * expert
    mtp = config.num_nextn_predict_layers
    return ParameterCount(
        total=total,
        active=total - idle,
        components={name: count for name, count in components.items() if count},
        input_embedding=0 if config.tie_word_embeddings else embedding,
        mtp=mtp * _mtp_block(config),
        mtp_shared=mtp * 2 * embedding,
    )


def _attention(config):
    d, heads = config.hidden_size, config.num_attention_heads
    bias = config.attention_bias
    if config.attention != "mla":
        q, kv = heads * config.head_dim, config.num_key_value_heads * config.head_dim
        return d * (q + 2 * kv) + q * d + bias * (q + 2 * kv + d)
    q_rank, kv_rank = config.q_lora_rank, config.kv_lora_rank
    q_width = heads * config.qk_head_dim
    query = d * q_width if q_rank is None else d * q_rank + q_rank + q_rank * q_width + bias * q_rank
    latent = kv_rank + config.qk_rope_head_dim
    expand = kv_rank * heads * (config.qk_nope_head_dim + config.v_head_dim)
    return query + d * latent + kv_rank + expand + heads * config.v_head_dim * d + bias * (latent + d)


def _indexer(config):
    if not config.has_indexer:
        return 0
    heads, width, d = config.index_n_heads, config.index_head_dim, config.hidden_size
    layer_norm = 2 * width
    return config.q_lora_rank * heads * width + d * width + layer_norm + d * heads


def _expert(config):
    return 3 * config.hidden_size * (config.moe_intermediate_size or 0)


def _router(config):
    experts = config.n_routed_experts or 0
    bias = experts if config.topk_method == "noaux_tc" else 0
    return experts * config.hidden_size + bias


def _mtp_block(config):
    """One MTP block: a whole layer, the projection of [embedding; hidden], and three norms (report, section 2.2)."""
    d = config.hidden_size
    experts = (config.n_routed_experts or 0) + (config.n_shared_experts or 0)
    dense = 0 if experts else 3 * d * config.intermediate_size
    layer = _attention(config) + _indexer(config) + dense + experts * _expert(config) + _router(config) + 2 * d
    return layer + 2 * d * d + 3 * d
