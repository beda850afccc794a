"""Parameter counts: equal to the published models to the unit, and to the models that this book really builds.

`tests/parity` compares them with other people's models.
"""

import pytest
import torch
from tiny import CONFIGS, MLA, SHAPE

from dsmini.accounting import count_parameters
from dsmini.config import PRESETS, ModelConfig
from dsmini.model.transformer import Transformer

# total, active, active without the input embedding
EXACT = {
    "deepseek-v2-lite": (15_706_484_224, 2_661_150_208, 2_451_435_008),
    "deepseek-v2": (235_741_434_880, 21_375_800_320, 20_851_512_320),
    "deepseek-v3": (671_026_419_200, 37_552_297_472, 36_625_618_432),
    "deepseek-v3.2": (671_877_944_064, 38_403_822_336, 37_477_143_296),
}


@pytest.mark.parametrize("name", EXACT)
def test_totals_are_exact(name):
    count = count_parameters(PRESETS[name])
    assert (count.total, count.active, count.active_without_input_embedding) == EXACT[name]


@pytest.mark.parametrize("name", EXACT)
def test_components_add_up_to_the_total(name):
    count = count_parameters(PRESETS[name])
    assert sum(count.components.values()) == count.total
    assert all(count.components.values()), "a component that the model lacks is not listed"


@pytest.mark.parametrize(
    ("name", "attention", "dense"),
    [
        ("deepseek-v2-lite", 13_763_072, 67_239_936),
        ("deepseek-v2", 149_227_520, 188_743_680),
        ("deepseek-v3", 187_107_328, 396_361_728),
        ("deepseek-v3.2", 187_107_328, 396_361_728),
    ],
)
def test_parts_of_a_layer_are_exact(name, attention, dense):
    config, parts = PRESETS[name], count_parameters(PRESETS[name]).components
    assert parts["attention"] == config.num_hidden_layers * attention
    assert parts["dense feed-forward"] == config.first_k_dense_replace * dense


def test_parts_of_v3_are_exact():
    parts = count_parameters(PRESETS["deepseek-v3"]).components
    assert parts["embedding"] == parts["head"] == 926_679_040
    assert parts["routed experts"] == 653_908_770_816 == 58 * 256 * 44_040_192
    assert parts["shared experts"] == 2_554_331_136
    assert parts["router"] == 106_430_464 + 58 * 256, "the bias of every expert is counted"
    assert parts["norms"] + parts["attention"] == 11_413_547_008 + 881_664
    assert "indexer" not in parts


def test_indexer_of_v32_is_exact():
    assert count_parameters(PRESETS["deepseek-v3.2"]).components["indexer"] == 851_524_864 == 61 * 13_959_424


@pytest.mark.parametrize(
    ("name", "mtp", "stored"),
    [
        ("deepseek-v2", 0, 235_741_434_880),
        ("deepseek-v3", 11_610_068_224, 684_489_845_504),
        ("deepseek-v3.2", 11_624_027_648, 685_355_329_792),
    ],
)
def test_prediction_block_is_counted_apart(name, mtp, stored):
    count = count_parameters(PRESETS[name])
    assert (count.mtp, count.stored) == (mtp, stored)


def test_prediction_block_of_a_dense_model_has_a_dense_layer():
    count = count_parameters(ModelConfig(**SHAPE, num_nextn_predict_layers=2))
    d, layer = 32, 4 * 32 * 32 + 3 * 32 * 40 + 2 * 32
    assert count.mtp == 2 * (layer + 2 * d * d + 3 * d)
    assert count.mtp_shared == 2 * 2 * 61 * d


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", [name for name in CONFIGS if "experts" not in name])
def test_count_of_a_dense_model_is_all_active(name, tied):
    config = CONFIGS[name].replace(tie_word_embeddings=tied)
    count = count_parameters(config)
    assert count.total == count.active == sum(p.numel() for p in Transformer(config).parameters())
    assert count.input_embedding == (0 if tied else 61 * 32)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "sizes", [{}, {"num_key_value_heads": 2, "head_dim": 14}, MLA, {**MLA, "q_lora_rank": 9, "v_head_dim": 2}]
)
def test_count_follows_every_size(sizes, bias):
    shape = {**SHAPE, "hidden_size": 40, "num_hidden_layers": 3, "vocab_size": 17, "intermediate_size": 29}
    config = ModelConfig(**shape, **sizes, attention_bias=bias)
    with torch.device("meta"):
        model = Transformer(config)
    assert count_parameters(config).total == sum(p.numel() for p in model.parameters())


def test_one_token_uses_only_its_experts():
    config = PRESETS["deepseek-v3"]
    count, all_used = count_parameters(config), count_parameters(config.replace(num_experts_per_tok=128, topk_group=8))
    assert all_used.active - count.active == 58 * (128 - 8) * 44_040_192
    assert all_used.total == count.total


@pytest.mark.parametrize("field", ["vocab_size", "intermediate_size"])
def test_config_of_a_cache_alone_cannot_be_counted(field):
    with pytest.raises(ValueError, match=f"{field} is None"):
        count_parameters(CONFIGS["mla"].replace(**{field: None}))


def test_the_counting_rule_is_named():
    rule = count_parameters(PRESETS["deepseek-v3"]).rule
    assert "router bias counted" in rule and "MTP apart" in rule
