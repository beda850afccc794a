"""ModelConfig: the real models' numbers, what follows from them, and errors that name field, value and expectation."""

import dataclasses
import json

import pytest

import dsmini
from dsmini.config import PRESETS, ModelConfig, RopeScaling

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MLA = {"kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
MOE = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
INDEX = {"index_n_heads": 2, "index_head_dim": 8, "index_topk": 4}
YARN = {"factor": 40.0, "original_max_position_embeddings": 64}
HF = {"model_type": "deepseek_v3", **SMALL, **MLA, "vocab_size": 61, "intermediate_size": 40}

# The published configurations, typed here a second time on purpose.
REAL = {
    "deepseek-v2-lite": "vocab_size=102400 hidden_size=2048 num_hidden_layers=27 first_k_dense_replace=1 "
    "num_attention_heads=16 q_lora_rank=None intermediate_size=10944 moe_intermediate_size=1408 n_routed_experts=64 "
    "n_shared_experts=2 num_experts_per_tok=6 n_group=1 topk_group=1 routed_scaling_factor=1.0",
    "deepseek-v2": "vocab_size=102400 hidden_size=5120 num_hidden_layers=60 first_k_dense_replace=1 "
    "num_attention_heads=128 q_lora_rank=1536 intermediate_size=12288 moe_intermediate_size=1536 n_routed_experts=160 "
    "n_shared_experts=2 num_experts_per_tok=6 n_group=8 topk_group=3 routed_scaling_factor=16.0",
    "deepseek-v3": "vocab_size=129280 hidden_size=7168 num_hidden_layers=61 first_k_dense_replace=3 "
    "num_attention_heads=128 q_lora_rank=1536 intermediate_size=18432 moe_intermediate_size=2048 n_routed_experts=256 "
    "n_shared_experts=1 num_experts_per_tok=8 n_group=8 topk_group=4 routed_scaling_factor=2.5 "
    "num_nextn_predict_layers=1 index_n_heads=None",
}
REAL["deepseek-v3.2"] = REAL["deepseek-v3"].replace(
    "index_n_heads=None", "index_n_heads=64 index_head_dim=128 index_topk=2048"
)
OTHERS = {  # layers, width, heads, key/value heads, head width
    "llama-3.1-405b": (126, 16384, 128, 8, 128),
    "llama-3-70b": (80, 8192, 64, 8, 128),
    "qwen2.5-72b": (80, 8192, 64, 8, 128),
    "qwen3-235b-a22b": (94, 4096, 64, 4, 128),
    "deepseek-67b": (95, 8192, 64, 8, 128),
}


@pytest.mark.parametrize("name", REAL)
def test_deepseek_presets_are_the_published_configs(name):
    config = PRESETS[name]
    for field, value in (pair.split("=") for pair in REAL[name].split()):
        assert str(getattr(config, field)) == value, field
    assert (config.kv_lora_rank, config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim) == (
        512, 128, 64, 128,
    )  # fmt: skip
    v3 = "v3" in name
    assert (config.scoring_func, config.norm_topk_prob) == (("sigmoid", True) if v3 else ("softmax", False))
    mscale = 1.0 if v3 else 0.707
    assert config.rope_scaling == RopeScaling(40.0, 4096, 32.0, 1.0, mscale=mscale, mscale_all_dim=mscale)
    assert (config.rope_theta, config.max_position_embeddings, config.rms_norm_eps) == (10000.0, 163840, 1e-6)
    assert not config.tie_word_embeddings and not config.attention_bias


@pytest.mark.parametrize("name", OTHERS)
def test_other_presets_hold_what_their_cache_depends_on(name):
    c = PRESETS[name]
    found = (c.num_hidden_layers, c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim)
    assert found == OTHERS[name]
    assert c.attention == "gqa"


def test_minis_differ_in_attention_only():
    minis = [PRESETS[f"mini-{kind}"] for kind in ("mha", "gqa", "mqa", "mla")]
    assert [config.attention for config in minis] == ["mha", "gqa", "mqa", "mla"]
    for field in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        assert len({getattr(config, field) for config in minis}) == 1
    for config in minis:
        assert round(dsmini.accounting.count_parameters(config).total / 1e6, 1) in (0.6, 0.7)


@pytest.mark.parametrize(
    ("fields", "attention"),
    [({}, "mha"), ({"num_key_value_heads": 2}, "gqa"), ({"num_key_value_heads": 1}, "mqa"), (MLA, "mla")],
)
def test_attention_follows_from_the_fields(fields, attention):
    assert ModelConfig(**SMALL, **fields).attention == attention


def test_what_is_left_out_is_derived():
    assert ModelConfig(**SMALL).num_key_value_heads == 4
    assert ModelConfig(**SMALL).head_dim == ModelConfig(**SMALL).qk_head_dim == 8
    assert ModelConfig(**SMALL, head_dim=10).qk_head_dim == 10
    assert ModelConfig(**SMALL, **MLA).qk_head_dim == 12
    assert ModelConfig(**SMALL, **MLA).head_dim is None


def test_expert_layers_start_after_the_dense_ones():
    config = ModelConfig(**{**SMALL, "num_hidden_layers": 4}, **MOE, first_k_dense_replace=3)
    assert [config.is_moe_layer(layer) for layer in range(4)] == [False, False, False, True]
    assert not ModelConfig(**SMALL).is_moe_layer(1)


def test_experts_that_no_layer_has_may_be_anything():
    config = ModelConfig(**SMALL, n_routed_experts=8, n_group=3, first_k_dense_replace=2)
    assert not any(config.is_moe_layer(layer) for layer in range(2))


def test_configs_are_values():
    config = ModelConfig(**SMALL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hidden_size = 64
    assert config == ModelConfig(**SMALL) and hash(config) == hash(ModelConfig(**SMALL))
    assert config.replace(rope_theta=5.0).rope_theta == 5.0 and config.rope_theta == 10000.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size = 0: expected a positive number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1: expected a positive number"),
        ({"vocab_size": "61"}, "vocab_size = '61': expected a positive number"),
        ({"intermediate_size": True}, "intermediate_size = True: expected a positive number"),
        ({"rope_theta": 0.0}, "rope_theta = 0.0"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps = -1e-06"),
        ({"max_position_embeddings": 0}, "max_position_embeddings = 0"),
        ({"first_k_dense_replace": -1}, "first_k_dense_replace = -1: expected 0 or more"),
        ({"num_nextn_predict_layers": -2}, "num_nextn_predict_layers = -2: expected 0 or more"),
        ({"hidden_size": 33}, r"hidden_size = 33: expected a multiple of num_attention_heads \(4\)"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads = 3: expected a divisor of num_attention_heads \(4\)"),
        ({"head_dim": 7}, "head_dim = 7: expected an even number"),
        ({"v_head_dim": 8}, "v_head_dim = 8: expected None without kv_lora_rank"),
        ({"q_lora_rank": 8}, "q_lora_rank = 8: expected None without kv_lora_rank"),
        ({**MLA, "v_head_dim": None}, "v_head_dim = None: expected a number, since kv_lora_rank is set"),
        ({**MLA, "qk_nope_head_dim": -8}, "qk_nope_head_dim = -8: expected a positive number"),
        ({**MLA, "qk_rope_head_dim": 5}, "qk_rope_head_dim = 5: expected an even number"),
        ({**MLA, "num_key_value_heads": 2}, r"num_key_value_heads = 2: expected num_attention_heads \(4\)"),
        ({**MLA, "q_lora_rank": 8, "index_topk": 4}, r"index_topk = \[None, None, 4\]: expected all three or none"),
        ({**MLA, **INDEX}, "q_lora_rank = None: expected a number: the indexer reads the query latent"),
        ({**MLA, **INDEX, "q_lora_rank": 8, "index_head_dim": 3}, r"index_head_dim = 3: expected at least qk_rope_"),
        ({**MOE, "moe_intermediate_size": None}, "moe_intermediate_size = None: expected a number"),
        ({**MOE, "num_experts_per_tok": None}, "num_experts_per_tok = None: expected a number"),
        ({**MOE, "n_group": 3}, r"n_group = 3: expected a divisor of n_routed_experts \(8\)"),
        ({**MOE, "n_group": 4, "topk_group": 5}, r"topk_group = 5: expected between 1 and n_group \(4\)"),
        ({**MOE, "n_group": 8, "topk_group": 1}, "num_experts_per_tok = 2: expected at most the 1 experts"),
    ],
)
def test_config_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**SMALL, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": 0.5}, "rope_scaling.factor = 0.5: expected a number >= 1"),
        ({"original_max_position_embeddings": 0}, "rope_scaling.original_max_position_embeddings = 0"),
        ({"beta_fast": 1.0}, r"rope_scaling.beta_fast = 1.0: expected more than beta_slow \(1.0\)"),
        ({"beta_slow": -1.0}, "beta_slow more than 0"),
    ],
)
def test_yarn_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**SMALL, rope_scaling={**YARN, **changes})


