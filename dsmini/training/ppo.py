"""What PPO has that GRPO does not: a critic, and in RLHF a learned reward; and the loop that can do with or without.

PPO: Schulman et al. 2017; its advantages: Schulman et al. 2016 (GAE); RLHF: Ouyang et al. 2022. The decision to know:
`train_toy` is one loop for all three set-ups (PPO with a reward model, GRPO with one, GRPO with a verifier), and what
is left out is None. It is made for toys: responses of one length, one update a step, nothing to resume.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from dsmini.inference.generate import generate
from dsmini.training.grpo import estimate_kl, group_advantages, grpo_loss, response_log_probs


class Critic(nn.Module):
    """A model of its own that says what a state is worth: a copy of a language model with one number for a head.

    forward(tokens): (B, T) int64 -> (B, T), the reward still to come once tokens[:, : t + 1] have been read.
    """

    def __init__(self, model):
        super().__init__()
        self.trunk = copy.deepcopy(model)
        self.trunk.lm_head.requires_grad_(False)  # not used
        self.head = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, tokens):
        return self.head(self.trunk.hidden_states(tokens))[..., 0]


class RewardModel(Critic):
    """A judge learned from preferences: the same, read at the last token. forward(tokens): (B, T) -> (B,) scores."""

    def forward(self, tokens):
        return super().forward(tokens)[:, -1]


def preference_loss(chosen, rejected):
    """How little a judge agrees with people's choices: scores (B,), (B,) -> mean of -log sigmoid(their difference).

    Bradley and Terry's model, in nats; Ouyang et al. 2022, eq. 1. ln 2 for a judge that cannot tell.
    """
    return -F.logsigmoid(chosen - rejected).mean()


def token_rewards(scores, divergence, mask, beta):
    """RLHF's reward for every token: a penalty for leaving the reference, and the response's score at its last token.

    scores: (B,). divergence: (B, T), k1 = log pi/pi_ref of the tokens drawn. mask: (B, T) bool. Returns (B, T).
    DeepSeekMath, eq. 2. Here k1 is right: a reward needs a value that is right on average, and has no gradient.
    """
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)  # one position a row
    return last * scores[:, None] - beta * divergence * mask


def generalized_advantages(rewards, values, mask, gamma=1.0, lam=0.95):
    """Advantages from a critic, and what it should have said: (B, T), (B, T) -> two (B, T). GAE, eq. 11 to 16.

    values[:, t]: the critic before token t was chosen. lam 0 trusts the critic from one token to the next, lam 1 only
    the rewards that came. 0 outside the mask.
    """
    advantages = torch.zeros_like(rewards)
    coming = next_value = torch.zeros_like(rewards[:, 0])  # of the token behind
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        coming = (surprise + gamma * lam * coming) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = coming
    return advantages, (advantages + values) * mask


def standardized(advantages, mask):
    """Advantages of a batch's tokens with mean 0 and deviation 1, as PPO's implementations have them; 0 elsewhere."""
    values = advantages[mask]
    return (advantages - values.mean()) / (values.std() + 1e-8) * mask


def train_toy(policy, prompts, reward, *, steps, group_size, response_tokens, critic=None, reference=None, beta=0.0,
              epsilon=0.2, learning_rate=3e-3, seed=0, progress=True, on_step=None):  # fmt: skip
    """Train a toy policy in place, with a critic (PPO) or without (GRPO); returns the mean reward of every step.

    prompts(step): (P, S) int64. reward(prompts, responses): (N, S), (N, L) -> (N,), a verifier's or a `RewardModel`'s.
    critic: a `Critic`, trained along; None compares the answers of a group instead. reference, beta: the model to stay
    near and how much; with a critic the penalty is in the reward, without one in the loss, as in DeepSeekMath,
    figure 4. on_step(step, reward): called after every step.
    """
    generator = torch.Generator().manual_seed(seed)
    learned = [*policy.parameters(), *(critic.parameters() if critic else ())]
    optimizer = torch.optim.AdamW([p for p in learned if p.requires_grad], lr=learning_rate, weight_decay=0.0)
    history = []
    for step in tqdm(range(steps), "PPO" if critic else "GRPO", disable=not progress, leave=False):
        asked = prompts(step)  # (P, S)
        said = generate(policy, asked, response_tokens, generator=generator, samples_per_prompt=group_size)
        asked, responses = asked.repeat_interleave(group_size, 0), torch.stack(said.tokens)  # (N, S), (N, L)
        inputs, targets, mask = _aligned(asked, responses)
        old = torch.zeros(mask.shape).masked_scatter(mask, torch.cat(said.log_probs))
        with torch.no_grad():
            scores = reward(asked, responses)  # (N,)
            ref = response_log_probs(reference(inputs), targets) if beta else None
        if critic is not None:
            values = critic(inputs)
            rewards = token_rewards(scores, estimate_kl(old, ref, "k1") if beta else mask * 0.0, mask, beta)
            advantages, returns = generalized_advantages(rewards, values.detach(), mask)
            advantages = standardized(advantages, mask)
        else:
            advantages = group_advantages(scores.view(-1, group_size)).flatten()
        log_probs = response_log_probs(policy(inputs), targets)
        in_loss = 0.0 if critic is not None else beta
        loss, _ = grpo_loss(log_probs, old, advantages, mask, epsilon=epsilon, beta=in_loss, ref_log_probs=ref)
        if critic is not None:
            loss = loss + F.mse_loss(values[mask], returns[mask]) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        history.append(scores.mean().item())
        if on_step is not None:
            on_step(step, history[-1])
    return history


def _aligned(prompts, responses):
    """inputs, targets (N, S + L - 1) int64, and a mask of the targets that are the response's."""
    tokens = torch.cat((prompts, responses), dim=1)
    mask = torch.arange(1, tokens.shape[1]) >= prompts.shape[1]
    return tokens[:, :-1], tokens[:, 1:], mask.expand(len(tokens), -1)
