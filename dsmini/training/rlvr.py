"""Reinforcement learning with verifiable rewards: the model answers, rules reward, GRPO moves the model.

A step is one rollout and one update, or several on shares of the rollout (`minibatches`). DeepSeek-R1-Zero's loop
(R1 report, section 2.1) at mini scale. The decision to know: what cannot move the model is not computed. Groups whose
answers were all rewarded alike have no advantage, so their rows are dropped; they still count as rows of the batch.
"""

import copy
import dataclasses
import hashlib
import math

import torch

from dsmini.tasks.modes import question_text
from dsmini.training import grpo
from dsmini.training.loop import run_steps
from dsmini.training.pretrain import new_optimizer
from dsmini.training.rollout import pad, roll_out, token_batches
from dsmini.training.snapshot import describe, fingerprint

_MAY_BE_ZERO = ("warmup_steps", "weight_decay", "beta")
# what a step's dict says besides the reward's parts
FIGURES = ("reward", "tokens", "stopped", "zero_groups", "entropy", "ratio", "clip_fraction", "kl", "mismatch", "loss",
           "grad_norm")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GRPOSettings:
    """One budget of reinforcement learning: `prompts` problems a step, `group_size` answers each.

    minibatches: updates a step, each on its share of the answers, so that only the first is on-policy. token_budget:
    padded tokens of one forward pass, which changes memory and speed and nothing else: a few rows of like length stay
    in the processor's cache and are hardly padded. The options of the objective: see `dsmini.training.grpo`.
    learning_rate is reached after warmup_steps and kept.
    """

    steps: int = 60
    prompts: int = 24
    group_size: int = 12
    max_new_tokens: int = 90
    temperature: float = 1.0
    learning_rate: float = 5e-4
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    minibatches: int = 1
    epsilon: float | None = 0.2
    epsilon_high: float | None = None
    importance_sampling_level: str = "token"
    scale_rewards: str = "group"
    normalization: str = "sequence"
    beta: float = 0.0
    kl: str = "k3"
    token_budget: int = 2048

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is str or (value is None and "None" in str(field.type)):
                continue
            kinds = int if field.type is int else int | float
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ValueError(f"{field.name} = {value!r}: expected a {'whole ' if kinds is int else ''}number")
            low = 0 if field.name in _MAY_BE_ZERO else 1e-12
            if not low <= value < math.inf:
                raise ValueError(f"{field.name} = {value!r}: expected {'0 or more' if low == 0 else 'more than 0'}")
        if self.group_size < 2:
            raise ValueError(f"group_size = {self.group_size}: expected 2 or more, an answer is compared with others")
        if self.minibatches > self.prompts * self.group_size:
            raise ValueError(f"minibatches = {self.minibatches}: a step has {self.prompts * self.group_size} answers")
        grpo.check_choice("importance_sampling_level", self.importance_sampling_level, grpo.LEVELS)
        grpo.check_choice("scale_rewards", self.scale_rewards, grpo.SCALES)
        grpo.check_choice("normalization", self.normalization, grpo.NORMALIZATIONS)
        grpo.check_choice("kl", self.kl, grpo.ESTIMATORS)


