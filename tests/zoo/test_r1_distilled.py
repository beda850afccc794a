"""The distilled student: what was accepted, its size, and that the shipped weights do what their record says."""

import pytest

from dsmini.language.frame import parse_response, response_text
from dsmini.zoo import r1, r1_distilled, store
from dsmini.zoo.recipe import find

NAME = "r1-distilled"


@pytest.mark.parametrize(("kind", "metric"), r1_distilled.ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, kind, metric):
    low, high = r1_distilled.ACCEPTED[kind, metric]
    assert low <= shipped[1]["metrics"][kind][metric] <= high


def test_student_is_dense_and_less_than_half_its_teacher(shipped):
    model, record = shipped
    teacher = store.decode(store.read(store.SHIPPED, find("r1"))[0])
    sizes = [sum(weight.numel() for weight in m.parameters()) for m in (model, teacher)]
    assert 150_000 <= sizes[0] <= 250_000 and 2 * sizes[0] < sizes[1]
    assert model.config.n_routed_experts is None and not model.mtp and model.config.attention == "mla"
    assert record["cpu_seconds"] <= 300


def test_shipped_weights_do_on_other_problems_what_the_record_says(shipped):
    """Other held-out problems than the record's, and fewer: four standard errors of leeway for the draw."""
    model, record = shipped
    measured = r1.evaluate(model, problems=40, samples=4, seed=7)
    leeway = {("shell_game", "pass@1"): 0.15, ("countdown", "pass@1"): 0.25, ("chains", "pass@1"): 0.15,
              ("general", "direct"): 0.1}  # fmt: skip
    for (kind, metric), width in leeway.items():
        recorded = record["metrics"][kind][metric]
        assert measured[kind][metric] == pytest.approx(recorded, abs=width), f"{kind} {metric}"


def test_lessons_are_what_the_teacher_said_rightly_and_simple_questions_are_among_them(monkeypatch):
    def ask(model, problems, samples, **_):
        return [[response_text("", problem.answer)] for problem in problems]

    monkeypatch.setattr(r1, "ask", ask)
    lessons = r1_distilled.lessons(None, 500, seed=0)
    assert len(lessons) == 600 and all(parse_response(text) is not None for _, text in lessons)
    short = [prompt for prompt, _ in lessons if "reach" not in prompt and len(prompt.split()) <= 5]
    assert len(short) == 100
