"""Distillation against reinforcement learning on the same small model, for chapter 8.

    python benchmarks/distillation.py [--snapshots FOLDER]

The student of the recipe `r1-distilled`, before it is taught; taught by R1's right answers; and trained by GRPO with
accuracy as the reward instead: for as many CPU seconds as the teaching took, the teacher's own time counted in, and for
twice as many. Last, both: taught and then trained. One seed; the held-out problems are the same for all. R1 report,
first version, section 4.1.
"""

import argparse
import contextlib
import copy
import dataclasses
import tempfile
import time
from pathlib import Path

import store
import torch

from dsmini import zoo
from dsmini.tasks.rewards import accuracy, combined
from dsmini.tasks.stream import stream
from dsmini.training.rlvr import GRPOSettings, train_grpo
from dsmini.zoo import make, r1, r1_distilled
from dsmini.zoo.recipe import find
from dsmini.zoo.run import Run

RESULT = Path(__file__).parent / "results" / "distillation.json"
RL = GRPOSettings(steps=10_000, prompts=24, group_size=10, max_new_tokens=120, learning_rate=5e-4)
AFTERWARDS = dataclasses.replace(RL, learning_rate=1e-4, max_new_tokens=r1.MOST_TOKENS)
REWARD = combined(accuracy=(accuracy, 1.0))


class Enough(Exception):
    """Ends a training whose CPU seconds are spent."""


def reinforce(model, settings, seed, budgets):
    """GRPO on R1's problems; when each budget of CPU seconds is spent, a copy of the model and what to note of it."""
    start, history = time.process_time(), []
    copies = []

    def on_step(step, entry):
        history.append(entry)
        seconds = time.process_time() - start
        if seconds >= budgets[len(copies)]:
            noted = {"steps": step + 1, "cpu_seconds": round(seconds, 1)}
            curves = {name: [round(entry[name], 3) for entry in history] for name in ("accuracy", "tokens")}
            copies.append((copy.deepcopy(model).eval(), {**noted, "curves": curves}))
            if len(copies) == len(budgets):
                raise Enough

    problems = stream({**r1.TAUGHT, **r1.GENERAL}, settings.prompts, seed)
    with contextlib.suppress(Enough):
        train_grpo(model, problems, REWARD, settings, seed, progress=False, on_step=on_step)
    return copies


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshots", type=Path, help="a folder that keeps the snapshots of the recipe's stages")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = find("r1-distilled")
    settings = {"rl": dataclasses.asdict(RL), "afterwards": dataclasses.asdict(AFTERWARDS)}
    conditions = {"recipe": recipe.hash(), "seed": recipe.seed, **settings, "threads": 1, "versions": store.versions()}
    rows = []

    def add(name, model, **noted):
        rows.append({"model": name, **noted, **r1.evaluate(model)})
        store.write(RESULT, conditions, rows)
        print({name: value for name, value in rows[-1].items() if name != "curves"}, flush=True)

    with contextlib.ExitStack() as stack:
        folder = arguments.snapshots or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(make.repeatable(recipe.seed))
        run = Run(recipe, zoo.load, folder)
        student = r1_distilled.student(run)
        add("student", student, cpu_seconds=round(run.cpu_seconds, 1))
        before = run.cpu_seconds
        taught = copy.deepcopy(student)
        run.lap()
        r1_distilled.distil(run, taught, run.load("r1"))
        spent = round(run.cpu_seconds - before, 1)
        add("distilled", taught, cpu_seconds=spent, steps=r1_distilled.DISTILLATION.steps)
        for name, (model, noted) in zip(
            ("RL, same CPU time", "RL, twice"), reinforce(student, RL, recipe.seed, (spent, 2 * spent)), strict=True
        ):
            add(name, model, **noted)
        ((model, noted),) = reinforce(taught, AFTERWARDS, recipe.seed, (spent / 2,))
        add("distilled, then RL", model, **noted)
    add("teacher", zoo.load("r1"))


if __name__ == "__main__":
    main()
