"""One token at a time in plain Python, and the same on tensors: the choice, the load, the bias."""

import random

import pytest
import torch

from dsmini.accounting import routing
from dsmini.config import ModelConfig
from dsmini.model import moe

SHAPES = [(16, 4, 4, 2), (16, 4, 2, 2), (16, 4, 1, 4), (8, 8, 3, 2), (12, 2, 1, 3), (6, 1, 1, 6), (32, 8, 4, 8)]


def random_case(experts, seed, tokens=40):
    pick = random.Random(seed)
    scores = [[pick.random() for _ in range(experts)] for _ in range(tokens)]
    return scores, [pick.uniform(-1.2, 0.6) for _ in range(experts)]


@pytest.mark.parametrize(("experts", "groups", "kept", "k"), SHAPES)
def test_the_choice_is_the_tensor_code_s(experts, groups, kept, k):
    scores, bias = random_case(experts, seed=experts + groups + kept)
    biased = torch.tensor(scores, dtype=torch.float64) + torch.tensor(bias, dtype=torch.float64)
    chosen = moe.select_experts(biased, k, groups, kept)
    choices = [routing.route(token, bias, k, groups, kept) for token in scores]
    assert [choice.experts for choice in choices] == chosen.tolist()
    assert routing.expert_load(choices, experts) == moe.expert_load(chosen, experts).tolist()


def test_the_weights_are_the_router_s():
    config = ModelConfig(
        hidden_size=4, num_hidden_layers=2, num_attention_heads=2, kv_lora_rank=4, qk_nope_head_dim=4,
        qk_rope_head_dim=2, v_head_dim=4, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=4,
        n_group=4, topk_group=2, scoring_func="sigmoid", topk_method="noaux_tc",
        norm_topk_prob=True, routed_scaling_factor=2.5,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    router = moe.Router(config).double()
    router.weight.data.normal_(generator=generator)
    router.e_score_correction_bias.normal_(generator=generator)
    told = router(torch.randn(1, 30, 4, dtype=torch.float64, generator=generator))
    bias = router.e_score_correction_bias.tolist()
    for token, experts, weights in zip(*(part[0].tolist() for part in (told.scores, *told[:2])), strict=True):
        choice = routing.route(token, bias, 3, 4, 2, scale=2.5)
        assert choice.experts == experts
        assert choice.weights == pytest.approx(weights, abs=1e-12)
        assert sum(choice.weights) == pytest.approx(2.5)


def test_the_bias_moves_as_the_router_s():
    scores, _ = random_case(16, seed=5, tokens=96)
    config = ModelConfig(
        hidden_size=4, num_hidden_layers=2, num_attention_heads=2, kv_lora_rank=4, qk_nope_head_dim=4,
        qk_rope_head_dim=2, v_head_dim=4, n_routed_experts=16, num_experts_per_tok=2, moe_intermediate_size=4,
        scoring_func="sigmoid", topk_method="noaux_tc",
    )  # fmt: skip
    router = moe.Router(config).double()
    data = [scores[:48], scores[48:]]
    run = routing.balanced_run(data, 9, 0.01, k=2, n_group=4, topk_group=2)
    for i, (bias, load) in enumerate(zip(run.biases, run.loads, strict=True)):
        assert router.e_score_correction_bias.tolist() == bias
        biased = torch.tensor(data[i % 2], dtype=torch.float64) + router.e_score_correction_bias
        chosen = moe.select_experts(biased, 2, 4, 2)
        assert moe.expert_load(chosen, 16).tolist() == load
        assert moe.max_violation(torch.tensor(load)) == pytest.approx(routing.max_violation(load))
        router.balance(torch.tensor(load), 0.01)


def test_a_group_left_out_stays_out_under_a_negative_bias():
    bias = [-2.0, -2.0, -3.0, -3.0]  # masked with 0 instead of -inf, experts 2 and 3 would win
    choice = routing.route([0.5, 0.4, 0.9, 0.8], bias, k=2, n_group=2, topk_group=1)
    assert choice.experts == [0, 1] and choice.kept == [0]


def test_the_first_of_equal_scores_wins():
    assert routing.route([0.5] * 6, [0.0] * 6, k=2, n_group=3, topk_group=2).experts == [0, 1]


def test_the_bias_chooses_and_does_not_weigh():
    choice = routing.route([0.8, 0.2, 0.5], [0.0, 0.7, 0.0], k=2)
    assert choice.experts == [1, 0]
    assert choice.weights == pytest.approx([0.2, 0.8])


def test_a_step_of_the_sign_rule():
    assert routing.balance([0.0, 0.0, 0.5], [1, 5, 3], 0.1) == [0.1, -0.1, 0.5]
    assert routing.max_violation([1, 5, 3]) == pytest.approx(2 / 3)


def test_balancing_evens_out_a_lopsided_load():
    pick = random.Random(0)
    data = [[[pick.random() * (0.2 + 0.1 * e) for e in range(8)] for _ in range(64)]]
    still, moved = (routing.balanced_run(data, 100, speed, k=2) for speed in (0.0, 0.01))
    assert routing.max_violation(still.loads[-1]) == routing.max_violation(still.loads[0]) > 1
    assert routing.max_violation(moved.loads[-1]) < 0.2
    assert still.biases[-1] == [0.0] * 8
