"""Countdown learnt from its reward alone, for chapter 8: thoughts grow; do they stay honest?

    python benchmarks/countdown_rl.py [--seeds 3]

The base model of the zoo, GRPO, accuracy as the reward. Three arms. `short`: answers of at most 120 tokens, which with
the question is about what the base model has read in one piece (128). `long`: at most 250 tokens, so that thoughts may
grow to where the base model has never been. `long, honest`: the same, and half a point for a thought whose every sum,
number and mark is right. A seed decides the problems and the samples; the held-out problems are the same for all. The
first row is the base model. The file is written after every run, so a benchmark that was stopped goes on where it was.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import store
import torch

from dsmini import zoo
from dsmini.language.frame import parse_response
from dsmini.tasks import countdown
from dsmini.tasks.measure import ask, held_out, measure_countdown, thoughts_of
from dsmini.tasks.rewards import accuracy, combined
from dsmini.tasks.stream import stream
from dsmini.training.rlvr import GRPOSettings, train_grpo
from dsmini.zoo.recipe import find

RESULT = Path(__file__).parent / "results" / "countdown_rl.json"
SHORT = GRPOSettings(steps=60, prompts=20, group_size=12, max_new_tokens=120, learning_rate=5e-4)
LONG = dataclasses.replace(SHORT, steps=30, max_new_tokens=250)
ATTEMPTS_A_ROW = 3  # of `by_place`


def honest(problem, text):
    """1.0 for a thought of attempts that are right in every sum, number and mark, whether one succeeds or not."""
    response = parse_response(text)
    attempts = countdown.read_attempts(problem, response.thought) if response else []
    return float(bool(attempts) and all(is_honest(attempt) for attempt in attempts))


def is_honest(attempt):
    return attempt is not None and all(attempt.sums_right) and attempt.numbers_right and attempt.mark_right


# name -> settings, reward
ARMS = {
    "short": (SHORT, combined(accuracy=(accuracy, 1.0))),
    "long": (LONG, combined(accuracy=(accuracy, 1.0))),
    "long, honest": (LONG, combined(accuracy=(accuracy, 1.0), honest=(honest, 0.5))),
}


def by_place(model, max_new_tokens, problems=100, samples=8, seed=0):
    """Attempts of whole answers by their place in the thought: rows of (first place, attempts, share honest)."""
    asked = held_out(countdown, problems, seed)
    texts = ask(model, asked, samples, max_new_tokens=max_new_tokens, seed=seed)
    places = {}
    for problem, thought in thoughts_of(asked, texts):
        for i, attempt in enumerate(countdown.read_attempts(problem, thought or "")):
            places.setdefault(i - i % ATTEMPTS_A_ROW, []).append(is_honest(attempt))
    return [[place, len(seen), round(sum(seen) / len(seen), 3)] for place, seen in sorted(places.items())]


def grown(model, max_new_tokens):
    """What a model can do within a limit: metrics for a row."""
    metrics = measure_countdown(model, max_new_tokens=max_new_tokens)
    return {"limit": max_new_tokens, **metrics, "by_place": by_place(model, max_new_tokens)}


def measure(arm, seed):
    """Train one arm with one seed; returns a row of the result file."""
    settings, reward = ARMS[arm]
    model = zoo.load("base").without_mtp()
    start = time.process_time()
    history = train_grpo(model, stream(countdown, settings.prompts, seed), reward, settings, seed, progress=False)
    seconds = time.process_time() - start
    names = ("accuracy", "tokens", "stopped", "entropy", "zero_groups")
    curves = {name: [round(entry[name], 3) for entry in history] for name in names}
    return {
        "arm": arm,
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        **grown(model, settings.max_new_tokens),
        "curves": curves,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds of the arm `short`, from 0 (default 3)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conditions = {
        "base": find("base").hash(),
        "settings": {arm: dataclasses.asdict(settings) for arm, (settings, _) in ARMS.items()},
        "threads": 1,
        "versions": store.versions(),
    }
    rows = store.read(RESULT, conditions) or [{"arm": "base", **grown(zoo.load("base"), 250)}]
    jobs = [("short", 0), ("long", 0), ("long, honest", 0), *(("short", seed) for seed in range(1, arguments.seeds))]
    for arm, seed in jobs:
        if (arm, seed) not in {(row["arm"], row.get("seed")) for row in rows}:
            rows.append(measure(arm, seed))
            store.write(RESULT, conditions, rows)
            print({name: value for name, value in rows[-1].items() if name != "curves"}, flush=True)


if __name__ == "__main__":
    main()
