"""Pre-training: windows of text, AdamW, warm-up and cosine decay; MTP loss and expert balancing where there are any.

Optimiser settings follow the DeepSeek-V3 report, section 4.2 (beta 0.9 / 0.95, weight decay 0.1, gradient norm 1.0,
bias update speed 0.001, balance factor 0.0001, MTP weight 0.3); learning rate and schedule are a mini's own.
"""

import dataclasses
import math

import torch
from torch.nn import functional as F

from dsmini.model.moe import expert_load, sequence_balance_loss, watch_routing
from dsmini.model.mtp import multi_token_losses
from dsmini.training.loop import run_steps
from dsmini.training.snapshot import describe_run

_MAY_BE_ZERO = ("warmup_steps", "weight_decay", "mtp_weight", "bias_speed", "balance_weight")


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """One training budget. learning_rate is the peak; it falls to about a tenth.

    The last three concern models with MTP modules or experts: mtp_weight is the report's lambda, bias_speed its gamma
    (0 leaves the routers' biases alone), balance_weight its alpha.
    """

    steps: int = 200
    batch_size: int = 16
    context: int = 128
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    mtp_weight: float = 0.3
    bias_speed: float = 0.001
    balance_weight: float = 0.0001

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low = 0 if field.name in _MAY_BE_ZERO else 1e-12
            if not value >= low:
                raise ValueError(f"{field.name} = {value!r}: expected {'0 or more' if low == 0 else 'more than 0'}")


def random_windows(tokens, batch_size, context, generator):
    """Random windows of a long text: tokens (N,) -> inputs (B, T), targets (B, T), the inputs one token further.

    Raises ValueError if the text is shorter than one window.
    """
    if len(tokens) <= context:
        raise ValueError(f"tokens: {len(tokens)} tokens, but a window of context = {context} needs {context + 1}")
    starts = torch.randint(len(tokens) - context, (batch_size, 1), generator=generator)
    windows = tokens[starts + torch.arange(context + 1)]  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]


def _windows_of(tokens, settings, generator):
    inputs, targets = random_windows(tokens, settings.batch_size, settings.context, generator)
    return torch.cat((inputs, targets[:, -1:]), dim=1)  # (B, T + 1)


def next_token_loss(model, inputs, targets):
    """Mean cross-entropy in nats of the next token; inputs, targets: (B, T) int64."""
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def learning_rate_at(step, settings):
    """Linear warm-up to the peak, then a cosine that would reach a tenth of it one step after the last."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def training_loss(model, windows, settings, routes):
    """(the loss to minimise, its next-token part) of some windows (B, T + 1). V3 report, eq. 17-25.

    routes: the dict of `watch_routing`, which this forward pass fills.
    """
    inputs, targets = windows[:, :-1], windows[:, 1:]
    hidden = model.hidden_states(inputs)  # (B, T, D)
    loss = main = F.cross_entropy(model.lm_head(hidden).flatten(0, 1), targets.flatten())
    if model.mtp and settings.mtp_weight:
        ahead = multi_token_losses(model, hidden, windows)
        loss = loss + settings.mtp_weight * sum(ahead) / len(ahead)
    if routes and settings.balance_weight:
        k = model.config.num_experts_per_tok
        loss = loss + settings.balance_weight * sum(sequence_balance_loss(route.scores, k) for route in routes.values())
    return loss, main.item()


def balance_routers(model, routes, speed):
    """Move the bias of every router of `routes` (see `watch_routing`) by the sign rule."""
    for name, route in routes.items():
        router = model.get_submodule(name)
        if speed and router.e_score_correction_bias is not None:
            router.balance(expert_load(route.experts, len(router.weight)), speed)


def new_optimizer(model, settings):
    """AdamW over what is to be trained. Matrices decay, norms and biases do not."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95))


def train_step(model, optimizer, windows, settings, step):
    """Learn from some windows (B, T + 1) int64; returns the next-token loss before it, in nats.

    Raises FloatingPointError, naming the step, if the loss is no longer finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, settings)
    with watch_routing(model) as routes:
        loss, main = training_loss(model, windows, settings, routes)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower learning_rate and train again")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    balance_routers(model, routes, settings.bias_speed)
    return main


def train(model, data, settings=None, seed=0, progress=True, on_step=None, snapshot=None, snapshot_every=100):
    """Train a model in place; returns its next-token loss at every step, a list of floats in nats.

    data: (N,) int64, a text whose random windows are drawn; or a function, data(step) -> (B, T + 1) int64 windows,
    which must give the same ones whenever it is asked.
    seed: which windows of a text are drawn (the same for every model of a comparison).
    progress: whether to show a bar; a text names it. on_step(step, loss): called after every step, for a live plot.
    snapshot: a file that keeps the run's state every `snapshot_every` steps and at the end. If it is there, the run
    goes on from it, to the same end as if it had not stopped; a caller that has stored the result deletes it.
    Raises FloatingPointError, naming the step, if the loss is no longer finite; SnapshotError (a ValueError), naming
    what differs, for a snapshot of another run.
    """
    settings = settings or TrainingSettings()
    generator = torch.Generator().manual_seed(seed)
    optimizer = new_optimizer(model, settings)
    run = snapshot and describe_run(model, data, settings, seed)

    def take_step(step):
        windows = data(step) if callable(data) else _windows_of(data, settings, generator)
        return train_step(model, optimizer, windows, settings, step)

    return run_steps(take_step, model, optimizer, generator, settings.steps, name="training", progress=progress,
                     on_step=on_step, snapshot=snapshot, snapshot_every=snapshot_every, run=run)  # fmt: skip


@torch.no_grad()
def evaluate(model, tokens, context=128, batches=8, batch_size=16, seed=1234):
    """Mean next-token loss in nats on fixed random windows of a text the model has not trained on."""
    generator = torch.Generator().manual_seed(seed)
    losses = [
        next_token_loss(model, *random_windows(tokens, batch_size, context, generator)).item() for _ in range(batches)
    ]
    return sum(losses) / len(losses)