def train_grpo(model, problems, reward, settings=None, seed=0, reference=None, progress=True, on_step=None,
               snapshot=None, snapshot_every=20):  # fmt: skip
    """Train a model in place on its own answers; returns what happened at every step, a list of dicts of floats.

    problems(step): a list of settings.prompts problems, the same for the same step (`dsmini.tasks.stream`).
    reward(problem, text): see `roll_out`. reference: the model that `beta` keeps the policy near; None with beta takes
    the model as it is handed in. progress, on_step(step, dict), snapshot, snapshot_every: as in `pretrain.train`.
    A step's dict: reward; its named parts; tokens, mean length of an answer; stopped, share of answers that ended by
    themselves; zero_groups, share of groups without an advantage; entropy in nats, ratio, clip_fraction and kl, means
    over the tokens that were trained on (0 if there were none); mismatch, the largest |log pi/pi_old| before the first
    update, which is rounding only; loss, and grad_norm before clipping, means over the minibatches.
    Raises FloatingPointError, naming step and place, for a loss or gradient that is not finite, before the weights are
    touched; ValueError for a reward that is not finite, or has a part with the name of a figure of the step;
    SnapshotError for a snapshot of another run.
    """
    settings = settings or GRPOSettings()
    if not callable(problems) or not isinstance(settings, GRPOSettings):
        found = f"{type(problems).__name__}, {type(settings).__name__}"
        raise ValueError(f"problems, settings: {found}, expected a function from a step to problems, and GRPOSettings")
    if settings.beta and reference is None:
        reference = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(seed)
    optimizer = new_optimizer(model, settings)
    run = None
    if snapshot:
        run = describe(model, _fingerprint(problems(0)), settings, seed)
        run["reference"] = settings.beta and _weights_of(reference)

    def take_step(step):
        return grpo_step(model, optimizer, problems(step), reward, settings, step, generator, reference)

    def remark(entry):
        return f"reward {entry['reward']:.2f}, {entry['tokens']:.0f} tokens"

    return run_steps(take_step, model, optimizer, generator, settings.steps, name="GRPO", progress=progress,
                     on_step=on_step, snapshot=snapshot, snapshot_every=snapshot_every, run=run,
                     remark=remark)  # fmt: skip


def grpo_step(model, optimizer, problems, reward, settings, step=0, generator=None, reference=None):
    """One rollout and its updates; returns the step's dict. See `train_grpo`."""
    s = settings
    if len(problems) != s.prompts:
        raise ValueError(f"step {step}: {len(problems)} problems, expected settings.prompts = {s.prompts}")
    try:
        rollout = roll_out(model, problems, reward, s.group_size, s.max_new_tokens, s.temperature, generator)
    except ValueError as error:
        error.add_note(f"in the rollout of step {step}; the weights are as they were before")
        raise
    return learn(model, optimizer, rollout, settings, step, generator, reference)


def learn(model, optimizer, rollout, settings, step=0, generator=None, reference=None):
    """The updates of one step from its `Rollout`; returns the step's dict. See `train_grpo`."""
    s = settings
    if taken := set(rollout.parts).intersection(FIGURES):
        raise ValueError(f"reward: its part {min(taken)!r} has the name of a figure of the step, expected another name")
    advantages = grpo.group_advantages(rollout.rewards, s.scale_rewards)  # (P, G)
    zero_groups = (advantages == 0).all(1).double().mean().item()
    if s.minibatches == 1:
        shares = [torch.arange(advantages.numel())]
    else:
        shares = torch.randperm(advantages.numel(), generator=generator).tensor_split(s.minibatches)
    for group in optimizer.param_groups:
        group["lr"] = s.learning_rate * min(1, (step + 1) / (s.warmup_steps + 1))
    updates = []
    for number, share in enumerate(shares):
        where = f"step {step}, minibatch {number}"
        updates.append(_update(model, optimizer, rollout, advantages.flatten(), share, s, reference, where))
    trained = max(1, sum(update["trained"] for update in updates))
    tokens = sum(len(said) for said in rollout.tokens)
    return {
        "reward": rollout.rewards.mean().item(),
        **{name: part.mean().item() for name, part in rollout.parts.items()},
        "tokens": tokens / len(rollout.tokens),
        "stopped": rollout.stopped.double().mean().item(),
        "zero_groups": zero_groups,
        **{
            name: sum(update[name] * update["trained"] for update in updates) / trained
            for name in ("entropy", "ratio", "clip_fraction", "kl")
        },
        "mismatch": updates[0]["mismatch"],
        **{name: sum(update[name] for update in updates) / len(updates) for name in ("loss", "grad_norm")},
    }


