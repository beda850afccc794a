"""The whole decoder: a cache never changes what it says, the future never moves the past, bad input is named."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CONFIGS, SHAPE, YARN, difference, make_model, make_tokens
from torch.nn import functional as F

from dsmini.accounting import count_parameters, kv_cache_bytes
from dsmini.config import PRESETS, ModelConfig
from dsmini.model.moe import MixtureOfExperts
from dsmini.model.mtp import multi_token_losses
from dsmini.model.transformer import Transformer
from dsmini.probes import gradient_census, leak_probe


@torch.no_grad()
def in_chunks(model, tokens, ends, max_tokens=None):
    """Logits of `tokens` when the cache gets them chunk by chunk, each up to the next of `ends`."""
    cache = model.new_cache(tokens.shape[0], max_tokens or tokens.shape[1])
    starts = [0, *ends[:-1]]
    return torch.cat([model(tokens[:, start:end], cache) for start, end in zip(starts, ends, strict=True)], dim=1)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "ends",
    [(*range(1, 13),), (7, *range(8, 13)), (1, 12), (5, 8, 12), (12,)],
    ids=["one by one", "prefill and decode", "one, then the rest", "chunks", "at once"],
)
def test_cached_equals_uncached(name, ends):
    model = make_model(CONFIGS[name])
    tokens = make_tokens(model.config, 3, 12)
    assert difference(in_chunks(model, tokens, ends, max_tokens=20), model(tokens)) < 1e-12


@torch.no_grad()
def assert_ragged_equals_uncached(model, steps):
    """Feed right-padded steps, each a list of how many tokens every row gets, and compare every real logit."""
    totals = torch.tensor(steps).sum(0)
    tokens = make_tokens(model.config, len(totals), int(totals.max()))
    whole = model(tokens)
    cache, done = model.new_cache(len(totals), int(totals.max())), torch.zeros_like(totals)
    for new in steps:
        padded = torch.zeros(len(new), max(new), dtype=torch.int64)  # token 0 pads: it must not matter
        for row, count in enumerate(new):
            padded[row, :count] = tokens[row, done[row] : done[row] + count]
        logits = model(padded, cache, lengths=torch.tensor(new))
        for row, count in enumerate(new):
            if count:
                expected = whole[row, done[row] : done[row] + count]
                assert difference(logits[row, :count], expected) < 1e-12, (row, new)
        done += torch.tensor(new)
    assert torch.equal(cache.lengths, done)


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_of_different_lengths_continue_where_they_ended(name):
    steps = [[5, 9, 2], [1, 1, 1], [1, 1, 1], [3, 0, 4], [1, 1, 1]]
    assert_ragged_equals_uncached(make_model(CONFIGS[name]), steps)


@st.composite
def configs(draw):
    """A small model of any attention, of sizes that need not be equal."""
    heads = draw(st.integers(1, 4))
    shape = {**SHAPE, "hidden_size": 2 * heads * draw(st.integers(1, 4)), "num_attention_heads": heads,
             "num_hidden_layers": draw(st.integers(1, 2)), "attention_bias": draw(st.booleans()),
             "rope_interleave": draw(st.booleans()), "rope_scaling": draw(st.sampled_from([None, YARN]))}  # fmt: skip
    if draw(st.booleans()):
        groups = draw(st.sampled_from([g for g in range(1, heads + 1) if heads % g == 0]))
        return ModelConfig(**shape, num_key_value_heads=groups, head_dim=2 * draw(st.integers(1, 4)))
    mla = {"kv_lora_rank": draw(st.integers(1, 12)), "qk_nope_head_dim": draw(st.integers(1, 8)),
           "qk_rope_head_dim": 2 * draw(st.integers(1, 3)), "v_head_dim": draw(st.integers(1, 9))}  # fmt: skip
    if draw(st.booleans()):
        return ModelConfig(**shape, **mla, q_lora_rank=draw(st.none() | st.integers(1, 8)))
    index = {"index_n_heads": draw(st.integers(1, 5)), "index_topk": draw(st.integers(1, 9)),
             "index_head_dim": mla["qk_rope_head_dim"] + draw(st.integers(0, 3))}  # fmt: skip
    return ModelConfig(**shape, **mla, **index, q_lora_rank=draw(st.integers(1, 8)))


@settings(max_examples=40)
@given(configs(), st.integers(1, 3), st.data())
def test_any_ragged_schedule_equals_uncached(config, rows, data):
    step = st.lists(st.integers(0, 4), min_size=rows, max_size=rows).filter(any)
    steps = data.draw(st.lists(step, min_size=1, max_size=5))
    assert_ragged_equals_uncached(make_model(config), steps)


def test_full_lengths_are_no_lengths():
    model = make_model(CONFIGS["mla"])
    tokens = make_tokens(model.config, 2, 6)
    cache = model.new_cache(2, 8)
    assert difference(model(tokens, cache, lengths=torch.tensor([6, 6])), model(tokens)) < 1e-12
    assert difference(model(tokens, lengths=torch.tensor([2, 6]))[0, :2], model(tokens)[0, :2]) == 0.0


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_future_never_moves_the_past(name, dtype):
    model = make_model(CONFIGS[name], dtype=dtype)
    # An expert's matrix product has as many rows as tokens chose it, and the future's choice changes its rounding.
    rounding = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype] if "experts" in name else 0.0
    assert leak_probe(model, make_tokens(model.config, 2, 40)) <= rounding


def test_rows_do_not_see_each_other():
    model = make_model(CONFIGS["mla"])
    tokens = make_tokens(model.config, 3, 8)
    edited = tokens.clone()
    edited[0] = (tokens[0] + 1) % model.config.vocab_size
    assert torch.equal(model(edited)[1:], model(tokens)[1:])


def test_order_of_the_past_matters():
    model = make_model(CONFIGS["mla"])
    tokens = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]])
    logits = model(tokens)[:, -1]
    assert difference(logits[0], logits[1]) > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_learns(name):
    model = make_model(CONFIGS[name])
    tokens = make_tokens(model.config, 2, 10)
    F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    deaf = [name for name in gradient_census(model).none if ".indexer." not in name]
    assert all(name.startswith("mtp.") for name in deaf), "logits never depend on the MTP"
    sum(multi_token_losses(model, model.hidden_states(tokens[:, :-1]), tokens)).backward() if model.mtp else None
    census = gradient_census(model)
    assert not census.zero, str(census)
    indexer = {name for name, _ in model.named_parameters() if ".indexer." in name}
    assert set(census.none) == indexer, "a choice has no gradient: the indexer has a loss of its own"
    assert len(census.learning) + len(indexer) == len(list(model.parameters()))


@pytest.mark.parametrize("name", CONFIGS)
def test_bfloat16_runs_and_stays_near(name):
    exact, half = make_model(CONFIGS[name]), make_model(CONFIGS[name], dtype=torch.bfloat16)
    tokens = make_tokens(exact.config, 2, 10)
    cached = in_chunks(half, tokens, (6, *range(7, 11)))
    assert half(tokens).dtype == cached.dtype == torch.bfloat16
    for logits in (half(tokens), cached):
        distance = (logits.double() - exact(tokens)).abs()
        # where two scores are near, bfloat16 selects another token: a few positions move far, most do not
        middle = distance.median() if exact.config.has_indexer else distance.mean()
        assert middle < 0.1 < exact(tokens).std()


def test_cache_takes_the_models_precision():
    cache = make_model(CONFIGS["mla"], dtype=torch.bfloat16).new_cache(1, 4)
    assert cache.nbytes == kv_cache_bytes(CONFIGS["mla"], tokens=4)


def weights_by_part(model):
    """Parameters and router biases of the main model and of its MTP modules."""
    bias = {n: b for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")}
    sizes = {n: p.numel() for n, p in {**dict(model.named_parameters()), **bias}.items()}
    ahead = sum(size for name, size in sizes.items() if name.startswith("mtp."))
    return sum(sizes.values()) - ahead, ahead


@pytest.mark.parametrize(
    ("name", "total", "ahead"),
    [
        ("deepseek-v2-lite", 15_706_484_224, 0),
        ("deepseek-v2", 235_741_434_880, 0),
        ("deepseek-v3", 671_026_419_200, 11_610_068_224),
        ("deepseek-v3.2", 671_877_944_064, 11_624_027_648),
    ],
)
def test_real_models_have_their_parameters_to_the_unit(name, total, ahead):
    with torch.device("meta"):
        model = Transformer(PRESETS[name])
    count = count_parameters(PRESETS[name])
    assert weights_by_part(model) == (total, ahead) == (count.total, count.mtp)


@pytest.mark.parametrize("name", CONFIGS)
def test_count_is_what_the_model_has(name):
    count = count_parameters(CONFIGS[name])
    assert weights_by_part(make_model(CONFIGS[name])) == (count.total, count.mtp)


def test_v3_without_experts_runs_on_the_meta_device():
    config = PRESETS["deepseek-v3"].replace(n_routed_experts=None, num_experts_per_tok=None, n_shared_experts=None)
    with torch.device("meta"):
        model = Transformer(config)
        logits = model(torch.zeros(2, 5, dtype=torch.int64))
    assert logits.shape == (2, 5, 129_280) and logits.is_meta
    cache = model.new_cache(batch_size=1, max_tokens=131_072)
    assert cache.nbytes == kv_cache_bytes(config, 131_072, bytes_per_value=4)


def test_weights_start_as_the_config_says():
    torch.manual_seed(0)
    model = Transformer(PRESETS["mini-mla"])
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            assert parameter.std().item() == pytest.approx(0.06, rel=0.1), name
            assert abs(parameter.mean().item()) < 0.01, name
        else:
            assert (parameter == 1).all(), name
    assert not Transformer(CONFIGS["mqa"]).model.layers[0].self_attn.q_proj.bias.any()


def test_tied_embeddings_are_one_matrix():
    model = make_model(CONFIGS["gqa"].replace(tie_word_embeddings=True))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    model(make_tokens(model.config, 1, 4)).sum().backward()
    assert gradient_census(model).all_learn


def test_norms_use_the_configs_epsilon():
    model = Transformer(CONFIGS["mla"].replace(rms_norm_eps=0.25))
    layer = model.model.layers[0]
    norms = (layer.input_layernorm, layer.post_attention_layernorm, model.model.norm)
    assert [norm.eps for norm in norms] == [0.25] * 3


def test_weights_carry_the_checkpoints_names():
    names = set(make_model(CONFIGS["mla"]).state_dict())
    assert {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"} < names
    layer = {name.removeprefix("model.layers.1.") for name in names if name.startswith("model.layers.1.")}
    assert layer == {
        "input_layernorm.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight",
        "mlp.down_proj.weight", "self_attn.q_proj.weight", "self_attn.kv_a_proj_with_mqa.weight",
        "self_attn.kv_a_layernorm.weight", "self_attn.kv_b_proj.weight", "self_attn.o_proj.weight",
    }  # fmt: skip
    assert len(names) == 3 + 2 * len(layer), "nothing else is in a checkpoint"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": None}, "vocab_size is None"),
        ({"intermediate_size": None}, "intermediate_size is None"),
    ],
)
def test_model_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Transformer(CONFIGS["mla"].replace(**changes))


def test_first_layers_are_dense_and_the_rest_has_experts():
    model = make_model(CONFIGS["mla, experts, MTP"].replace(num_hidden_layers=4, first_k_dense_replace=2))
    kinds = [isinstance(layer.mlp, MixtureOfExperts) for layer in model.model.layers]
    assert kinds == [False, False, True, True]
    assert isinstance(model.mtp[0].block.mlp, MixtureOfExperts), "an MTP module's layer comes after the last one"


def test_mtp_that_is_not_there_is_refused():
    model = make_model(CONFIGS["mla, experts, MTP"])
    tokens = make_tokens(model.config, 2, 5)
    hidden = model.hidden_states(tokens)
    with pytest.raises(ValueError, match="depth = 1: this model has 1 multi-token-prediction modules"):
        model.predict_ahead(hidden, tokens, depth=1)
    with pytest.raises(ValueError, match=r"expected \(B, T, D\) and \(B, T\), got \(2, 5, 32\) and \(2, 4\)"):
        model.predict_ahead(hidden, tokens[:, 1:])
    with pytest.raises(ValueError, match="a latent cache of 2 layers, but this model needs a latent cache of 1"):
        model.predict_ahead(hidden, tokens, model.new_cache(2, 5))


def test_experts_that_no_layer_has_are_no_experts():
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
    assert Transformer(CONFIGS["mla"].replace(**experts, first_k_dense_replace=2))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([[0, 61]]), "tokens: found 61, expected 0 <= token < vocab_size = 61"),
        (torch.tensor([[-1, 99]]), "tokens: found -1"),
        (torch.tensor([1, 2]), r"tokens: expected a non-empty \(B, T\) int64 tensor, got \(2,\) torch.int64"),
        (torch.tensor([[1.0, 2.0]]), "torch.float32"),
        (torch.tensor([[1, 2]], dtype=torch.int32), "torch.int32"),
        (torch.zeros(2, 0, dtype=torch.int64), r"non-empty .* got \(2, 0\)"),
    ],
)
def test_bad_tokens_are_named(tokens, message):
    with pytest.raises(ValueError, match=message):
        make_model(CONFIGS["mla"])(tokens)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3], r"lengths: expected shape \(2,\), got \(1,\)"),
        ([[1, 2]], r"lengths: expected shape \(2,\), got \(1, 2\)"),
        ([3, 6], r"lengths: \[3, 6\], expected 0 to 5, and not all of them 0"),
        ([-1, 3], r"lengths: \[-1, 3\]"),
        ([0, 0], r"lengths: \[0, 0\]"),
    ],
)
def test_bad_lengths_are_named(lengths, message):
    model = make_model(CONFIGS["mla"])
    with pytest.raises(ValueError, match=message):
        model(make_tokens(model.config, 2, 5), model.new_cache(2, 8), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("other", "batch_size", "message"),
    [
        ("mha", 2, "cache: a full cache of 2 layers, but this model needs a latent cache of 2"),
        ("mla", 3, "cache: made for batch size 3, tokens has 2 rows"),
    ],
)
def test_cache_of_another_model_is_refused(other, batch_size, message):
    model = make_model(CONFIGS["mla"])
    cache = make_model(CONFIGS[other]).new_cache(batch_size, 8)
    with pytest.raises(ValueError, match=message):
        model(make_tokens(model.config, 2, 5), cache)
    deeper = make_model(CONFIGS["mla"].replace(num_hidden_layers=3)).new_cache(2, 8)
    with pytest.raises(ValueError, match="of 3 layers"):
        model(make_tokens(model.config, 2, 5), deeper)


def test_model_without_its_mtp_modules_says_the_same():
    model = make_model(CONFIGS["mla, experts, MTP"]).train()
    tokens = make_tokens(model.config, 2, 12)
    rest = model.without_mtp()
    assert difference(rest(tokens), model(tokens)) == 0
    assert len(rest.mtp) == rest.config.num_nextn_predict_layers == 0 and rest.training
    assert rest.state_dict().keys() == {name for name in model.state_dict() if not name.startswith("mtp.")}
    assert rest.state_dict().keys() == Transformer(rest.config).state_dict().keys()


def test_model_without_mtp_is_a_copy_that_learns_on_its_own():
    model = make_model(CONFIGS["mla, experts, MTP"].replace(tie_word_embeddings=True))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rest = model.without_mtp()
    assert rest.lm_head.weight is rest.model.embed_tokens.weight
    torch.nn.init.zeros_(rest.lm_head.weight)
    assert len(model.mtp) == model.config.num_nextn_predict_layers == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
