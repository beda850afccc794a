"""What the guides print is so: commands, files, figures, messages and the times in their tables."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

import book_classroom
import figures
from dsmini.check import Wrong

ROOT = Path(__file__).parents[1]
GUIDES = {name: (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8") for name in ("instructors", "students")}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDES[name], re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", GUIDES)
def test_commands_and_files_exist(name):
    text = GUIDES[name]
    targets = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(blocks(name, "text") + re.findall(r"`(.*?)`", text))))
    assert targets and [target for target in targets if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)] == []
    made = ("assignments/release", "assignments/graded", "assignments/gradebook")
    paths = [path for path in re.findall(r"\b(?:assignments|book)/[\w./-]*[\w/]", text) if not path.startswith(made)]
    paths = [path.replace("SET", "v3") for path in paths]
    assert paths and [path for path in paths if not (ROOT / path).exists()] == []
    tools = re.findall(r"python (assignments/_tools/\w+\.py)(.*)", text)
    for path, rest in tools:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert [option for option in re.findall(r"--\w+", rest) if f'"{option}"' not in source] == []


def test_figures_that_are_recommended_are_exported():
    table = GUIDES["instructors"].split("## Figures for slides")[1]
    named = re.findall(r"`(\d\d-[a-z0-9-]+)`", table)
    exported = {one.name for path in book_classroom.chapters().values() for one in figures.figures(path)}
    assert len(named) > 20 and [name for name in named if name not in exported] == []


def test_answers_of_the_self_test_are_right():
    (answers,) = [code for code in blocks("instructors", "python") if "einsum" in code]
    assert answers.count("assert") == 6
    exec(answers, {})


def test_checks_say_what_the_students_page_prints():
    (code,) = [code for code in blocks("students", "python") if "close(" in code]
    with pytest.raises(Wrong) as caught:
        exec(code, {})
    start = re.search(r"# Wrong: (.*?) \.\.\.", code)[1]
    assert str(caught.value).startswith(start) and "1 of 4 values differ" in str(caught.value)


def test_a_chapter_s_numbers_are_those_of_its_page():
    for number, path in book_classroom.chapters().items():
        text, about = path.read_text(encoding="utf-8"), book_classroom.chapter(number)
        assert about["title"].startswith(f"{number}. ") and about["exercises"] == text.count("{exercise} ")
        cost = f"takes {about['seconds']:.0f} CPU seconds and {about['mib']:,.0f} MiB"
        assert cost in text and 10 < about["reading"] < 150 and 5 * about["exercises"] <= about["minutes"]
    assert sorted(book_classroom.chapters()) == list(range(len(book_classroom.chapters())))


def test_solutions_are_not_read_as_text():
    hidden = ":::{solution} ex-a\n:class: dropdown\n\nMany words.\n\n```python\nx\n```\n:::\n"
    assert book_classroom.BLOCK.sub("", f"Before.\n\n{hidden}\nAfter.").split() == ["Before.", "After."]


@pytest.mark.parametrize(("minutes", "text"), [(0, "0"), (1, "½"), (30, "½"), (31, "1"), (60, "1"), (61, "1½")])
def test_hours_are_rounded_up_to_halves(minutes, text):
    assert book_classroom.hours(minutes) == text


def test_a_plan_reads_chapters_and_shares_of_problem_sets():
    assert book_classroom.numbers("0-2, 5") == [0, 1, 2, 5]
    assert (
        book_classroom.shares("v3 1/2, rlvr") == {"v3": Fraction(1, 2), "rlvr": 1} and book_classroom.shares("") == {}
    )


def test_problem_sets_have_their_points_and_minutes():
    for name in ("v3", "rlvr", "hybrid", "sparse"):
        about = book_classroom.problem_set(name)
        assert about["points"] == 30 and 5 <= len(about["functions"]) <= 7 and 60 <= about["minutes"] <= 120, name


def test_plans_hand_every_chapter_and_every_problem_set_out_once():
    plans = re.findall(r"```\{course-plan\}\n:class: \d+\n(.*?)```", GUIDES["instructors"], re.DOTALL)
    for plan, weeks in zip(plans, (4, 8), strict=True):
        rows = [[part.strip() for part in line.split("|")] for line in plan.strip().splitlines()]
        assert [int(row[0]) for row in rows] == list(range(1, weeks + 1))
        assert sum((book_classroom.numbers(row[1]) for row in rows), []) == sorted(book_classroom.chapters())
        for name in ("v3", "rlvr", "hybrid", "sparse"):
            assert sum(f"`{name}` out" in row[4] for row in rows) == 1, name
