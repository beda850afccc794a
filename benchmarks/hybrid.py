"""One model with two modes against two models with one, for chapter 9: what does the hybrid lose?

    python benchmarks/hybrid.py [--seeds 3] [--snapshots FOLDER]

For each seed three students of the same size, from the same base model, taught by the same specialists by the recipe
`hybrid` of the zoo: in both modes, with thinking alone, without thinking alone. A step has as many lessons and problems
of a mode whether the other is there or not, so the hybrid's training is as long as the two others' together. Beside
them the specialists, `r1` and `direct`. Of the hybrids also: accuracy under thinking budgets, thinking in doubt only,
and conversations with histories of four kinds. All on held-out problems.
The file is written after every model; a benchmark that was stopped goes on behind the last one.
"""

import argparse
import contextlib
import dataclasses
import tempfile
from pathlib import Path

import store
import torch

from dsmini import zoo
from dsmini.tasks import adaptive, countdown, shell_game
from dsmini.tasks.conversations import HISTORIES, by_turn, converse
from dsmini.tasks.draw import Draw
from dsmini.tasks.measure import accuracy_at_budgets, held_out
from dsmini.tasks.measure_modes import MOST_SWAPS, MOST_TOKENS, measure_modes
from dsmini.tasks.modes import Asked
from dsmini.zoo import hybrid, make
from dsmini.zoo.recipe import find
from dsmini.zoo.run import Run

RESULT = Path(__file__).parent / "results" / "hybrid.json"
STUDENTS = {"hybrid": (True, False), "thinking alone": (True,), "direct alone": (False,)}
SPECIALISTS = {"r1": (True,), "direct": (False,)}
BUDGETS = (0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 60, 80, 100, 120, 150, 190)
TURNS, CONVERSATIONS = 4, 150


def trained(run, taught, modes):
    """(model as it is after SFT, and the report of it; model at the end): a student of these modes."""
    run.lap()  # this student is not to pay for the one before
    model = hybrid.fine_tuned(run, taught, modes)
    after_sft = measure_modes(model, thinking=modes)
    run.lap()  # the next stage is not to pay for this
    hybrid.reinforced(run, model, modes)
    return model, after_sft


def figures_of(model, modes):
    return measure_modes(model, problems=100, thinking=modes)


def budgets(model):
    """Accuracy under thinking budgets: task -> rows, see `accuracy_at_budgets`."""
    asked = {shell_game: held_out(shell_game, 200, swaps=(0, MOST_SWAPS)), countdown: held_out(countdown, 200)}
    return {
        task.__name__.rpartition(".")[2]: accuracy_at_budgets(
            model, task, problems, BUDGETS, samples=2, max_new_tokens=MOST_TOKENS[True], progress=False
        )
        for task, problems in asked.items()
    }


def in_doubt(model):
    """Thinking where the direct answer is doubtful, on problems of the mix: the figures of each, and the curve."""
    mix = held_out(shell_game, 300, swaps=(0, MOST_SWAPS)) + held_out(countdown, 300)
    both = adaptive.answer_in_both_modes(model, mix, samples=2, max_new_tokens=MOST_TOKENS[True])
    figures = {field.name: [round(v, 4) for v in getattr(both, field.name).tolist()]
               for field in dataclasses.fields(both)}  # fmt: skip
    return {"problems": [problem.prompt for problem in mix], **figures}


def histories(model):
    """Conversations whose turns are in random modes, under every rule of a history: rule -> rows, see `by_turn`.

    The last turn of each thinks; its problems are the same under every rule.
    """
    draw, questions = Draw("conversations", 0), []
    pool = held_out(shell_game, 200, seed=2, swaps=(2, MOST_SWAPS)) + held_out(countdown, 200, seed=2)
    for _ in range(CONVERSATIONS):
        modes = [draw.happens(1 / 2) for _ in range(TURNS - 1)] + [True]
        questions.append([Asked(draw.choice(pool), thinking) for thinking in modes])
    return {rule: by_turn(converse(model, questions, rule)) for rule in HISTORIES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--snapshots", type=Path, help="a folder that keeps the snapshots of the stages")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conditions = {"recipe": find("hybrid").hash(), "threads": 1, "versions": store.versions()}
    rows = store.read(RESULT, conditions)

    def add(**row):
        rows.append(row)
        store.write(RESULT, conditions, rows)
        print({name: value for name, value in row.items() if isinstance(value, int | float | str)}, flush=True)

    done = {(row["model"], row.get("seed")) for row in rows}
    for name, modes in SPECIALISTS.items():
        if (name, None) not in done:
            add(model=name, report=figures_of(zoo.load(name), modes))
    for seed in range(arguments.seeds):
        missing = {name: modes for name, modes in STUDENTS.items() if (name, seed) not in done}
        with contextlib.ExitStack() as stack:
            folder = arguments.snapshots or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(make.repeatable(seed))
            recipe = dataclasses.replace(find("hybrid"), seed=seed)
            runs = {name: Run(recipe, zoo.load, folder / f"{name.replace(' ', '-')}-{seed}") for name in missing}
            taught = hybrid.all_lessons(next(iter(runs.values()))) if missing else {}
            for name, modes in missing.items():
                model, after_sft = trained(runs[name], taught, modes)
                more = {}
                if name == "hybrid":
                    more = {"budgets": budgets(model), "in_doubt": in_doubt(model), "histories": histories(model)}
                add(model=name, seed=seed, cpu_seconds=round(runs[name].cpu_seconds, 1), after_sft=after_sft,
                    report=figures_of(model, modes), **more)  # fmt: skip


if __name__ == "__main__":
    main()
