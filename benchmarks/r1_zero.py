"""R1-Zero on the shell game with several seeds, for chapter 7: what is luck, and what the training does on the way.

    python benchmarks/r1_zero.py [--seeds 3]

The base model of the zoo and the settings of its recipe `r1-zero`. A seed decides the problems and the samples; the
held-out problems are the same for all. The first row is the base model, before any training. The file is written after
every seed, so a benchmark that was stopped goes on where it was; another recipe starts it afresh.
"""

import argparse
import time
from pathlib import Path

import store
import torch

from dsmini import zoo
from dsmini.language.frame import parse_response
from dsmini.tasks.measure import measure_shell_game
from dsmini.tasks.rewards import accuracy
from dsmini.training.rlvr import train_grpo
from dsmini.zoo.r1_zero import SETTINGS, problems
from dsmini.zoo.recipe import find

RESULT = Path(__file__).parent / "results" / "r1_zero.json"


def measure(seed):
    """Train with one seed; returns a row of the result file. `direct`: the share of answers without a thought."""
    model, said, direct = zoo.load("base").without_mtp(), [], []

    def reward(problem, text):
        response = parse_response(text)
        said.append(response is not None and response.thought == "")
        return accuracy(problem, text)

    def on_step(step, _):
        direct.append(sum(said) / len(said))
        said.clear()

    start = time.process_time()
    history = train_grpo(model, problems(seed), reward, SETTINGS, seed, progress=False, on_step=on_step)
    seconds = time.process_time() - start
    curves = {name: [entry[name] for entry in history] for name in ("reward", "tokens", "entropy", "zero_groups")}
    return {
        "model": "r1-zero",
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        **measure_shell_game(model),
        "curves": {name: [round(v, 3) for v in values] for name, values in {**curves, "direct": direct}.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 (default 3)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conditions = {"recipe": find("r1-zero").hash(), "threads": 1, "versions": store.versions()}
    rows = store.read(RESULT, conditions) or [{"model": "base", **measure_shell_game(zoo.load("base"))}]
    for seed in range(arguments.seeds):
        if seed not in {row.get("seed") for row in rows}:
            rows.append(measure(seed))
            store.write(RESULT, conditions, rows)
            print({name: value for name, value in rows[-1].items() if name != "curves"}, flush=True)


if __name__ == "__main__":
    main()
