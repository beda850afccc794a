"""The loop that all training shares: go on from a snapshot, take steps under a bar, tell each, keep snapshots.

What a step is, is the caller's. The one decision to know: a step gives a float, or a dict of floats with the same names
every time, and the list of what they gave is all that a run remembers besides the state of model, optimizer and
generator.
"""

import math
from pathlib import Path

from tqdm.auto import tqdm

from dsmini.training.snapshot import load_snapshot, save_snapshot


def run_steps(take_step, model, optimizer, generator, steps, *, name, progress=True, on_step=None, snapshot=None,
              snapshot_every=100, run=None, remark=None):  # fmt: skip
    """Take the steps that are still to do; returns what all of them gave, a list.

    take_step(step): trains once; gives a float, or a dict of floats. name: of the bar, unless progress is a text.
    on_step(step, given): called after every step. snapshot, snapshot_every: as in `pretrain.train`; run: what it was
    asked to do, see `snapshot.describe`. remark(given): a text behind the bar.
    Raises ValueError for snapshot_every below 1, SnapshotError for a snapshot of another run.
    """
    if snapshot_every < 1:
        raise ValueError(f"snapshot_every = {snapshot_every!r}: expected 1 or more steps")
    history = []
    if snapshot and Path(snapshot).exists():
        history, names = load_snapshot(snapshot, run, model, optimizer, generator)
        history = [dict(zip(names, row, strict=True)) for row in history] if names else history
    name, done = progress if isinstance(progress, str) else name, len(history)
    bar = tqdm(range(done, steps), name, steps, initial=done, disable=not progress, leave=False)
    model.train()
    for step in bar:
        history.append(take_step(step))
        if remark is not None:
            bar.set_postfix_str(remark(history[-1]))
        if on_step is not None:
            on_step(step, history[-1])
        if snapshot and (len(history) % snapshot_every == 0 or len(history) == steps):
            names = list(history[0]) if isinstance(history[0], dict) else None
            rows = [list(given.values()) for given in history] if names else history
            save_snapshot(snapshot, run, model, optimizer, generator, rows, names)
    model.eval()
    return history


def must_be_finite(loss, step):
    """Raises FloatingPointError, naming the step, for a loss that is not finite."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} at step {step}; lower learning_rate and train again")