def _update(model, optimizer, rollout, advantages, share, settings, reference, where):
    """One step of the optimizer on a share of the answers, (n,) row numbers; returns sums and means of it."""
    lengths = torch.tensor([len(rollout.tokens[row]) for row in share])  # (n,)
    per_token = _weight_per_token(lengths, settings)  # (n,)
    moving = [i for i, row in enumerate(share.tolist()) if advantages[row] != 0 or settings.beta]
    whole = [len(rollout.prompts[share[i]]) + int(lengths[i]) for i in moving]
    totals = {"trained": 0, "entropy": 0.0, "ratio": 0.0, "clip_fraction": 0.0, "kl": 0.0}
    loss_sum, mismatch = 0.0, 0.0
    optimizer.zero_grad(set_to_none=True)
    for batch in token_batches(whole, settings.token_budget):
        local = [moving[i] for i in batch]
        rows = share[local].tolist()
        loss, statistics, parts = loss_of_rows(model, rollout, advantages, rows, per_token[local], settings, reference)
        log_probs, old, mask = parts
        if not torch.isfinite(loss):
            raise FloatingPointError(_not_finite(where, loss, log_probs, old, mask, rows, rollout))
        loss.backward()
        loss_sum += loss.item()
        mismatch = max(mismatch, (log_probs.detach() - old)[mask].abs().max().item())
        count = int(mask.sum())
        totals["trained"] += count
        for name, value in statistics.items():
            totals[name] += value * count
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm).item()
    if not math.isfinite(norm):
        bad = next(name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all())
        raise FloatingPointError(f"{where}: the gradient of {bad} is not finite; the weights are as they were before")
    optimizer.step()
    means = {name: totals[name] / max(1, totals["trained"]) for name in ("entropy", "ratio", "clip_fraction", "kl")}
    return {"trained": totals["trained"], **means, "mismatch": mismatch, "loss": loss_sum, "grad_norm": norm}


def loss_of_rows(model, rollout, advantages, rows, per_token, settings, reference=None):
    """GRPO's loss of some answers of a rollout, in one forward pass.

    advantages: (N,), of all answers. rows: numbers of b of them. per_token: (b,), what a token of each counts for.
    Returns the loss; a dict of means over the tokens; log-probabilities now and when drawn, and mask, (b, T) each.
    """
    inputs, targets, mask = pad([rollout.prompts[r] for r in rows], [rollout.tokens[r] for r in rows])
    old = torch.zeros_like(mask, dtype=rollout.log_probs[0].dtype)
    old[mask] = torch.cat([rollout.log_probs[r] for r in rows])
    log_probs, entropy = policy(model, inputs, targets, settings.temperature)  # (b, T)
    ref = None
    if settings.beta:
        with torch.no_grad():
            ref, _ = policy(reference, inputs, targets, settings.temperature)
    loss, statistics = grpo.grpo_loss(
        log_probs, old, advantages[rows], mask, epsilon=settings.epsilon, epsilon_high=settings.epsilon_high,
        importance_sampling_level=settings.importance_sampling_level, beta=settings.beta, kl=settings.kl,
        ref_log_probs=ref, weights=mask * per_token[:, None],
    )  # fmt: skip
    return loss, {**statistics, "entropy": entropy[mask].mean().item()}, (log_probs, old, mask)


def policy(model, inputs, targets, temperature=1.0):
    """Log-probabilities of the targets, and the policy's entropy in nats, without gradient: two (B, T)."""
    logits = model(inputs) / temperature  # (B, T, V)
    log_p = logits.log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.gather(-1, targets[..., None])[..., 0], entropy


def _weight_per_token(lengths, settings):
    """`grpo.length_weights` of a whole minibatch, once for each response: (n,) lengths -> (n,)."""
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return grpo.length_weights(mask, settings.normalization, settings.max_new_tokens)[:, 0]


def _not_finite(where, loss, log_probs, old, mask, rows, rollout):
    """What to say about a loss that is not finite: where, and of what it was made."""
    for row, new, before, counts in zip(rows, log_probs.detach(), old, mask, strict=True):
        for name, values in (("log-probabilities", new), ("old log-probabilities", before)):
            if not values[counts].isfinite().all():
                problem = rollout.problems[row // len(rollout.texts[0])]
                return f"{where}: {name} of an answer to {problem.prompt!r} are not finite; the weights are as before"
    return f"{where}: the loss is {loss.item()}, from finite log-probabilities: the ratio pi/pi_old has overflowed"


def _fingerprint(problems):
    return hashlib.sha256("\n".join(question_text(problem) for problem in problems).encode()).hexdigest()[:16]


def _weights_of(model):
    """A short text that differs between models whose weights differ."""
    return fingerprint(torch.cat([weight.detach().flatten().double() for weight in model.parameters()]))
