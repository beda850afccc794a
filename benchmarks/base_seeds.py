"""How much of the base model is luck: its recipe with other seeds, for chapter 5.

    python benchmarks/base_seeds.py [--seeds 3]

A seed decides the initial weights and which texts are read; the held-out problems are the same for all. Everything is
measured as `make zoo` measures it, after rounding to bfloat16. The file is written after every seed, so a benchmark
that was stopped goes on where it was; another recipe starts it afresh.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import store

from dsmini.zoo import make
from dsmini.zoo.recipe import find

RESULT = Path(__file__).parent / "results" / "base_seeds.json"


def measure(seed):
    """Build the base model with another seed; returns a row of the result file."""
    with tempfile.TemporaryDirectory() as folder:
        record = make.make(dataclasses.replace(find("base"), seed=seed), Path(folder))
    return {"seed": seed, "cpu_seconds": record["cpu_seconds"], **record["metrics"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    conditions = {"recipe": find("base").hash(), "threads": 1, "versions": store.versions()}
    rows = store.read(RESULT, conditions)
    for seed in range(arguments.seeds):
        if seed not in {row["seed"] for row in rows}:
            rows.append(measure(seed))
            store.write(RESULT, conditions, rows)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
