"""Stored benchmark result of chapter 9: complete, of the shipped recipe, and it says what the book says."""

import json
from pathlib import Path
from statistics import mean

import pytest

from dsmini.tasks.adaptive import BothModes, adaptive_curve
from dsmini.tasks.conversations import HISTORIES
from dsmini.tasks.countdown import Countdown
from dsmini.tasks.draw import split_of
from dsmini.zoo import store
from dsmini.zoo.recipe import find

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "hybrid.json"
SEEDS = (0, 1, 2)
MODES = {"hybrid": ("thinking", "direct"), "thinking alone": ("thinking",), "direct alone": ("direct",),
         "r1": ("thinking",), "direct": ("direct",)}  # fmt: skip
SPECIALISTS, ALONE = {"thinking": "r1", "direct": "direct"}, {"thinking": "thinking alone", "direct": "direct alone"}
DIFFICULTIES = [("shell_game", str(swaps)) for swaps in range(10)] + [("countdown", "all")]


@pytest.fixture(scope="module")
def stored():
    """(conditions, rows by model and seed); a specialist has no seed."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    rows = {(row["model"], row.get("seed")): row for row in result["rows"]}
    assert len(rows) == len(result["rows"]), "no model twice"
    return result["conditions"], rows


@pytest.fixture(scope="module")
def rows(stored):
    return stored[1]


def record(name):
    """The shipped record; fails where it is not the recipe's, and trains nothing."""
    return store.read(store.SHIPPED, find(name))[1]


def over_seeds(rows, model, mode, task, difficulty, metric):
    """The mean of a model's figure over the seeds; a specialist's own figure."""
    return mean(row["report"][mode][task][difficulty][metric] for (name, _), row in rows.items() if name == model)


def test_hybrid_was_measured_with_the_recipe_that_is_shipped_and_with_three_seeds(stored):
    conditions, rows = stored
    assert conditions["recipe"] == find("hybrid").hash() == record("hybrid")["recipe"]
    students = [(model, seed) for seed in SEEDS for model in ("hybrid", "thinking alone", "direct alone")]
    assert list(rows) == [("r1", None), ("direct", None), *students]


def test_every_model_is_measured_in_its_modes_at_every_difficulty(rows):
    for (model, seed), row in rows.items():
        for report in (row["report"], *([row["after_sft"]] if seed is not None else [])):
            assert tuple(report) == MODES[model]
            for tasks in report.values():
                assert list(tasks["shell_game"]) == [*map(str, range(10)), "all"] and list(tasks["countdown"]) == [
                    "all"
                ]
                games = [tasks["shell_game"][str(swaps)] for swaps in range(10)]
                for metric, value in tasks["shell_game"]["all"].items():
                    over = max if metric == "longest" else mean
                    assert value == pytest.approx(over(game[metric] for game in games)), metric


def test_stages_keep_to_their_time_and_the_hybrids_take_as_long_as_both_others_together(rows):
    for seed in SEEDS:
        hybrid, thinking, direct = (rows[model, seed]["cpu_seconds"] for model in list(MODES)[:3])
        assert hybrid <= 600, "two stages of at most 300"
        assert hybrid == pytest.approx(thinking + direct, rel=0.3)


@pytest.mark.parametrize("mode", ["thinking", "direct"])
@pytest.mark.parametrize(("task", "difficulty"), DIFFICULTIES)
def test_hybrid_is_within_five_points_of_its_specialist_or_better(rows, mode, task, difficulty):
    """On the mean of the seeds."""
    figure = over_seeds(rows, "hybrid", mode, task, difficulty, "pass@1")
    assert figure >= over_seeds(rows, SPECIALISTS[mode], mode, task, difficulty, "pass@1") - 0.05


@pytest.mark.parametrize("mode", ["thinking", "direct"])
@pytest.mark.parametrize("task", ["shell_game", "countdown"])
def test_hybrid_is_within_five_points_of_the_student_that_learnt_this_mode_alone(rows, mode, task):
    """Over all difficulties, on the mean of the seeds: what two modes in one set of weights cost."""
    figure = over_seeds(rows, "hybrid", mode, task, "all", "pass@1")
    assert figure >= over_seeds(rows, ALONE[mode], mode, task, "all", "pass@1") - 0.05


def test_every_hybrid_reaches_its_targets(rows):
    """The shell game by thinking, at every length; answers at once of at most six tokens; hardly a leak."""
    for seed in SEEDS:
        thinking, direct = (rows["hybrid", seed]["report"][mode] for mode in ("thinking", "direct"))
        assert thinking["shell_game"]["all"]["pass@1"] >= 0.9
        assert min(row["pass@1"] for row in thinking["shell_game"].values()) >= 0.8
        assert all(mode[task]["all"]["leaks"] <= 0.01 for mode in (thinking, direct) for task in mode)
        # of countdown the right answers have six, and a few of the sampled never stop
        assert direct["shell_game"]["all"]["tokens"] <= 3.1 and direct["countdown"]["all"]["tokens"] <= 6.1
        for row in (*direct["shell_game"].values(), direct["countdown"]["all"]):
            assert row["longest"] <= 12 and row["whole"] >= 0.98
        for swaps in ("7", "8", "9"):
            ahead = thinking["shell_game"][swaps]["pass@1"] - direct["shell_game"][swaps]["pass@1"]
            assert ahead > 0.7, "what a thought is good for"


