"""Stored benchmark results of chapters 7 and 8: complete, and they say what the book says."""

import json
from pathlib import Path

import pytest

from dsmini import zoo
from dsmini.zoo.r1_zero import SETTINGS

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def stored(name):
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def test_r1_zero_reaches_its_targets_with_every_seed():
    base, *runs = stored("r1_zero.json")["rows"]
    assert base["model"] == "base" and base["greedy"] <= 0.15
    assert {run["seed"] for run in runs} >= {0, 1, 2} and len(runs) == len({run["seed"] for run in runs})
    for run in runs:
        assert run["pass@1"] >= 0.85 and run["greedy"] >= 0.95 and run["cpu_seconds"] <= 120
        assert run["tokens"] > 2 * base["tokens"] and run["direct"] < 0.02 < base["direct"]


def test_r1_zero_curves_are_those_of_whole_runs_and_of_the_shipped_model():
    _, *runs = stored("r1_zero.json")["rows"]
    for run in runs:
        assert {len(curve) for curve in run["curves"].values()} == {SETTINGS.steps}
        direct = run["curves"]["direct"]
        assert direct[0] > 0.4 and direct[-1] < 0.05
    (stage,) = zoo.record("r1-zero")["stages"]
    assert runs[0]["curves"]["reward"] == pytest.approx(stage["curves"]["reward"], abs=0.03)


@pytest.fixture(scope="module")
def stages():
    result = stored("r1_stages.json")
    return result["conditions"], {row["model"]: row for row in result["rows"]}


def test_r1_stages_are_those_of_the_shipped_recipe(stages):
    conditions, rows = stages
    record = zoo.record("r1")
    assert conditions["recipe"] == record["recipe"] and conditions["seed"] == record["seed"]
    assert list(rows) == ["base", "Dev1", "Dev2", "Dev3", "R1", "Dev2, accuracy alone", "R1-Zero"]
    names = [rows[model]["stage"] for model in ("Dev1", "Dev2", "Dev3", "R1")]
    assert names == [stage["name"] for stage in record["stages"]]
    assert all(rows[model]["cpu_seconds"] <= 300 for model in ("Dev1", "Dev2", "Dev3", "R1"))
    for kind, metrics in record["metrics"].items():  # of the same model, rounded to bfloat16
        for metric in ("pass@1", "direct", "consistency", "well_formed"):
            assert rows["R1"][kind][metric] == pytest.approx(metrics[metric], abs=0.06), (kind, metric)


def test_r1_stages_say_what_the_book_says(stages):
    _, rows = stages
    shell = {model: row["shell_game"] for model, row in rows.items()}
    assert shell["Dev1"]["consistency"] < 0.7 and shell["Dev2, accuracy alone"]["consistency"] < 0.9
    assert min(shell[model]["consistency"] for model in ("Dev2", "Dev3", "R1")) > 0.98
    assert shell["Dev2"]["pass@1"] > shell["Dev2, accuracy alone"]["pass@1"] - 0.03, "costs next to nothing"
    general = {model: row["general"] for model, row in rows.items()}
    assert general["Dev2"]["direct"] < 0.2 and min(general["Dev3"]["direct"], general["R1"]["direct"]) > 0.9
    assert general["Dev3"]["pass@1"] < general["Dev2"]["pass@1"], "an answer at once has its price"
    assert rows["R1"]["countdown"]["pass@1"] > 2 * rows["base"]["countdown"]["pass@1"]


@pytest.fixture(scope="module")
def countdown():
    rows = stored("countdown_rl.json")["rows"]
    return {(row["arm"], row.get("seed")): row for row in rows}


def test_countdown_doubles_what_it_solves_and_how_long_it_thinks(countdown):
    base, short = countdown["base", None], [row for (arm, _), row in countdown.items() if arm == "short"]
    assert len(short) >= 3
    for row in short:
        assert row["pass@1"] > 2 * base["pass@1"] and row["tokens"] > 2 * base["tokens"]
        assert row["cpu_seconds"] <= 120 and {len(curve) for curve in row["curves"].values()} == {60}
        assert row["right_given_yes"] > 0.9, "within the length that the base model has read, a yes means a yes"


