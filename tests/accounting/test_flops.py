"""FLOPs and bytes of one decoded token: the published figures, and PyTorch's own count of the same products."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dsmini.accounting import attention_bytes, attention_flops, projection_flops
from dsmini.config import PRESETS, ModelConfig

V3, V32 = PRESETS["deepseek-v3"], PRESETS["deepseek-v3.2"]
K = 1024

# Every size is another number, so that no two terms can be mixed up unseen.
ODD = ModelConfig(hidden_size=37, num_hidden_layers=2, num_attention_heads=3, q_lora_rank=11, kv_lora_rank=13,
                  qk_nope_head_dim=5, qk_rope_head_dim=6, v_head_dim=7, index_n_heads=2, index_head_dim=17,
                  index_topk=8)  # fmt: skip


def test_projections_of_v3():
    assert projection_flops(V3) == pytest.approx(340.7e6, abs=0.05e6)


@pytest.mark.parametrize(
    ("context", "expanded", "rebuilt", "absorbed"),
    [
        (1 * K, 117e6, 34.4e9, 319e6),
        (4 * K, 369e6, 137.8e9, 1.17e9),
        (32 * K, 2.72e9, 1102e9, 9.16e9),
        (128 * K, 10.8e9, 4409e9, 36.5e9),
    ],
)
def test_decode_flops_of_v3(context, expanded, rebuilt, absorbed):
    for form, flops in (("expanded", expanded), ("rebuilt", rebuilt), ("absorbed", absorbed)):
        assert attention_flops(V3, context, form) == pytest.approx(flops, rel=5e-3), form


@pytest.mark.parametrize(
    ("context", "scores", "core", "ratio"),
    [
        (1 * K, 17e6, 319e6, 0.88),
        (4 * K, 67e6, 604e6, 1.68),
        (32 * K, 537e6, 604e6, 7.8),
        (128 * K, 2148e6, 604e6, 13.1),
    ],
)
def test_decode_flops_of_v32(context, scores, core, ratio):
    sparse, dense = attention_flops(V32, context, "sparse"), attention_flops(V32, context, "absorbed")
    assert sparse == pytest.approx(28e6 + scores + core, rel=2e-3)
    assert dense / sparse == pytest.approx(ratio, rel=5e-3)


@pytest.mark.parametrize(("form", "flops", "read"), [("expanded", 81_920, 81_920), ("absorbed", 278_528, 1152)])
def test_cost_of_one_more_key(form, flops, read):
    assert attention_flops(V3, 101, form) - attention_flops(V3, 100, form) == flops
    assert attention_bytes(V3, 101, form) - attention_bytes(V3, 100, form) == read


def test_absorption_costs_twice_16_million_multiplications_before_the_first_key():
    assert attention_flops(V3, 0, "absorbed") == 2 * 2 * 128 * 128 * 512


def counted(function, *shapes):
    """FLOPs of `function` on tensors of these shapes, as PyTorch counts them; nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        function(*(torch.empty(shape, device="meta") for shape in shapes))
    return counter.get_total_flops()


def matmuls(*pairs):
    return sum(counted(torch.matmul, a, b) for a, b in pairs)


@pytest.mark.parametrize("context", [1, 5, 8, 40])
def test_flops_are_those_of_the_matrix_products(context):
    c, S = ODD, context
    H, n, r, v, latent = c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim, c.kv_lora_rank
    scores_and_sum = ((H, 1, n + r), (H, n + r, S)), ((H, 1, S), (H, S, v))
    make_kv = (latent, H * (n + v))
    assert attention_flops(c, S, "expanded") == matmuls(((1, latent), make_kv), *scores_and_sum)
    assert attention_flops(c, S, "rebuilt") == matmuls(((S, latent), make_kv), *scores_and_sum)

    def absorbed(keys):
        around = ((H, 1, n), (H, n, latent)), ((H, 1, latent), (H, latent, v))
        return matmuls(*around, ((H, latent + r), (latent + r, keys)), ((H, keys), (keys, latent)))

    index = c.index_n_heads, c.index_head_dim
    make = ((1, 11), (11, 2 * 17)), ((1, 37), (37, 17)), ((1, 37), (37, 2))
    assert attention_flops(c, S, "absorbed") == absorbed(S)
    assert attention_flops(c, S, "sparse") == absorbed(min(S, 8)) + matmuls(*make, (index, (index[1], S)))


@pytest.mark.parametrize("q_rank", [None, 11])
def test_projection_flops_are_those_of_the_matrix_products(q_rank):
    c = ODD.replace(q_lora_rank=q_rank, index_n_heads=None, index_head_dim=None, index_topk=None)
    query = [((1, 37), (37, 33))] if q_rank is None else [((1, 37), (37, 11)), ((1, 11), (11, 33))]
    assert projection_flops(c) == matmuls(*query, ((1, 37), (37, 13 + 6)), ((1, 3 * 7), (3 * 7, 37)))


@pytest.mark.parametrize(
    ("form", "values_read"),
    [("expanded", 10 * 3 * (5 + 6 + 7)), ("rebuilt", 10 * 19), ("absorbed", 10 * 19), ("sparse", 8 * 19 + 10 * 17)],
)
def test_bytes_read_from_the_cache(form, values_read):
    assert attention_bytes(ODD, 10, form) == 2 * values_read
    assert attention_bytes(ODD, 10, form, bytes_per_value=4) == 4 * values_read


@pytest.mark.parametrize("function", [attention_flops, attention_bytes])
@pytest.mark.parametrize(
    ("config", "context", "form", "message"),
    [
        (V3, 1, "naive", "form = 'naive': expected one of expanded, rebuilt, absorbed, sparse"),
        (V3, 1, "sparse", "form = 'sparse' needs a model with an indexer"),
        (V3, -1, "absorbed", "context = -1: expected 0 or more"),
        (PRESETS["llama-3-70b"], 1, "absorbed", "config.attention = 'gqa': these forms exist only for MLA"),
    ],
)
def test_bad_arguments_are_named(function, config, context, form, message):
    with pytest.raises(ValueError, match=message):
        function(config, context, form)


def test_projections_exist_only_for_mla():
    with pytest.raises(ValueError, match="config.attention = 'mha'"):
        projection_flops(V3.with_attention("mha"))
