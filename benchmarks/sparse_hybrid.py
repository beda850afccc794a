"""What does the hybrid lose when a token sees 8 others? The mini V3.2 with several seeds, for chapter 11.

    python benchmarks/sparse_hybrid.py [--seeds 3]

For each seed the recipe `sparse` of the zoo: the hybrid's own right answers, the warm-up, the sparse stage. Beside it
the hybrid as it is, the hybrid with 8 tokens chosen by an untrained indexer, by a sliding window, at random and by the
attention itself (the oracle), the model after its warm-up, and a control: the same second stage on the same texts, but
with all tokens to look at. Each seed has held-out problems of its own, the same for all arms; models are measured after
rounding to bfloat16, as `make zoo` does. The file is written after every row; a benchmark that was stopped goes on.
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import itertools
import math
import tempfile
from pathlib import Path

import store
import torch

from dsmini import zoo
from dsmini.model.selectors import Random, oracle, selecting, window
from dsmini.tasks.measure_modes import measure_modes
from dsmini.training.indexer import with_indexer
from dsmini.zoo import make, sparse
from dsmini.zoo.recipe import find
from dsmini.zoo.run import Run
from dsmini.zoo.store import decode, encode

RESULT = Path(__file__).parent / "results" / "sparse_hybrid.json"
SELECTORS = {"untrained": None, "window": window, "random": Random(), "oracle": oracle}


def all_tokens(model):
    return selecting(model, topk=math.inf)


class Models:
    """One seed's models before they are rounded, each trained when it is first asked for."""

    def __init__(self, seed, folder):
        self.seed = seed
        self.run = Run(dataclasses.replace(find("sparse"), seed=seed), zoo.load, folder / str(seed), progress=False)

    @functools.cached_property
    def examples(self):
        return sparse.examples(self.run)

    @functools.cached_property
    def hybrid(self):
        return with_indexer(self.run.load("hybrid"), sparse.TOPK, sparse.HEADS, sparse.HEAD_DIM, self.seed)

    @functools.cached_property
    def warm_up(self):
        return sparse.warmed_up(self.run, self.examples)

    @functools.cached_property
    def sparse(self):
        return sparse.made_sparse(self.run, copy.deepcopy(self.warm_up), self.examples)

    @functools.cached_property
    def control(self):
        model = copy.deepcopy(self.warm_up)
        with all_tokens(model):
            return sparse.made_sparse(self.run, model, self.examples, stage="control")


# arm -> (the model that it measures, what is changed while it is measured)
ARMS = {
    "hybrid": ("hybrid", all_tokens),
    **{name: ("hybrid", functools.partial(selecting, selector=selector)) for name, selector in SELECTORS.items()},
    "warm-up": ("warm_up", contextlib.nullcontext),
    "sparse": ("sparse", contextlib.nullcontext),
    "control, all tokens": ("control", all_tokens),
}


def measure(models, arm):
    """A row of the result file."""
    name, change = ARMS[arm]
    with make.repeatable(models.seed):
        model = getattr(models, name)
    model = decode(encode(model, find("sparse")))  # as it comes back from its file
    with change(model):
        report = measure_modes(model, seed=models.seed)
    measured = {mode: {task: rows["all"] for task, rows in tasks.items()} for mode, tasks in report.items()}
    return {"arm": arm, "seed": models.seed, **measured}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conditions = {"recipe": find("sparse").hash(), "topk": sparse.TOPK, "threads": 1, "versions": store.versions()}
    rows = store.read(RESULT, conditions)
    with tempfile.TemporaryDirectory() as folder:
        models = [Models(seed, Path(folder)) for seed in range(arguments.seeds)]
        for one, arm in itertools.product(models, ARMS):
            if (arm, one.seed) not in {(row["arm"], row["seed"]) for row in rows}:
                rows.append(measure(one, arm))
                store.write(RESULT, conditions, rows)
                print(rows[-1]["arm"], one.seed, rows[-1]["thinking"], flush=True)


if __name__ == "__main__":
    main()