def test_mean_leak_is_at_most_one_in_a_hundred_at_every_difficulty(rows):
    for mode in ("thinking", "direct"):
        for task, difficulty in DIFFICULTIES:
            assert over_seeds(rows, "hybrid", mode, task, difficulty, "leaks") <= 0.01, (mode, task, difficulty)


def test_specialists_are_what_the_hybrid_is_measured_against(rows):
    """An answer at once is worth something; the thinker says nothing where there is little to think about."""
    direct, r1 = rows["direct", None]["report"]["direct"], rows["r1", None]["report"]["thinking"]
    assert direct["shell_game"]["all"]["greedy"] >= 0.3 and direct["countdown"]["all"]["greedy"] >= 0.3
    assert r1["shell_game"]["all"]["pass@1"] > 0.9 and r1["shell_game"]["0"]["leaks"] > 0.9
    assert rows["direct", None]["report"]["direct"] == record("direct")["metrics"]["direct"]


def test_first_hybrid_is_the_shipped_one(rows):
    """The same seed; the shipped one is rounded to bfloat16 and measured on other problems."""
    metrics = record("hybrid")["metrics"]
    for mode, tasks in rows["hybrid", 0]["report"].items():
        for task, figures in tasks.items():
            for metric in ("pass@1", "leaks", "whole"):
                assert figures["all"][metric] == pytest.approx(metrics[mode][task]["all"][metric], abs=0.06)


# ---- budgets, doubt, histories --------------------------------------------------------------------------------------


def hybrids(rows):
    return [rows["hybrid", seed] for seed in SEEDS]


def test_thinking_budget_buys_accuracy(rows):
    for row in hybrids(rows):
        for task, curve in row["budgets"].items():
            budgets = [point["budget"] for point in curve]
            assert budgets == sorted(set(budgets)) and budgets[0] == 0
            assert curve[0]["tokens"] == 0 and curve[0]["forced"] == 1
            for before, after in zip(curve, curve[1:], strict=False):
                assert before["tokens"] <= after["tokens"] <= after["budget"]
                assert before["forced"] >= after["forced"]
            whole = row["report"]["thinking"][task]["all"]["pass@1"]
            assert curve[-1]["accuracy"] == pytest.approx(whole, abs=0.1), "the longest budget hardly binds"
            assert curve[-1]["accuracy"] > curve[0]["accuracy"] + 0.2
        games = [point["accuracy"] for point in row["budgets"]["shell_game"]]
        assert all(later > earlier - 0.03 for earlier, later in zip(games, games[1:], strict=False))
        half = {point["budget"]: point["accuracy"] for point in row["budgets"]["countdown"]}
        assert half[4] < 0.1 < half[0], "half an attempt is worth less than none"


def test_thinking_about_a_tenth_to_a_half_in_doubt_beats_the_coin_at_equal_tokens(rows):
    for row in hybrids(rows):
        prompts = row["in_doubt"]["problems"]
        assert len(set(prompts)) == len(prompts) == 600 and sum("cups" in prompt for prompt in prompts) == 300
        assert {split_of(prompt) for prompt in prompts if "cups" in prompt} == {"test"}
        for words in (prompt.split() for prompt in prompts if "cups" not in prompt):
            assert Countdown(tuple(map(int, words[3:])), int(words[1])).split == "test"
        both = BothModes(**{name: values for name, values in row["in_doubt"].items() if name != "problems"})
        assert both.thinking_right.mean() > both.direct_right.mean() + 0.3
        assert both.thinking_tokens.mean() > 10 * both.direct_tokens.mean()
        ahead = [point["accuracy"] - point["coin"] for point in adaptive_curve(both) if 0.1 < point["share"] < 0.5]
        assert sum(ahead) / len(ahead) > 0.02 and max(ahead) > 0.04


def test_histories_are_of_the_same_questions_and_cost_what_they_hold(rows):
    for row in hybrids(rows):
        told = row["histories"]
        assert list(told) == list(HISTORIES) and {len(turns) for turns in told.values()} == {4}
        first = {rule: turns[0] for rule, turns in told.items()}
        assert all(turn == first["V3.1"] for turn in first.values()), "before there is a history"
        second = {rule: turns[1]["read"] for rule, turns in told.items()}  # of the same first answers
        assert second["empty pair"] - second["V3.1"] == pytest.approx(1, abs=1e-9) == second["V3.1"] - second["no tag"]
        for rule, turns in told.items():
            assert [turn["read"] for turn in turns] == sorted(turn["read"] for turn in turns)
            assert rule == "thoughts kept" or turns[3]["read"] < 0.5 * told["thoughts kept"][3]["read"]


def test_old_thoughts_cost_tokens_and_accuracy(rows):
    """The last turn thinks, behind three others."""
    last = {rule: {name: mean(row["histories"][rule][3][name] for row in hybrids(rows))
                   for name in ("read", "said", "accuracy")} for rule in HISTORIES}  # fmt: skip
    right, kept = last["V3.1"], last["thoughts kept"]
    assert kept["read"] > 2 * right["read"] and kept["said"] > right["said"]
    assert kept["accuracy"] < right["accuracy"] - 0.2
    assert right["accuracy"] > max(last[rule]["accuracy"] for rule in HISTORIES) - 0.03, "no rule is better"
