"""From a recipe to a result: rehearse, train, round to bfloat16, measure, store; and the same again if it got lost.

Metrics are measured on the model as it comes back from the bytes that are stored. Everything runs with one thread and
in float32, so that a recipe gives the same model again on the same machine.
"""

import contextlib
import platform
import shutil
import sys

import torch

import dsmini
from dsmini.training.snapshot import SnapshotError
from dsmini.zoo import store
from dsmini.zoo.recipe import changed_fields, find
from dsmini.zoo.run import REHEARSAL, Run

TOLERANCE = 1e-3  # of a loss that a rehearsal repeats


def result(recipe, progress=True):
    """(bytes, record) of a recipe: what the package ships, else what the cache folder has, else made anew for it."""
    found, _ = _look(recipe)
    if found is None:
        with store.lock(recipe.name, lambda: _say(f"another process is making {recipe.name}: waiting for it")):
            found, why = _look(recipe)  # it may have been made meanwhile
            if found is None:
                folder = store.cache_folder()
                _say(f"{why}; {recipe.name} is trained again and kept in {folder}")
                make(recipe, folder, progress)
                found = store.read(folder, recipe)
    return found


def _look(recipe):
    """((bytes, record) or None, what is wrong with the files that were found unfit)."""
    faults, cache = [], store.cache_folder()
    for folder in (store.SHIPPED, cache):
        try:
            return store.read(folder, recipe), ""
        except store.Unfit as fault:
            if folder != cache or (cache / f"{recipe.name}.json").exists():
                faults.append(str(fault))
    return None, " and ".join(faults)


def build(recipe, progress=True):
    """Train a recipe again, whatever there is, and replace what the package ships; returns the record."""
    with store.lock(recipe.name, lambda: _say(f"another process is making {recipe.name}: waiting for it")):
        return make(recipe, store.SHIPPED, progress)


def make(recipe, folder, progress=True):
    """Train a recipe and store its result in a folder; returns the record. The caller holds the lock.

    A run that was killed goes on from its snapshots in the cache folder. Raises RuntimeError for a recipe that does
    not repeat itself, ValueError for a model above the size limit.
    """
    first_losses = rehearse(recipe)
    unfinished = store.cache_folder() / "unfinished" / recipe.name
    model, run = _train(recipe, unfinished / recipe.hash()[:12], progress)
    stage = run.alike
    if stage and not repeats({stage: run.first_losses[stage]}, {stage: first_losses[stage]}):
        raise RuntimeError(
            f"{recipe.name} does not repeat itself: stage {stage} began with {run.first_losses[stage]}, "
            f"in rehearsal with {first_losses[stage]}; delete {unfinished} and look for draws from a global generator"
        )
    data = store.encode(model, recipe)
    with repeatable(recipe.seed):
        metrics = recipe.evaluate(store.decode(data))
    record = {
        "name": recipe.name,
        "recipe": recipe.hash(),
        "seed": recipe.seed,
        "config": changed_fields(model.config),
        "parents": {name: result(find(name))[1]["sha256"] for name in recipe.parents},
        "versions": {"dsmini": dsmini.__version__, "python": platform.python_version(), "torch": torch.__version__},
        "cpu_seconds": round(run.cpu_seconds + run.lap(), 1),
        "metrics": metrics,
        "first_losses": first_losses,
        "stages": run.stages,
    }
    for leftover in folder.glob(f".{recipe.name}.*.tmp"):
        leftover.unlink()  # of a process that was killed while it wrote: nobody else writes here now
    store.write(folder, recipe.name, data, record)
    shutil.rmtree(unfinished)
    return store.read(folder, recipe)[1]


def _train(recipe, folder, progress):
    """(model, run) of a recipe, from the snapshots in `folder` where they fit."""
    for last in (False, True):
        run = Run(recipe, _parent, folder, progress)
        try:
            with repeatable(recipe.seed):
                return recipe.build(run), run
        except SnapshotError as error:
            if last:
                raise
            _say(f"{error}: deleted, {recipe.name} starts afresh")
            shutil.rmtree(folder)


def rehearse(recipe):
    """Run every stage of a recipe for its first five steps: stage -> losses. Nothing is stored."""
    return rehearsed(recipe).first_losses


def rehearsed(recipe):
    """The `Run` of a rehearsal."""
    run = Run(recipe, _parent, steps=REHEARSAL)
    with repeatable(recipe.seed):
        recipe.build(run)
    return run


def repeats(losses, recorded):
    """Whether the losses of a rehearsal are the recorded ones, each to a thousandth."""
    if {stage: len(values) for stage, values in losses.items()} != {s: len(values) for s, values in recorded.items()}:
        return False
    pairs = [pair for stage in losses for pair in zip(losses[stage], recorded[stage], strict=True)]
    return all(abs(now - then) <= TOLERANCE for now, then in pairs)


@contextlib.contextmanager
def repeatable(seed):
    """One thread, float32 and a seeded generator, gradients on, whatever the caller has set; then as it was before."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def _parent(name):
    return store.decode(result(find(name))[0])


def _say(text):
    print(f"dsmini.zoo: {text}", file=sys.stderr, flush=True)
