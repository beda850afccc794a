"""Training on answers alone: texts as token tensors in which a mask says which next tokens are to be learnt.

What `sft` does for prompts and responses in words, here for any task that draws its own tensors. The one decision to
know: the head is applied where an answer is expected and nowhere else. A long text with a few answers would otherwise
spend much of its time on logits that nobody reads.
"""

import torch
from torch.nn import functional as F

from dsmini.training.loop import must_be_finite, run_steps
from dsmini.training.pretrain import learning_rate_at, new_optimizer
from dsmini.training.snapshot import describe, fingerprint


def answer_loss(model, inputs, targets, mask):
    """Mean cross-entropy in nats over the targets that the mask keeps; all are (B, T)."""
    return F.cross_entropy(model.lm_head(model.hidden_states(inputs)[mask]), targets[mask])


def train_answers(model, data, settings, seed=0, progress=True, on_step=None, snapshot=None, snapshot_every=100):
    """Train a model in place on the answers of a task; returns its loss at every step, a list of floats in nats.

    data: a function, data(step) -> (inputs, targets, mask), (B, T) each: what is read, the next token at every place
    (int64), and which of them count (bool); it must give the same whenever it is asked. settings:
    `pretrain.TrainingSettings`, of which batch_size and context are the data's business, and what concerns MTP and
    router balance is not used. seed: only names the run. The rest is as in `pretrain.train`.
    Raises ValueError for data of other shapes or without an answer; FloatingPointError, naming the step, if the loss
    is no longer finite; SnapshotError for a snapshot of another run.
    """
    optimizer, generator = new_optimizer(model, settings), torch.Generator().manual_seed(seed)
    run = snapshot and describe(model, fingerprint_of(data), settings, seed)

    def take_step(step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        loss = answer_loss(model, *checked(data(step))[:3])
        must_be_finite(loss.item(), step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        return loss.item()

    return run_steps(take_step, model, optimizer, generator, settings.steps, name="training", progress=progress,
                     on_step=on_step, snapshot=snapshot, snapshot_every=snapshot_every, run=run)  # fmt: skip


def checked(batch):
    """A batch as (inputs, targets, mask, lengths); lengths is None where all rows are full.

    batch: (inputs, targets, mask), or with the lengths (B,) of right-padded rows. Raises ValueError, naming what is
    wrong with it.
    """
    if len(batch) not in (3, 4):
        raise ValueError(f"data: a step of {len(batch)} parts, expected (inputs, targets, mask) and perhaps lengths")
    inputs, targets, mask = batch[:3]
    lengths = batch[3] if len(batch) == 4 else None
    if not inputs.shape == targets.shape == mask.shape or inputs.dim() != 2 or mask.dtype != torch.bool:
        found = ", ".join(f"{tuple(part.shape)} {part.dtype}" for part in batch[:3])
        raise ValueError(f"data: {found}; expected inputs and targets (B, T) int64 and a mask (B, T) bool")
    if not mask.any():
        raise ValueError("data: a step whose mask keeps nothing, expected an answer to learn from")
    if lengths is not None and not (
        lengths.shape == inputs.shape[:1] and lengths.min() >= 1 and lengths.max() <= inputs.shape[1]
    ):
        found = f"lengths {lengths.tolist()}"
        raise ValueError(f"data: {found}, expected for each of {len(inputs)} rows 1 to {inputs.shape[1]}")
    return inputs, targets, mask, lengths


def fingerprint_of(data):
    """A short text that tells data from other data by its first step."""
    return fingerprint(torch.cat([part.flatten().to(torch.int64) for part in data(0)]))