def test_honesty_fades_with_length_and_a_reward_for_it_costs_nothing(countdown):
    short, long, honest = (countdown[arm, 0] for arm in ("short", "long", "long, honest"))
    assert long["tokens"] > 1.3 * short["tokens"] and long["right_given_yes"] < short["right_given_yes"] - 0.03
    place = {first: share for first, _, share in long["by_place"]}
    assert place[0] > place[6] > place[9]
    assert honest["pass@1"] > long["pass@1"] - 0.03 and honest["right_given_yes"] > long["right_given_yes"]
    for (first, count, share), (_, _, before) in zip(honest["by_place"], long["by_place"], strict=False):
        if count > 200:
            assert share > before, first


@pytest.fixture(scope="module")
def distillation():
    result = stored("distillation.json")
    return result["conditions"], {row["model"]: row for row in result["rows"]}


def test_distillation_is_that_of_the_shipped_student(distillation):
    conditions, rows = distillation
    record = zoo.record("r1-distilled")
    assert conditions["recipe"] == record["recipe"] and conditions["seed"] == record["seed"]
    assert list(rows) == ["student", "distilled", "RL, same CPU time", "RL, twice", "distilled, then RL", "teacher"]
    assert rows["RL, same CPU time"]["cpu_seconds"] >= rows["distilled"]["cpu_seconds"]
    assert rows["RL, twice"]["cpu_seconds"] >= 2 * rows["distilled"]["cpu_seconds"]
    for kind, metrics in record["metrics"].items():  # of the same model, rounded to bfloat16
        for metric in ("pass@1", "direct", "well_formed"):
            assert rows["distilled"][kind][metric] == pytest.approx(metrics[metric], abs=0.06), (kind, metric)


def test_distillation_says_what_the_book_says(distillation):
    _, rows = distillation
    taught = rows["distilled"]
    for name in ("RL, same CPU time", "RL, twice"):
        for kind, lead in (("shell_game", 0.02), ("countdown", 0.1), ("chains", 0.5)):
            assert taught[kind]["pass@1"] > rows[name][kind]["pass@1"] + lead, (name, kind)
        assert rows[name]["chains"]["pass@1"] < 0.05, "what a model never does right cannot be rewarded"
        assert rows[name]["general"]["pass@1"] > taught["general"]["pass@1"], "who thinks is right more often"
    assert rows["student"]["shell_game"]["pass@1"] < 0.2 < 0.9 < rows["RL, same CPU time"]["shell_game"]["pass@1"]


def test_ablations_change_one_thing_and_the_unchanged_recipe_ran_three_times():
    result = stored("grpo_ablations.json")
    assert result["conditions"]["recipe"] == zoo.record("r1-zero")["recipe"]
    runs = {(row["change"], row["seed"]) for row in result["rows"]}
    assert len(runs) == len(result["rows"]) and {(change, 0) for change, _ in runs} <= runs
    assert {seed for change, seed in runs if change == "as in r1-zero"} == {0, 1, 2}
    assert all(len(row["curves"]["reward"]) == result["conditions"]["steps"] for row in result["rows"])


def test_ablations_say_what_the_book_says():
    rows = {(row["change"], row["seed"]): row["pass@1"] for row in stored("grpo_ablations.json")["rows"]}
    luck = [rows["as in r1-zero", seed] for seed in range(3)]
    within = ("no standard deviation", "every token alike", "constant length", "4 updates, clip 0.2",
              "4 updates, no clip", "16 updates, an eighth of the rate")  # fmt: skip
    for change in within:
        assert min(luck) - 0.03 < rows[change, 0] < max(luck) + 0.03, change
    for change in ("learning rate 1e-4", "learning rate 3e-3", "16 updates, clip 0.2", "4 updates, inverted clip"):
        assert rows[change, 0] < min(luck) - 0.03, change