def test_replace_checks_again():
    with pytest.raises(ValueError, match="num_key_value_heads = 3"):
        ModelConfig(**SMALL).replace(num_key_value_heads=3)


def test_with_attention_keeps_the_content_width_of_the_heads():
    v32 = PRESETS["deepseek-v3.2"]
    mha, gqa, mqa = v32.with_attention("mha"), v32.with_attention("gqa", 8), v32.with_attention("mqa")
    assert [c.num_key_value_heads for c in (mha, gqa, mqa)] == [128, 8, 1]
    for config in (mha, gqa, mqa):
        assert config.head_dim == 128 and config.kv_lora_rank is None and not config.has_indexer
        assert config.rope_scaling is None and config.num_hidden_layers == 61
    assert v32.with_attention("mla") is v32


def test_with_attention_changes_only_the_groups_of_a_baseline():
    llama = PRESETS["llama-3-70b"]
    assert llama.with_attention("mqa") == llama.replace(num_key_value_heads=1, model_type=None)


@pytest.mark.parametrize(
    ("kind", "groups", "message"),
    [
        ("mla", None, "kind = 'mla': expected an attention that this config has the sizes for"),
        ("MHA", None, "kind = 'MHA': expected one of mha, gqa, mqa, mla"),
        ("gqa", None, "num_key_value_heads = None: expected the number of groups"),
        ("gqa", 3, "num_key_value_heads = 3: expected a divisor"),
    ],
)
def test_with_attention_refuses_what_it_cannot_make(kind, groups, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**SMALL).with_attention(kind, groups)


