"""ModelConfig: what a model is, by the field names of Hugging Face's config.json.

One dataclass describes DeepSeek-V2-Lite to V3.2, the baselines of chapter 1 and the minis of this book. Which
attention a model has is not a field: it follows from the numbers, as in the checkpoints. `PRESETS` reads the
real models from `facts.toml`, where each value has its source.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import dsmini

# config.json keys of the supported model types that change nothing in this book's models
_MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "deepseek_v32")
_ATTENTIONS = ("mha", "gqa", "mqa", "mla")
_SCORING = ("sigmoid", "softmax")
_TOPK_METHODS = ("noaux_tc", "greedy", "group_limited_greedy")


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """YaRN's settings, as config.json's `rope_scaling` has them (Peng et al. 2023; DeepSeek-V3 report, section 4.3).

    factor: how many times longer than `original_max_position_embeddings` the context becomes.
    beta_fast, beta_slow: rotations over the original context above / below which a frequency is kept / divided.
    mscale, mscale_all_dim: see `dsmini.model.layers.yarn_factors`. None means "not in the file", which is not the
    same as 1.0.
    attention_factor: multiplies cos and sin; None derives it from factor, mscale and mscale_all_dim.
    truncate: whether the ramp's ends are rounded outwards to whole dimensions.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self):
        _check(self.factor >= 1, "rope_scaling.factor", self.factor, "a number >= 1")
        _positive(self, "original_max_position_embeddings", prefix="rope_scaling.")
        _check(
            self.beta_fast > self.beta_slow > 0,
            "rope_scaling.beta_fast",
            self.beta_fast,
            f"more than beta_slow ({self.beta_slow}), and beta_slow more than 0",
        )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A decoder-only model by Hugging Face's config.json field names.

    `attention` follows from the fields: "mla" where `kv_lora_rank` is set; else "mha" / "mqa" / "gqa" for as many
    key/value heads as heads / one / in between. Fields that are None are absent from the model (no query
    compression, no experts, no indexer). `vocab_size` and `intermediate_size` may be None for a model that is only
    compared by its cache.

    Raises ValueError, naming the field, its value and what was expected, where a config contradicts itself.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int | None = None
    intermediate_size: int | None = None
    # attention: the baselines
    num_key_value_heads: int | None = None  # None: as many as heads
    head_dim: int | None = None  # None: hidden_size / heads
    attention_bias: bool = False
    # attention: MLA
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    # attention: the lightning indexer of V3.2
    index_n_heads: int | None = None
    index_head_dim: int | None = None
    index_topk: int | None = None
    # positions
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rope_interleave: bool = True
    max_position_embeddings: int = 4096
    # mixture of experts
    first_k_dense_replace: int = 0
    moe_intermediate_size: int | None = None
    n_routed_experts: int | None = None
    n_shared_experts: int | None = None
    num_experts_per_tok: int | None = None
    n_group: int = 1
    topk_group: int = 1
    topk_method: str = "noaux_tc"
    scoring_func: str = "sigmoid"
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    # the rest
    num_nextn_predict_layers: int = 0
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    model_type: str | None = None

    def __post_init__(self):
        if isinstance(self.rope_scaling, Mapping):
            object.__setattr__(self, "rope_scaling", _rope_scaling(self.rope_scaling))
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        if self.kv_lora_rank is None and self.head_dim is None:
            _check(
                self.hidden_size % self.num_attention_heads == 0,
                "hidden_size",
                self.hidden_size,
                f"a multiple of num_attention_heads ({self.num_attention_heads}) when head_dim is not given",
            )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        self._check_sizes()
        self._check_attention()
        self._check_experts()

    def _check_sizes(self):
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                     "max_position_embeddings", "rope_theta", "rms_norm_eps", "vocab_size", "intermediate_size",
                     "head_dim", "q_lora_rank", "kv_lora_rank", "moe_intermediate_size", "n_routed_experts",
                     "num_experts_per_tok", "index_n_heads", "index_head_dim", "index_topk"):  # fmt: skip
            _positive(self, name)
        for name in ("first_k_dense_replace", "num_nextn_predict_layers"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")

    def _check_attention(self):
        if self.kv_lora_rank is None:
            heads, groups = self.num_attention_heads, self.num_key_value_heads
            _check(heads % groups == 0, "num_key_value_heads", groups, f"a divisor of num_attention_heads ({heads})")
            _check(self.head_dim % 2 == 0, "head_dim", self.head_dim, "an even number (RoPE turns pairs)")
            for name in ("q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
                _check(getattr(self, name) is None, name, getattr(self, name), "None without kv_lora_rank (no MLA)")
        else:
            for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
                _check(getattr(self, name) is not None, name, None, "a number, since kv_lora_rank is set (MLA)")
                _positive(self, name)
            _check(self.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim", self.qk_rope_head_dim, "an even number")
            _check(
                self.num_key_value_heads == self.num_attention_heads,
                "num_key_value_heads",
                self.num_key_value_heads,
                f"num_attention_heads ({self.num_attention_heads}): each MLA head has keys of its own",
            )
        index = [self.index_n_heads, self.index_head_dim, self.index_topk]
        if any(field is not None for field in index):
            _check(None not in index, "index_n_heads, index_head_dim, index_topk", index, "all three or none")
            _check(self.q_lora_rank is not None, "q_lora_rank", None, "a number: the indexer reads the query latent")
            _check(
                self.index_head_dim >= self.qk_rope_head_dim,
                "index_head_dim",
                self.index_head_dim,
                f"at least qk_rope_head_dim ({self.qk_rope_head_dim}), which the indexer's heads turn too",
            )

    def _check_experts(self):
        if self.n_routed_experts is None or self.first_k_dense_replace >= self.num_hidden_layers:
            return  # no layer has experts, whatever other libraries fill in
        for name in ("moe_intermediate_size", "num_experts_per_tok"):
            _check(getattr(self, name) is not None, name, None, "a number, since n_routed_experts is set")
        for name, known in (("scoring_func", _SCORING), ("topk_method", _TOPK_METHODS)):
            _check(getattr(self, name) in known, name, getattr(self, name), f"one of {', '.join(known)}")
        experts, groups = self.n_routed_experts, self.n_group
        _check(groups >= 1 and experts % groups == 0, "n_group", groups, f"a divisor of n_routed_experts ({experts})")
        _check(1 <= self.topk_group <= groups, "topk_group", self.topk_group, f"between 1 and n_group ({groups})")
        reachable = experts // groups * self.topk_group
        _check(
            self.num_experts_per_tok <= reachable,
            "num_experts_per_tok",
            self.num_experts_per_tok,
            f"at most the {reachable} experts of the {self.topk_group} chosen groups",
        )

    @property
    def attention(self):
        """Which attention this is: "mha", "gqa", "mqa" or "mla"."""
        if self.kv_lora_rank is not None:
            return "mla"
        if self.num_key_value_heads == self.num_attention_heads:
            return "mha"
        return "mqa" if self.num_key_value_heads == 1 else "gqa"

    @property
    def qk_head_dim(self):
        """Dimensions of one head's query (and key): d_n + d_r for MLA, d_h otherwise."""
        return self.head_dim if self.kv_lora_rank is None else self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def has_indexer(self):
        """Whether the model has V3.2's lightning indexer."""
        return self.index_head_dim is not None

    def is_moe_layer(self, layer):
        """Whether layer number `layer` (from 0) has experts in place of a dense feed-forward."""
        return self.n_routed_experts is not None and layer >= self.first_k_dense_replace

    def replace(self, **changes):
        """A copy with some fields changed; checked like a new config."""
        return dataclasses.replace(self, **changes)

    def with_attention(self, kind, num_key_value_heads=None):
        """The same model with a textbook attention in place of its own, for comparing caches.

        kind: "mha", "gqa" (needs num_key_value_heads), "mqa", or "mla" (this config itself, which must be MLA).
        An MLA model's heads keep their content width: head_dim = qk_nope_head_dim (128 in V3), and the indexer goes.
        Raises ValueError for another kind, or for "mla" on a model that has none.
        """
        _check(kind in _ATTENTIONS, "kind", kind, f"one of {', '.join(_ATTENTIONS)}")
        if kind == "mla":
            _check(self.attention == "mla", "kind", kind, "an attention that this config has the sizes for")
            return self
        if kind == "gqa":
            _check(num_key_value_heads is not None, "num_key_value_heads", None, "the number of groups, for gqa")
        groups = {"mha": self.num_attention_heads, "gqa": num_key_value_heads, "mqa": 1}[kind]
        mla_fields = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
                      "index_n_heads", "index_head_dim", "index_topk", "rope_scaling")  # fmt: skip
        gone = dict.fromkeys(mla_fields) if self.attention == "mla" else {}
        head_dim = self.qk_nope_head_dim if self.attention == "mla" else self.head_dim
        return self.replace(num_key_value_heads=groups, head_dim=head_dim, model_type=None, **gone)

    @classmethod
    def from_hf(cls, source):
        """Read a config.json of type deepseek_v2, deepseek_v3 or deepseek_v32.

        source: the file, the folder that holds it, or the parsed dict. Both spellings of the position settings are
        read: `rope_theta` + `rope_scaling` (the hub's files) and `rope_parameters` (transformers 5).
        Raises FileNotFoundError, or ValueError naming the key that this book's models cannot honour.
        """
        raw = dict(source) if isinstance(source, Mapping) else read_json(source)
        model_type = raw.get("model_type")
        _check(model_type in _MODEL_TYPES, "model_type", model_type, f"one of {', '.join(_MODEL_TYPES)}")
        _check(raw.get("hidden_act", "silu") == "silu", "hidden_act", raw.get("hidden_act"), "'silu'")
        _check(raw.get("moe_layer_freq", 1) == 1, "moe_layer_freq", raw.get("moe_layer_freq"), "1")
        _check(not raw.get("mlp_bias"), "mlp_bias", raw.get("mlp_bias"), "False")
        raw.update(_read_rope(raw))
        raw.update(_read_layer_types(raw))
        raw.setdefault("num_nextn_predict_layers", raw.get("num_mtp_layers") or 0)
        if model_type == "deepseek_v2":
            raw = {"scoring_func": "softmax", "topk_method": "greedy", "norm_topk_prob": False, **raw}
        known = {field.name for field in dataclasses.fields(cls)}
        raw.pop("head_dim", None)  # transformers derives it; MLA has no single head width
        return cls(**{key: value for key, value in raw.items() if key in known and value is not None})

    def to_hf(self):
        """This config as the dict of a Hugging Face config.json (model type deepseek_v2, _v3 or _v32).

        Raises ValueError for a baseline attention, which those model types do not have, and for a model_type that is
        none of them or that contradicts the indexer.
        """
        _check(self.attention == "mla", "attention", self.attention, "'mla': DeepSeek's model types have no other")
        model_type = self.model_type or ("deepseek_v32" if self.has_indexer else "deepseek_v3")
        _check(model_type in _MODEL_TYPES, "model_type", model_type, f"one of {', '.join(_MODEL_TYPES)}")
        fits = "'deepseek_v32': this config has an indexer" if self.has_indexer else "a type without an indexer"
        _check((model_type == "deepseek_v32") == self.has_indexer, "model_type", model_type, fits)
        one_layout = f"True: {model_type} has no other layout"
        _check(self.rope_interleave or model_type == "deepseek_v3", "rope_interleave", False, one_layout)
        out = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        out["model_type"] = model_type
        name = {"deepseek_v2": "V2", "deepseek_v3": "V3", "deepseek_v32": "V32"}[model_type]
        out["architectures"] = [f"Deepseek{name}ForCausalLM"]
        out["hidden_act"] = "silu"
        out["q_lora_rank"] = self.q_lora_rank  # null is a value here: "no query compression"
        out["rope_parameters"] = {"rope_type": "default", "rope_theta": self.rope_theta}
        if self.rope_scaling is not None:
            scaling = {k: v for k, v in dataclasses.asdict(self.rope_scaling).items() if v is not None}
            out["rope_scaling"] = {"type": "yarn", **scaling}
            out["rope_parameters"].update(rope_type="yarn", **scaling)
        if self.n_routed_experts is None:
            out["first_k_dense_replace"] = self.num_hidden_layers
        if model_type == "deepseek_v32":
            out["mlp_layer_types"] = [
                "sparse" if self.is_moe_layer(layer) else "dense" for layer in range(self.num_hidden_layers)
            ]
        return out


def _check(holds, name, value, expected):
    if not holds:
        raise ValueError(f"{name} = {value!r}: expected {expected}")


def _positive(config, name, prefix=""):
    value = getattr(config, name)
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    _check(number and value > 0, prefix + name, value, "a positive number")


def read_json(source):
    """A config.json as a dict. source: the file, or the folder that holds it. Raises as `ModelConfig.from_hf`."""
    path = Path(source)
    path = path / "config.json" if path.is_dir() else path
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _read_rope(raw):
    """`rope_theta`, `rope_scaling` from either spelling."""
    settings = {**(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}
    kind = settings.get("rope_type", settings.get("type", "default"))
    _check(kind in ("default", "yarn"), "rope_scaling.type", kind, "'yarn' or 'default'")
    theta = settings.get("rope_theta", raw.get("rope_theta", 10000.0))
    if kind == "default":
        return {"rope_theta": theta, "rope_scaling": None}
    settings.setdefault("original_max_position_embeddings", raw.get("max_position_embeddings", 4096))
    return {"rope_theta": theta, "rope_scaling": _rope_scaling(settings)}


def _rope_scaling(settings):
    known = {field.name for field in dataclasses.fields(RopeScaling)}
    return RopeScaling(**{key: value for key, value in settings.items() if key in known and value is not None})


def _read_layer_types(raw):
    """transformers 5 writes `mlp_layer_types` where the hub's files write `first_k_dense_replace`."""
    types = raw.get("mlp_layer_types")
    if not types:
        return {}
    dense = types.index("sparse") if "sparse" in types else len(types)
    in_order = ["dense"] * dense + ["sparse"] * (len(types) - dense)
    _check(list(types) == in_order, "mlp_layer_types", types, "dense layers first, then sparse ones")
    return {"first_k_dense_replace": dense}


def _minis():
    """The book's own small decoders: one shape (0.6 to 0.7 million parameters) with four attentions; V3; its pupil."""
    shape = {"vocab_size": 256, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 8,
             "intermediate_size": 384, "max_position_embeddings": 1024, "initializer_range": 0.06}  # fmt: skip
    mla = {"kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
    baseline = {"head_dim": 16, "rope_interleave": False}
    return {
        "mini-mha": ModelConfig(**shape, **baseline, num_key_value_heads=8),
        "mini-gqa": ModelConfig(**shape, **baseline, num_key_value_heads=2),
        "mini-mqa": ModelConfig(**shape, **baseline, num_key_value_heads=1),
        "mini-mla": ModelConfig(**shape, **mla),
        "mini-v3": ModelConfig(
            vocab_size=128, hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256,
            max_position_embeddings=1024, initializer_range=0.06, q_lora_rank=48, kv_lora_rank=32, qk_nope_head_dim=16,
            qk_rope_head_dim=16, v_head_dim=16, first_k_dense_replace=1, moe_intermediate_size=48, n_routed_experts=8,
            n_shared_experts=1, num_experts_per_tok=2, n_group=4, topk_group=2, num_nextn_predict_layers=1,
            bos_token_id=0, eos_token_id=1,
        ),  # fmt: skip
        "mini-dense": ModelConfig(
            vocab_size=128, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=192,
            max_position_embeddings=1024, initializer_range=0.06, q_lora_rank=48, kv_lora_rank=32, qk_nope_head_dim=16,
            qk_rope_head_dim=16, v_head_dim=16, bos_token_id=0, eos_token_id=1,
        ),  # fmt: skip
    }


def _real_models():
    return {name: ModelConfig(**row["config"]) for name, row in dsmini.facts()["presets"].items()}


PRESETS = {**_real_models(), **_minis()}
