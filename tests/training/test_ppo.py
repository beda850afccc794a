"""What PPO has and GRPO has not: checked against sums written out, and on a toy that really learns."""

import copy
import math

import pytest
import torch

from dsmini import ModelConfig, Transformer
from dsmini.training import ppo
from dsmini.training.ppo import (
    Critic,
    RewardModel,
    generalized_advantages,
    preference_loss,
    standardized,
    token_rewards,
    train_toy,
)

CONFIG = ModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, vocab_size=6,
                     intermediate_size=32, kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4,
                     max_position_embeddings=16, initializer_range=0.1)  # fmt: skip
# two rows: a response of three tokens behind two of a prompt, and one of two tokens with padding behind it
MASK = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]).bool()


def policy(seed=0):
    torch.manual_seed(seed)
    return Transformer(CONFIG)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_critic_reads_the_past_and_values_every_token():
    critic = Critic(policy()).eval()
    torch.nn.init.normal_(critic.head.weight)
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 0]])
    values = critic(tokens)
    assert values.shape == (2, 4)
    torch.testing.assert_close(values[0, :2], values[1, :2])
    assert not torch.allclose(values[0, 2:], values[1, 2:])


def test_critic_is_a_model_of_its_own_and_starts_without_an_opinion():
    model = policy()
    before = copy.deepcopy(model.state_dict())
    critic = Critic(model)
    values = critic(torch.tensor([[1, 2, 3]]))
    assert (values == values[0, 0]).all()
    torch.nn.init.normal_(critic.head.weight)
    critic(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for name, p in critic.named_parameters() if "lm_head" not in name)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_preference_loss_is_that_of_bradley_and_terry():
    chosen, rejected = noise(8), noise(8, seed=1)
    expected = -sum(math.log(1 / (1 + math.exp(r - c))) for c, r in zip(chosen, rejected, strict=True)) / 8
    assert preference_loss(chosen, rejected).item() == pytest.approx(expected, abs=1e-12)
    assert preference_loss(chosen, chosen).item() == pytest.approx(math.log(2), abs=1e-12)


def test_score_comes_once_at_the_last_token_of_the_response():
    scores, divergence = torch.tensor([5.0, 7.0]), torch.ones(2, 5)
    assert token_rewards(scores, divergence, MASK, 0.0).tolist() == [[0, 0, 0, 0, 5], [0, 0, 7, 0, 0]]
    assert token_rewards(scores, divergence, MASK, 0.5).tolist() == [[0, 0, -0.5, -0.5, 4.5], [0, -0.5, 6.5, 0, 0]]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.9, 0.0)])
def test_advantages_are_the_sum_of_discounted_surprises(gamma, lam):
    rewards, values = noise(2, 5) * MASK, noise(2, 5, seed=1)
    advantages, returns = generalized_advantages(rewards, values, MASK, gamma, lam)
    for row, positions in enumerate(([2, 3, 4], [1, 2])):
        for t in positions:
            expected = 0.0
            for step, u in enumerate(range(t, positions[-1] + 1)):
                following = values[row, u + 1] if u < positions[-1] else 0.0
                expected += (gamma * lam) ** step * (rewards[row, u] + gamma * following - values[row, u])
            torch.testing.assert_close(advantages[row, t], expected, atol=1e-12, rtol=0)
    assert not advantages[~MASK].any() and not returns[~MASK].any()
    torch.testing.assert_close(returns[MASK], (advantages + values)[MASK], atol=1e-12, rtol=0)


def test_lambda_one_takes_the_rewards_that_came():
    rewards, values = noise(2, 5) * MASK, noise(2, 5, seed=1)
    _, returns = generalized_advantages(rewards, values, MASK, 1.0, 1.0)
    to_come = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(returns[MASK], to_come[MASK], atol=1e-12, rtol=0)


def test_a_critic_that_is_always_right_leaves_no_advantage():
    rewards = noise(2, 5) * MASK
    perfect = rewards.flip(1).cumsum(1).flip(1)
    advantages, _ = generalized_advantages(rewards, perfect, MASK, 1.0, 0.95)
    torch.testing.assert_close(advantages, torch.zeros_like(advantages), atol=1e-12, rtol=0)


def test_standardized_over_the_tokens_of_the_mask():
    values = standardized(noise(2, 5), MASK)
    assert not values[~MASK].any()
    assert values[MASK].mean().item() == pytest.approx(0, abs=1e-12)
    assert values[MASK].std().item() == pytest.approx(1, abs=1e-6)


def prompts(step):
    return torch.randint(6, (8, 1), generator=torch.Generator().manual_seed(step))


def verifier(asked, responses):
    """The two tokens after the prompt's, modulo 6: the share of them that is there."""
    return (responses == (asked + torch.tensor([1, 2])) % 6).float().mean(1)


@pytest.mark.parametrize("with_critic", [True, False])
def test_toy_learns_with_a_critic_and_without(with_critic):
    model = policy()
    critic = Critic(model) if with_critic else None
    history = train_toy(model, prompts, verifier, steps=60, group_size=8, response_tokens=2, critic=critic,
                        learning_rate=1e-2, progress=False)  # fmt: skip
    assert len(history) == 60
    assert sum(history[:5]) / 5 < 0.35 and sum(history[-5:]) / 5 > 0.6


def test_toy_repeats_and_tells_every_step():
    told = []
    runs = [
        train_toy(policy(), prompts, verifier, steps=3, group_size=4, response_tokens=2, progress=False,
                  on_step=lambda step, reward: told.append((step, reward)))
        for _ in range(2)
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert told == list(enumerate(runs[0])) * 2


@pytest.mark.parametrize("with_critic", [True, False])
def test_beta_keeps_the_policy_near_the_reference(with_critic):
    def moved(beta):
        model = policy()
        reference = copy.deepcopy(model)
        critic = Critic(model) if with_critic else None
        train_toy(model, prompts, verifier, steps=25, group_size=8, response_tokens=2, critic=critic, beta=beta,
                  reference=reference, learning_rate=1e-2, progress=False)  # fmt: skip
        tokens = torch.arange(6)[:, None]
        with torch.no_grad():
            log_p, log_ref = model(tokens).log_softmax(-1), reference(tokens).log_softmax(-1)
        return (log_p.exp() * (log_p - log_ref)).sum(-1).mean().item()

    assert moved(5.0) < moved(0.0) / 2


def test_reward_model_learns_what_was_preferred():
    judge = RewardModel(policy())
    optimizer = torch.optim.AdamW([p for p in judge.parameters() if p.requires_grad], lr=1e-2)
    better, worse = torch.tensor([[1, 2, 3]]).repeat(4, 1), torch.tensor([[1, 2, 0]]).repeat(4, 1)
    assert judge(better).shape == (4,)
    for _ in range(20):
        loss = preference_loss(judge(better), judge(worse))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 and judge(better)[0] > judge(worse)[0]


def test_misplaced_score_is_noticed():
    """The detection power of the sums above: a score that comes one token early changes the advantages."""
    right = ppo.token_rewards(torch.tensor([1.0, 1.0]), torch.zeros(2, 5), MASK, 0.0)
    early = right.roll(-1, 1)
    values = noise(2, 5).float()
    first, _ = generalized_advantages(right, values, MASK)
    second, _ = generalized_advantages(early, values, MASK)
    assert (first - second).abs().max() > 0.5
