"""The direct answerer: what was accepted, what it is taught, and that the shipped weights do what their record says."""

from types import SimpleNamespace

import pytest

from dsmini.language.chat import render
from dsmini.language.tokenizer import ASSISTANT, END_THINK, EOS, TOKENIZER, USER
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.countdown import Countdown
from dsmini.tasks.measure import ask, held_out
from dsmini.tasks.measure_modes import measure_modes
from dsmini.tasks.modes import in_mode, leaks, said_text
from dsmini.tasks.shell_game import ShellGame
from dsmini.zoo import direct

NAME = "direct"


def problem_of(question):
    """The problem that a question's text is of."""
    kind, *words = question.split()
    if kind == "reach":
        return Countdown(tuple(map(int, words[2:])), int(words[0]))
    return ShellGame(tuple(map(int, words[:2])), tuple(tuple(map(int, swap.split("-"))) for swap in words[3::2]))


def verdict(problem, answer):
    """Whether it is right, by the verifier of its task."""
    return (countdown if isinstance(problem, Countdown) else shell_game).is_right(problem, answer)


@pytest.mark.parametrize(("task", "metric"), direct.ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, task, metric):
    low, high = direct.ACCEPTED[task, metric]
    assert low <= shipped[1]["metrics"]["direct"][task]["all"][metric] <= high


def test_thresholds_are_those_that_chapter_9_builds_on():
    """Over all difficulties: an answer at once is worth something."""
    assert min(low for low, _ in direct.ACCEPTED.values()) >= 0.3
    assert {(task, "greedy") for task in ("shell_game", "countdown")} <= direct.ACCEPTED.keys()


def test_one_stage_of_at_most_300_cpu_seconds(shipped):
    model, record = shipped
    (stage,) = record["stages"]
    assert stage["name"] == "direct" and stage["steps"] == direct.SETTINGS.steps
    assert record["cpu_seconds"] <= 300 and set(record["parents"]) == {"base"} and not model.mtp


def test_it_answers_in_at_most_six_tokens_and_never_thinks(shipped):
    """Sampled, one answer in hundreds to a countdown may never stop; the likeliest answers always do."""
    model, record = shipped
    rows = record["metrics"]["direct"]
    assert list(rows["shell_game"]) == [*map(str, range(10)), "all"]
    for row in rows["shell_game"].values():
        assert row["longest"] <= 6 and row["leaks"] == 0 and row["whole"] > 0.99
    row = rows["countdown"]["all"]
    assert row["tokens"] <= 6.1 and row["leaks"] == 0 and row["whole"] > 0.99
    asked = in_mode(held_out(shell_game, 40, seed=8, swaps=(0, 9)) + held_out(countdown, 100, seed=8), False)
    for problem, (text,) in zip(asked, ask(model, asked, temperature=0, max_new_tokens=12), strict=True):
        assert not leaks(problem, text) and len(TOKENIZER.encode(said_text(problem, text))) <= 6, text


def test_what_cannot_be_seen_at_once_is_guessed(shipped):
    """Few swaps are looked up, many are a guess among 20 pairs of cups."""
    rows = {int(swaps): row for swaps, row in shipped[1]["metrics"]["direct"]["shell_game"].items() if swaps != "all"}
    assert min(rows[0]["greedy"], rows[1]["greedy"]) > 0.8 > rows[3]["greedy"]
    assert all(rows[swaps]["greedy"] < 0.2 for swaps in (7, 8, 9))
    assert sum(row["greedy"] for row in rows.values()) / 10 == pytest.approx(
        shipped[1]["metrics"]["direct"]["shell_game"]["all"]["greedy"]
    )


def test_shipped_weights_do_on_other_problems_what_the_record_says(shipped):
    """Other held-out problems than the record's, and fewer: four standard errors of leeway for the draw."""
    model, record = shipped
    measured = measure_modes(model, problems=40, samples=2, seed=7, thinking=(False,))["direct"]
    leeway = {("shell_game", "greedy"): 0.1, ("shell_game", "pass@1"): 0.08, ("shell_game", "tokens"): 0.05,
              ("shell_game", "leaks"): 0.01, ("countdown", "greedy"): 0.18, ("countdown", "pass@1"): 0.15,
              ("countdown", "tokens"): 0.1}  # fmt: skip
    for (task, metric), width in leeway.items():
        recorded = record["metrics"]["direct"][task]["all"][metric]
        assert measured[task]["all"][metric] == pytest.approx(recorded, abs=width), f"{task} {metric}"


def test_lessons_are_right_answers_to_problems_of_the_train_split():
    examples = direct.written(400, seed=3)
    assert examples == direct.written(400, seed=3) != direct.written(400, seed=4)
    problems = [problem_of(prompt.partition(USER)[2].partition(ASSISTANT)[0]) for prompt, _ in examples]
    for (prompt, text), problem in zip(examples, problems, strict=True):
        message = {"role": "user", "content": problem.prompt}
        assert prompt == render([message], "deepseek-v3.1", thinking=False) and prompt.endswith(END_THINK)
        answer, end, rest = text.partition(EOS)
        assert (end, rest) == (EOS, "") and END_THINK not in answer and verdict(problem, answer)
        assert len(TOKENIZER.encode(prompt + text)) <= direct.SETTINGS.context and len(TOKENIZER.encode(text)) <= 6
    assert {problem.split for problem in problems} == {"train"}


def test_lessons_are_of_the_mix_of_chapter_9_and_any_right_answer_will_do():
    examples = direct.written(1000, seed=5)
    swaps = [text.split(ASSISTANT)[0].count("-") for text, _ in examples if "cups" in text]
    assert 0.4 < len(swaps) / 1000 < 0.6 and set(swaps) == set(range(10))
    assert min(swaps.count(number) for number in range(10)) > 25
    first = [problem_of(prompt.partition(USER)[2].partition(ASSISTANT)[0]).answer + EOS == text
             for prompt, text in examples if "reach" in prompt]  # fmt: skip
    assert 0.1 < sum(first) / len(first) < 0.9, "not always the first of the solutions"


def test_longest_lesson_fits_the_context():
    longest = ShellGame((1, 2), ((1, 2),) * direct.MOST_SWAPS)
    question = render([{"role": "user", "content": longest.prompt}], "deepseek-v3.1", thinking=False)
    assert len(TOKENIZER.encode(f"{question}{longest.answer}{EOS}")) <= direct.SETTINGS.context


def test_every_example_comes_once(monkeypatch):
    """As many are written as are read."""
    calls = {}
    monkeypatch.setattr(direct, "written", lambda count, seed: calls.update(written=(count, seed)))
    run = SimpleNamespace(rehearsing=False, seed=11, load=lambda name: calls.setdefault("model", f"model {name}"),
                          fine_tune=lambda *arguments: calls.update(stage=arguments))  # fmt: skip
    assert direct.build(run) == "model base"
    assert calls["written"] == (direct.SETTINGS.steps * direct.SETTINGS.batch_size, 11)
    assert calls["stage"] == ("direct", "model base", None, direct.SETTINGS)
