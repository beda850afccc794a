"""Plain next-token training: random windows of one long text, AdamW, warm-up and cosine decay.

Optimiser settings follow the DeepSeek-V3 report, section 4.2 (beta 0.9 / 0.95, weight decay 0.1, gradient norm 1.0);
learning rate and schedule are a mini's own.
"""

import dataclasses
import math

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """One training budget. learning_rate is the peak; it falls to about a tenth."""

    steps: int = 200
    batch_size: int = 16
    context: int = 128
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low = 0 if field.name in ("warmup_steps", "weight_decay") else 1e-12
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


def next_token_loss(model, inputs, targets):
    """Mean cross-entropy in nats of the next token; inputs, targets: (B, T) int64."""
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def learning_rate_at(step, settings):
    """Linear warm-up to the peak, then a cosine that would reach a tenth of it one step after the last."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def train(model, tokens, settings=None, seed=0, progress=True, on_step=None):
    """Train a model in place; returns its loss at every step, a list of floats in nats.

    tokens: (N,) int64, the text. seed: which windows are drawn (the same for every model of a comparison).
    on_step(step, loss): called after every step, for a live plot. Matrices decay, norms and biases do not.
    Raises FloatingPointError, naming the step, if the loss is no longer finite.
    """
    settings = settings or TrainingSettings()
    generator = torch.Generator().manual_seed(seed)
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95))
    losses = []
    model.train()
    for step in tqdm(range(settings.steps), desc="training", disable=not progress, leave=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        inputs, targets = random_windows(tokens, settings.batch_size, settings.context, generator)
        loss = next_token_loss(model, inputs, targets)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; lower learning_rate and train again")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step, losses[-1])
    model.eval()
    return losses


@torch.no_grad()
def evaluate(model, tokens, context=128, batches=8, batch_size=16, seed=1234):
    """Mean next-token loss in nats on fixed random windows of a text the model has not trained on."""
    generator = torch.Generator().manual_seed(seed)
    losses = [
        next_token_loss(model, *random_windows(tokens, batch_size, context, generator)).item() for _ in range(batches)
    ]
    return sum(losses) / len(losses)