def test_from_hf_reads_file_folder_and_dict(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(HF))
    config = ModelConfig.from_hf(HF)
    assert config == ModelConfig(**HF)
    assert ModelConfig.from_hf(tmp_path) == ModelConfig.from_hf(str(tmp_path / "config.json")) == config


def test_from_hf_reads_both_spellings_of_the_position_settings():
    hub = {**HF, "rope_theta": 500.0, "rope_scaling": {"type": "yarn", **YARN, "mscale": 0.7}}
    new = {**HF, "rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, **YARN, "mscale": 0.7}}
    config = ModelConfig.from_hf(hub)
    assert config == ModelConfig.from_hf(new)
    assert config.rope_theta == 500.0
    assert config.rope_scaling == RopeScaling(40.0, 64, mscale=0.7, mscale_all_dim=None)


def test_from_hf_reads_no_yarn_from_default_or_missing_settings():
    for settings in ({}, {"rope_scaling": None}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}):
        assert ModelConfig.from_hf({**HF, **settings}).rope_scaling is None


def test_yarn_without_original_context_takes_the_models():
    scaling = {"type": "yarn", "factor": 2.0}
    config = ModelConfig.from_hf({**HF, "max_position_embeddings": 77, "rope_scaling": scaling})
    assert config.rope_scaling.original_max_position_embeddings == 77


