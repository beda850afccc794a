"""R1: what was accepted, what its stages are fed, and that the shipped weights do what their record says."""

import pytest

from dsmini.language.frame import parse_response, response_text
from dsmini.language.tokenizer import SECOND_LANGUAGE
from dsmini.tasks import chains, countdown, shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.measure import measure_shell_game
from dsmini.zoo import r1

NAME = "r1"


@pytest.mark.parametrize(("kind", "metric"), r1.ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, kind, metric):
    low, high = r1.ACCEPTED[kind, metric]
    assert low <= shipped[1]["metrics"][kind][metric] <= high


def test_thresholds_are_those_that_later_chapters_build_on():
    assert r1.ACCEPTED["shell_game", "pass@1"][0] >= 0.9 and r1.ACCEPTED["countdown", "pass@1"][0] >= 0.5


def test_four_stages_of_at_most_300_cpu_seconds(shipped):
    record = shipped[1]
    names = ["cold-start", "reasoning-rl", "rejection-sft", "all-scenarios-rl"]
    assert [stage["name"] for stage in record["stages"]] == names
    assert record["cpu_seconds"] <= 600


def test_shipped_weights_do_on_other_problems_what_the_record_says(shipped):
    """Other held-out problems than the record's, and fewer: four standard errors of leeway for the draw."""
    model, record = shipped
    measured = r1.evaluate(model, problems=40, samples=4, seed=7)
    leeway = {("shell_game", "pass@1"): 0.1, ("shell_game", "consistency"): 0.05, ("countdown", "pass@1"): 0.25,
              ("chains", "pass@1"): 0.1, ("general", "direct"): 0.1, ("general", "pass@1"): 0.2}  # fmt: skip
    for (kind, metric), width in leeway.items():
        recorded = record["metrics"][kind][metric]
        assert measured[kind][metric] == pytest.approx(recorded, abs=width), f"{kind} {metric}"
    assert measure_shell_game(model, 60, 4, seed=8, swaps=(0, 9))["pass@1"] >= 0.85


def test_cold_start_is_right_and_its_shell_games_are_in_two_languages():
    examples = r1.written(300, seed=3)
    assert examples == r1.written(300, seed=3) != r1.written(300, seed=4)
    languages = {"digits": 0, "words": 0, "both": 0}
    for prompt, text in examples:
        response = parse_response(text)
        assert response is not None
        words = response.thought.split()
        if "cups" in prompt and len(words) >= 12:
            own, foreign = any(w.isdigit() for w in words), any(w in SECOND_LANGUAGE for w in words)
            languages["both" if own and foreign else "digits" if own else "words"] += 1
        elif "cups" not in prompt:
            assert not set(words) & set(SECOND_LANGUAGE)
    assert min(languages.values()) > 0.15 * sum(languages.values())


def test_only_good_answers_are_taught():
    game = shell_game.ShellGame((2, 4), ((1, 2),))
    right = response_text("a 1-2 1 4", "1 4")
    assert r1.is_good(game, right)
    assert not r1.is_good(game, response_text("a 1-2 one four", "1 4")), "another language"
    assert not r1.is_good(game, response_text("a 1-2 1 4", "1 3")), "wrong"
    assert not r1.is_good(game, "a 1-2 1 4"), "cut off"


def test_what_the_teacher_said_is_filtered(monkeypatch):
    """Half of the answers of this teacher are right; each is offered twice."""

    def ask(model, problems, samples, **_):
        said = []
        for problem in problems:
            good, bad = response_text("", problem.answer), response_text("", "63")
            said.append([good, bad] * (samples // 2))
        return said

    monkeypatch.setattr(r1, "ask", ask)
    taught = r1.rejection_sampled(None, 200, seed=0)
    assert len(taught) == 200, "one answer a problem: the second is the same"
    kinds = {"cups": shell_game, "reach": countdown}
    found = {kinds.get(prompt.split("｜>")[2].split()[0], chains) for prompt, _ in taught}
    assert found == {shell_game, countdown, chains}


def test_simple_questions_are_answered_at_once_and_brevity_is_for_them_alone():
    questions = r1.general(50, seed=0)
    assert {("cups" in prompt, len(prompt.split()) <= 5) for prompt, _ in questions} == {(True, True), (False, True)}
    assert all(parse_response(text).thought == "" for _, text in questions)
    simple, hard = chains.Chain(("7", "*", "3")), chains.Chain(("7", "*", "3", "-", "5", "+", "1"))
    assert r1.brevity(simple, response_text("", "21")) == 1
    assert r1.brevity(simple, response_text("7 * 3 = 21", "21")) == pytest.approx(0.5)
    assert r1.brevity(simple, response_text("", "20")) == 1, "it does not know what is right"
    assert r1.brevity(simple, "21") == 0, "no response"
    assert r1.brevity(hard, response_text("", "17")) == 0
    assert r1.brevity(shell_game.sample(Draw(0)), response_text("", "1 2")) == 0
