"""A folder as a class hands it in, badly: every student has a row, a score and a reason, and nobody another's."""

import csv
import json
import re
import zipfile

import example
import pytest

import grade
import sandbox
import sets
from collect import Names, collect
from course import Course
from repair import repair

needs_links = pytest.mark.skipif(not hasattr(__import__("os"), "symlink"), reason="no links here")
GOOD = {"scaled": example.SCALED, "first_peak": example.FIRST_PEAK, "written": "A tie needs a rule."}
NO_ZERO = "def scaled(x, by):\n    return x * by"
LIMITS = sandbox.Limits(cell=1.5, test=1.5, wall=20.0)


def put(path, notebook):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = notebook if isinstance(notebook, str) else json.dumps(notebook)
    student = path.stem.removesuffix("_example") if path.parent.name == "in" else path.parent.name
    path.write_text(text.replace("your-id", student), encoding="utf-8")


def marked(notebook, grade_id):
    return next(c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)


def hand_in(folder, release):
    """The submissions: each is what one student did."""

    def answered(**answers):
        return example.answered(release, **GOOD | answers)

    put(folder / "good" / "example.ipynb", answered())
    put(folder / "renamed" / "my homework (3).ipynb", answered())
    put(folder / "flat_example.ipynb", answered(scaled=NO_ZERO))
    put(folder / "broken" / "example.ipynb", '{"cells": [')
    put(folder / "foreign" / "example.ipynb", {"cells": [{"cell_type": "code", "source": "1", "metadata": {}}]})
    put(folder / "odd" / "example.ipynb", {"cells": [7, {"source": {}}, {"metadata": []}, *answered()["cells"]]})
    (folder / "empty").mkdir()
    put(folder / "text" / "notes.txt", "I could not do it")

    deleted = answered()
    deleted["cells"] = [c for c in deleted["cells"] if "nbgrader" not in c["metadata"] or "scaled" not in str(c)]
    put(folder / "deleted" / "example.ipynb", deleted)
    doubled = answered()
    again = dict(marked(doubled, "scaled"), source=NO_ZERO)
    doubled["cells"].insert(4, again)
    doubled["cells"].append(dict(marked(doubled, "scaled-hidden"), source="pass"))
    put(folder / "doubled" / "example.ipynb", doubled)
    changed = answered(scaled="def scaled(x, by):\n    return 0")
    for name in ("scaled-public", "scaled-hidden"):
        marked(changed, name)["source"] = "pass"
        marked(changed, name)["metadata"]["nbgrader"]["points"] = 100
    put(folder / "changed" / "example.ipynb", changed)
    unmarked = answered()
    for cell in unmarked["cells"]:
        cell["metadata"] = {}
    put(folder / "unmarked" / "example.ipynb", unmarked)
    put(folder / "=1+1" / "example.ipynb", answered(scaled="def scaled(x, by):\n    raise ValueError('<script>')"))
    with zipfile.ZipFile(folder / "zipped.zip", "w") as archive:
        archive.writestr("example.ipynb", json.dumps(answered()))
        archive.writestr("../../escape.ipynb", "{}")
        archive.writestr("__MACOSX/._example.ipynb", "junk")
    (folder / "torn.zip").write_bytes(b"PK\x03\x04 torn")


EXPECTED = {  # student: (scaled of 3, first_peak of 4, written of 5), and what the notes say
    "good": (3, 4, None, "^$"),
    "renamed": (3, 4, None, "^$"),
    "flat": (1, 4, None, "zero is refused: no error where one was expected"),
    "broken": (0, 0, 0, "no notebook: broken JSON"),
    "foreign": (0, 0, 0, "belongs to no problem set"),
    "odd": (3, 4, None, "^$"),
    "empty": (0, 0, 0, "no notebook of this problem set was handed in"),
    "text": (0, 0, 0, "no notebook of this problem set was handed in"),
    "absent": (0, 0, 0, "no notebook of this problem set was handed in"),
    "deleted": (0, 4, None, "the cell scaled is missing.*other numbers: raised NameError"),
    "doubled": (1, 4, None, "the cell scaled is there more than once.*scaled-hidden is there more than once"),
    "changed": (0, 4, None, "the test cell scaled-public was changed: the original counts.*int, not a tensor"),
    "unmarked": (3, 4, 0, "the cell scaled lost its mark.*the written answer's cell is missing"),
    "1_1": (0, 4, None, "other numbers: raised ValueError"),
    "zipped": (3, 4, None, "worked under the id 'your-id': the numbers of 'zipped' count"),
    "torn": (0, 0, 0, "the zip cannot be read"),
}