def test_from_hf_reads_layer_types_as_dense_layers_first():
    types = {"mlp_layer_types": ["dense", "sparse"], "first_k_dense_replace": 0}
    assert ModelConfig.from_hf({**HF, **MOE, **types}).first_k_dense_replace == 1
    assert ModelConfig.from_hf({**HF, **MOE, "mlp_layer_types": ["dense", "dense"]}).first_k_dense_replace == 2


def test_from_hf_knows_how_v2_routes():
    v2 = ModelConfig.from_hf({**HF, "model_type": "deepseek_v2"})
    assert (v2.scoring_func, v2.topk_method, v2.norm_topk_prob) == ("softmax", "greedy", False)
    v3 = ModelConfig.from_hf(HF)
    assert (v3.scoring_func, v3.topk_method, v3.norm_topk_prob) == ("sigmoid", "noaux_tc", True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type = 'llama': expected one of deepseek_v2, deepseek_v3, deepseek_v32"),
        ({"model_type": None}, "model_type = None"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu': expected 'silu'"),
        ({"moe_layer_freq": 2}, "moe_layer_freq = 2: expected 1"),
        ({"mlp_bias": True}, "mlp_bias = True: expected False"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type = 'linear': expected 'yarn'"),
        ({"mlp_layer_types": ["sparse", "dense"]}, "mlp_layer_types = .*: expected dense layers first"),
    ],
)
def test_from_hf_refuses_what_this_book_cannot_build(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_hf({**HF, **changes})


def test_from_hf_says_which_file_is_missing_or_broken(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        ModelConfig.from_hf(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        ModelConfig.from_hf(tmp_path)


@pytest.mark.parametrize("name", REAL)
def test_to_hf_writes_json_that_from_hf_reads_back(name):
    written = PRESETS[name].to_hf()
    assert ModelConfig.from_hf(json.loads(json.dumps(written))) == PRESETS[name]
    model = {"deepseek-v2-lite": "V2", "deepseek-v2": "V2", "deepseek-v3": "V3", "deepseek-v3.2": "V32"}[name]
    assert written["architectures"] == [f"Deepseek{model}ForCausalLM"]


def test_to_hf_names_the_type_that_the_fields_imply():
    assert ModelConfig(**SMALL, **MLA).to_hf()["model_type"] == "deepseek_v3"
    assert ModelConfig(**SMALL, **MLA, q_lora_rank=8, **INDEX).to_hf()["model_type"] == "deepseek_v32"


def test_to_hf_says_that_queries_are_not_compressed_and_layers_are_dense():
    written = ModelConfig(**SMALL, **MLA).to_hf()
    assert written["q_lora_rank"] is None
    assert written["first_k_dense_replace"] == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(**SMALL), "attention = 'mha': expected 'mla'"),
        (ModelConfig(**SMALL, **MLA, model_type="llama"), "model_type = 'llama': expected one of deepseek_v2"),
        (
            ModelConfig(**SMALL, **MLA, q_lora_rank=8, **INDEX, model_type="deepseek_v3"),
            "model_type = 'deepseek_v3': expected 'deepseek_v32'",
        ),
        (ModelConfig(**SMALL, **MLA, model_type="deepseek_v32"), "'deepseek_v32': expected a type without an indexer"),
        (
            ModelConfig(**SMALL, **MLA, q_lora_rank=8, **INDEX, rope_interleave=False),
            "rope_interleave = False: expected True: deepseek_v32 has no other layout",
        ),
        (ModelConfig(**SMALL, **MLA, model_type="deepseek_v2", rope_interleave=False), "deepseek_v2 has no other"),
    ],
)
def test_to_hf_refuses_what_those_model_types_do_not_have(config, message):
    with pytest.raises(ValueError, match=message):
        config.to_hf()
