"""What a choice in GRPO is worth on the shell game, for chapter 7: one thing changed at a time, 20 steps each.

    python benchmarks/grpo_ablations.py

The base model of the zoo and the settings of its recipe `r1-zero`, cut to 20 steps. The unchanged settings run from
three seeds, which tell what is noise; every change runs once, from seed 0. The file is written after every run, so a
benchmark that was stopped goes on where it was; another recipe starts it afresh.
"""

import argparse
import contextlib
import dataclasses
import time
from pathlib import Path
from unittest import mock

import store
import torch

from dsmini import zoo
from dsmini.tasks.measure import measure_shell_game
from dsmini.tasks.rewards import accuracy
from dsmini.training import grpo
from dsmini.training.rlvr import train_grpo
from dsmini.zoo.r1_zero import SETTINGS, problems
from dsmini.zoo.recipe import find

RESULT = Path(__file__).parent / "results" / "grpo_ablations.json"
STEPS, PROBLEMS, SAMPLES = 20, 100, 8

# name -> what differs from the settings of r1-zero
CHANGES = {
    "as in r1-zero": {},
    "learning rate 1e-4": {"learning_rate": 1e-4},
    "learning rate 3e-3": {"learning_rate": 3e-3},
    "no standard deviation": {"scale_rewards": "none"},
    "every token alike": {"normalization": "tokens"},
    "constant length": {"normalization": "constant"},
    "4 updates, clip 0.2": {"minibatches": 4},
    "4 updates, no clip": {"minibatches": 4, "epsilon": None},
    "4 updates, inverted clip": {"minibatches": 4},
    "16 updates, clip 0.2": {"minibatches": 16},
    "16 updates, an eighth of the rate": {"minibatches": 16, "learning_rate": SETTINGS.learning_rate / 8},
}


def inverted(free, clipped):
    """The clip as it circulates: the minimum for good answers, the maximum for bad ones."""
    return torch.where(free >= 0, torch.min(free, clipped), torch.max(free, clipped))


def measure(name, seed):
    """Train with one change and one seed; returns a row of the result file."""
    model = zoo.load("base").without_mtp()
    settings = dataclasses.replace(SETTINGS, steps=STEPS, **CHANGES[name])
    start = time.process_time()
    planted = mock.patch.object(grpo.torch, "minimum", inverted) if "inverted" in name else contextlib.nullcontext()
    with planted:
        history = train_grpo(model, problems(seed), accuracy, settings, seed, progress=False)
    seconds = time.process_time() - start
    measured = measure_shell_game(model, PROBLEMS, SAMPLES)
    names = ("reward", "tokens", "entropy", "ratio", "clip_fraction", "grad_norm")
    curves = {name: [round(entry[name], 4) for entry in history] for name in names}
    return {"change": name, "seed": seed, "cpu_seconds": round(seconds, 1), **measured, "curves": curves}


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    conditions = {"recipe": find("r1-zero").hash(), "steps": STEPS, "threads": 1, "versions": store.versions()}
    rows = store.read(RESULT, conditions)
    for name, seed in [("as in r1-zero", 1), ("as in r1-zero", 2), *((name, 0) for name in CHANGES)]:
        if (name, seed) not in {(row["change"], row["seed"]) for row in rows}:
            rows.append(measure(name, seed))
            store.write(RESULT, conditions, rows)
            print({key: value for key, value in rows[-1].items() if key != "curves"}, flush=True)


if __name__ == "__main__":
    main()
