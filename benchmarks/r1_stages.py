"""R1's pipeline stage by stage, for chapter 8: what each of the four stages can do, and what the language reward costs.

    python benchmarks/r1_stages.py [--snapshots FOLDER]

The recipe `r1` of the zoo, one seed, measured on held-out problems after every stage: base, Dev1, Dev2, Dev3, R1. Two
more rows: `Dev2, accuracy alone` is the second stage without the reward for one language; `R1-Zero` is the zoo's.
The file is written after every stage, but the stages are trained afresh by another start, unless a folder keeps their
snapshots.
"""

import argparse
import contextlib
import copy
import tempfile
from pathlib import Path

import store
import torch

from dsmini import zoo
from dsmini.tasks.rewards import accuracy, language_consistency
from dsmini.zoo import make, r1
from dsmini.zoo.recipe import find
from dsmini.zoo.run import Run

RESULT = Path(__file__).parent / "results" / "r1_stages.json"


class Table:
    """The rows, written as they come."""

    def __init__(self, conditions):
        self.conditions, self.rows, self.cpu_seconds = conditions, [], 0.0

    def add(self, model_name, model, run=None, **more):
        """Measure a model; run: whose last stage made it; more: of what else to put into its row."""
        row = {"model": model_name}
        if run is not None:
            stage = run.stages[-1]
            row |= {"stage": stage["name"], "steps": stage["steps"]}
            row["cpu_seconds"] = round(run.cpu_seconds - self.cpu_seconds, 1)
            self.cpu_seconds = run.cpu_seconds
            if "curves" in stage:
                names = ("reward", "accuracy", "language", "preference", "tokens", "entropy")
                row["curves"] = {n: [round(v, 3) for v in stage["curves"][n]] for n in names if n in stage["curves"]}
        self.rows.append({**row, **more, **r1.evaluate(model)})
        store.write(RESULT, self.conditions, self.rows)
        print({name: value for name, value in self.rows[-1].items() if "curve" not in name}, flush=True)
        if run is not None:
            run.lap()  # the next stage is not to pay for this


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshots", type=Path, help="a folder that keeps the snapshots of the stages")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = find("r1")
    conditions = {"recipe": recipe.hash(), "seed": recipe.seed, "threads": 1, "versions": store.versions()}
    table = Table(conditions)
    with contextlib.ExitStack() as stack:
        folder = arguments.snapshots or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(make.repeatable(recipe.seed))
        run = Run(recipe, zoo.load, folder)
        table.add("base", run.load("base"))
        run.lap()
        dev1 = r1.cold_start(run)
        table.add("Dev1", dev1, run)
        dev2 = copy.deepcopy(dev1)
        r1.reasoning_rl(run, dev2)
        table.add("Dev2", dev2, run)
        dev3 = r1.rejection_sft(run, dev2)
        table.add("Dev3", dev3, run)
        r1.all_scenarios_rl(run, dev3)
        table.add("R1", dev3, run)
        language = []  # measured, not rewarded

        def accuracy_alone(problem, text):
            language.append(language_consistency(problem, text))
            return {"accuracy": accuracy(problem, text)}

        r1.reasoning_rl(run, dev1, accuracy_alone, "reasoning-rl-accuracy-alone")
        answers = r1.REASONING_RL.prompts * r1.REASONING_RL.group_size
        curve = [round(sum(step) / answers, 3) for step in zip(*[iter(language)] * answers, strict=True)]
        table.add("Dev2, accuracy alone", dev1, run, consistency_curve=curve)
    table.add("R1-Zero", zoo.load("r1-zero"))


if __name__ == "__main__":
    main()