@pytest.fixture(scope="module")
def graded(example_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("class")
    hand_in(root / "in", example_folder / "release")
    roster = {"absent": "absent"}
    rows = grade.grade(root / "in", root / "out", example_folder / "source", 2, LIMITS, roster, quiet=True)
    return root, {row["student"]: row for row in rows}


def test_everybody_has_a_row(graded):
    assert sorted(graded[1]) == sorted(EXPECTED)


@pytest.mark.parametrize("student", EXPECTED)
def test_points_and_reason(graded, student):
    row = graded[1][student]
    *points, words = EXPECTED[student]
    assert [row["scaled"], row["first_peak"], row["written"]] == ["" if p is None else f"{p:g}" for p in points]
    assert re.search(words, row["notes"]), row["notes"]
    assert (row["total"], row["max"]) == (f"{sum(p or 0 for p in points):g}", "12")


def test_the_table_is_safe_in_a_spreadsheet(graded):
    with open(graded[0] / "out" / "grades.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["student"] for row in table] == sorted(EXPECTED)
    assert not any(value.startswith(("=", "+", "@")) for row in table for value in row.values())


@pytest.mark.parametrize("student", EXPECTED)
def test_feedback_tells_the_kind_and_nothing_of_the_hidden_tests(graded, student):
    page = (graded[0] / "out" / "feedback" / student / "example" / "example.html").read_text(encoding="utf-8")
    assert f"{EXPECTED[student][0]} of 3" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    for secret in ("me.normal", "-0.75", "BEGIN HIDDEN", "longer lists", "2, 7, 7"):
        assert secret not in page


def test_nothing_was_unpacked_outside(graded):
    assert not list(graded[0].parent.rglob("escape.ipynb"))


def test_points_of_written_answers_come_from_a_table(graded, tmp_path):
    out = graded[0] / "out"
    (tmp_path / "points.csv").write_text(
        "student,set,written,comment\ngood,example,4.5,Clear & short\nbroken,example,5,\n", encoding="utf-8"
    )
    assert grade.enter_written(out, tmp_path / "points.csv") == 1
    rows = {row["student"]: row for row in grade.report(out)}
    assert (rows["good"]["written"], rows["good"]["total"]) == ("4.5", "11.5")
    assert (rows["broken"]["written"], rows["renamed"]["written"]) == ("0", "")
    page = (out / "feedback" / "good" / "example" / "example.html").read_text(encoding="utf-8")
    assert "Clear &amp; short" in page and "11.5 of 12 points" in page


def test_grading_again_gives_the_same_and_keeps_written_points(graded, example_folder, tmp_path):
    put(tmp_path / "in" / "good" / "example.ipynb", example.answered(example_folder / "release", **GOOD))
    out = tmp_path / "out"
    for _ in range(2):
        [row] = grade.grade(tmp_path / "in", out, example_folder / "source", 1, LIMITS, quiet=True)
        assert row["total"] == ("7" if not row["written"] else "12")
        (tmp_path / "points.csv").write_text("student,set,written\ngood,example,5\n", encoding="utf-8")
        grade.enter_written(out, tmp_path / "points.csv")


def test_a_failure_of_the_grader_is_told_and_stops_nothing(example_folder, tmp_path, monkeypatch):
    for student in ("ada", "bob"):
        put(tmp_path / "in" / student / "example.ipynb", example.answered(example_folder / "release", **GOOD))
    real = sandbox.run

    def run(cells, job, limits):
        if job.student == "ada":
            raise RuntimeError("planted")
        return real(cells, job, limits)

    monkeypatch.setattr(sandbox, "run", run)
    rows = grade.grade(tmp_path / "in", tmp_path / "out", example_folder / "source", 1, LIMITS, quiet=True)
    assert [row["total"] for row in rows] == ["0", "7"]
    assert "the grader itself failed, please grade by hand (RuntimeError: planted)" in rows[0]["notes"]


def test_names_of_learning_platforms_lead_to_the_ids_of_the_roster(tmp_path, example_folder):
    names = Names({"Ada Lovelace": "ada17", "Ada": "ada18", "lovelaceada": "ada17"})
    assert names("Ada Lovelace_4711_assignsubmission_file_") == "ada17"
    assert names("Ada") == "ada18"
    assert names("Adam") == "Adam"
    assert names("lovelaceada_123_456_example") == "ada17"
    assert names("ada17") == "ada17"


def test_two_names_never_become_one_student(tmp_path, example_folder):
    for name in ("a b", "a_b", "a+b"):
        (tmp_path / name).mkdir()
    found = collect(tmp_path, sets.load_all(example_folder / "source"))
    assert sorted(one.student for one in found) == ["a_b", "a_b-2", "a_b-3"]


@needs_links
def test_links_are_not_followed(tmp_path, example_folder):
    put(tmp_path / "elsewhere.ipynb", example.answered(example_folder / "release", **GOOD))
    (tmp_path / "in" / "thief").mkdir(parents=True)
    (tmp_path / "in" / "thief" / "example.ipynb").symlink_to(tmp_path / "elsewhere.ipynb")
    (tmp_path / "in" / "mirror").symlink_to(tmp_path / "in" / "thief")
    (tmp_path / "in" / "bob_example.ipynb").symlink_to(tmp_path / "elsewhere.ipynb")
    [one] = collect(tmp_path / "in", sets.load_all(example_folder / "source"))
    assert one.cells is None


def test_of_several_notebooks_the_one_saved_last_counts(tmp_path, example_folder):
    import os

    for number, name in enumerate(("b.ipynb", "a.ipynb")):
        put(tmp_path / "in" / "ada" / name, example.answered(example_folder / "release", written=name))
        os.utime(tmp_path / "in" / "ada" / name, (1000 + number, 1000 + number))
    [one] = collect(tmp_path / "in", sets.load_all(example_folder / "source"))
    assert one.cells[-1][1] == "a.ipynb"
    assert "a.ipynb, saved last, counts" in one.notes[0]


def test_nbgraders_own_commands_grade_the_same_way(example_folder, tmp_path):
    """As with its exchange: what a student sent is in submitted/, and repair, sandbox and feedback are ours."""
    course = Course(tmp_path, example_folder / "source")
    course.release("example")
    notebook = example.answered(example_folder / "release", **GOOD | {"scaled": NO_ZERO})
    notebook["cells"] = [cell for cell in notebook["cells"] if "first_peak-hidden" not in str(cell["metadata"])]
    put(tmp_path / "submitted" / "ada" / "example" / "example.ipynb", notebook)
    assert course.api.autograde("example", "ada")["success"]
    points = {"scaled-public": 1, "scaled-hidden": 0, "first_peak-public": 1, "first_peak-hidden": 3, "written": None}
    assert course.points("example", "ada") == points
    assert course.api.generate_feedback("example", "ada")["success"]
    page = (tmp_path / "feedback" / "ada" / "example" / "example.html").read_text(encoding="utf-8")
    assert "zero is refused: no error where one was expected" in page
    assert "me.normal" not in page and "BEGIN HIDDEN" not in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=['\"]?https?:", page)


def test_what_is_locked_is_put_back(example_folder):
    problem_set = sets.load("example", example_folder / "source")
    cells = [("code", "planted", cell.id) for cell in problem_set.cells if cell.id]
    notebook, _ = repair(cells, problem_set)
    for cell in notebook.cells:
        known = problem_set.by_id[cell.metadata.nbgrader.grade_id]
        free = known.kind in ("solution", "written")
        assert cell.source == ("planted" if free else known.source)
        assert cell.cell_type == ("code" if known.code else "markdown")
