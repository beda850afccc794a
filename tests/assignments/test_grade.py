"""A folder as a class hands it in, badly: every student has a row, a score and a reason, and nobody another's."""

import csv
import io
import json
import re
import shutil
import zipfile

import example
import pytest

import grade
import sandbox
import sets
from collect import Names, collect
from course import Course
from dsmini.check import STUDENT, variant
from feedback import Part, Result, page
from repair import parse, repair

needs_links = pytest.mark.skipif(not hasattr(__import__("os"), "symlink"), reason="no links here")
GOOD = {"scaled": example.SCALED, "first_peak": example.FIRST_PEAK, "written": "A tie needs a rule."}
NO_ZERO = "def scaled(x, by):\n    return x * by"
LIMITS = sandbox.Limits(cell=3.0, test=3.0, wall=20.0)


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
    put(folder / "Zoë Å" / "example.ipynb", answered())
    put(folder / "peeks" / "example.ipynb", answered(scaled=f"import sys\nsys._getframe().f_back\n{NO_ZERO}"))
    put(folder / "peeks" / "empty.ipynb", "")
    put(folder / "essay.pdf", "I could not do it")
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
    "unmarked": (3, 4, None, "the cell scaled lost its mark.*the written answer's cell lost its mark: it counts"),
    "Zoë_Å": (3, 4, None, "^$"),
    "1_1": (0, 4, None, "other numbers: raised ValueError"),
    "peeks": (1, 4, None, "please read this code, it uses _getframe, f_back; empty.ipynb: the file is empty"),
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
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page and "read this code" not in page
    for secret in ("me.normal", "-0.75", "BEGIN HIDDEN", "longer lists", "2, 7, 7"):
        assert secret not in page


def test_what_was_never_answered_is_said_once():
    reasons = [("public tests", "not answered yet"), ("hidden tests", "no bias: not answered yet")]
    text = page(Result("ada", "v3", [Part("f", 0.0, 4.0, reasons), Part("written", None, 5.0, [])], []))
    assert text.count("not answered yet") == 1 and "no bias" not in text
    assert "0 of 4<" in text and "to come (5)" in text
    wrong = Part("f", 1.0, 4.0, [("hidden tests", "no bias: wrong")])
    assert "no bias: wrong" in page(Result("ada", "v3", [wrong], []))


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


def test_names_of_copies_accents_and_other_endings(tmp_path, example_folder):
    notebook = json.dumps(example.answered(example_folder / "release", **GOOD))
    names = ("ann_example.ipynb", "bob_example (1).IPYNB", "cy_EXAMPLE-2.ipynb", "Zoe\u0308_example copy.ipynb")
    for name in names:
        (tmp_path / name).write_text(notebook, encoding="utf-8")
    (tmp_path / "essay.pdf").write_text("?")
    strange = []
    found = collect(tmp_path, sets.load_all(example_folder / "source"), strange=strange)
    assert [one.student for one in found] == ["Zo\u00eb", "ann", "bob", "cy"] and strange == ["essay.pdf"]
    assert not any(one.cells is None for one in found)


def zip_of(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def test_zips_with_the_folder_that_was_handed_out_and_zips_in_zips(tmp_path, example_folder):
    notebook = json.dumps(example.answered(example_folder / "release", **GOOD))
    whole = zip_of(**{"example/example.ipynb": notebook})  # as a student packs what a student unpacked
    (tmp_path / "ann.zip").write_bytes(whole)
    (tmp_path / "bob_example.ZIP").write_bytes(whole)
    (tmp_path / "cy_4711_anything.zip").write_bytes(zip_of(**{"my work/example.ipynb": notebook}))
    inside = {"all/dan/work.zip": whole, "eve.zip": whole, "all/fay/torn.zip": b"PK torn"}
    (tmp_path / "everything.zip").write_bytes(zip_of(**inside))
    found = collect(tmp_path, sets.load_all(example_folder / "source"), {"cy": "cy"})
    said = {one.student: "" if one.cells else one.notes[0] for one in found}
    assert sorted(said) == ["ann", "bob", "cy", "dan", "eve", "fay"]
    assert "zip cannot be read" in said.pop("fay") and set(said.values()) == {""}


def test_a_zip_of_a_large_class_loses_nobody_and_a_bomb_is_refused(tmp_path, example_folder):
    problem_sets = sets.load_all(example_folder / "source")
    notebook = json.dumps(example.answered(example_folder / "release", **GOOD))
    (tmp_path / "class").mkdir()
    everybody = {f"s{number}/example.ipynb": notebook for number in range(300)}
    (tmp_path / "class" / "everything.zip").write_bytes(zip_of(**everybody))
    assert len([one for one in collect(tmp_path / "class", problem_sets) if one.cells]) == 300
    bomb = tmp_path / "bomb" / "ann" / "work.zip"
    bomb.parent.mkdir(parents=True)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(12):
            archive.writestr(f"{number}.ipynb", bytes(10 * 2**20))
    [one] = collect(tmp_path / "bomb", problem_sets)
    assert one.cells is None and sum("too large" in note for note in one.notes) == 2


def test_line_ends_of_windows_change_no_test(example_folder):
    problem_set = sets.load("example", example_folder / "source")
    notebook = example.answered(example_folder / "release", **GOOD)
    for cell in notebook["cells"]:
        cell["source"] = sets.text_of(cell["source"]).replace("\n", "\r\n")
    whole, notes = repair(parse(json.dumps(notebook).encode()), problem_set)
    assert notes == [] and "\r" not in "".join(cell.source for cell in whole.cells)


def test_cells_without_marks_get_them_back(example_folder):
    """As after an editor that drops metadata: by their text, by what they define, by where they stand."""
    problem_set = sets.load("example", example_folder / "source")
    notebook = example.answered(example_folder / "release", **GOOD)
    for cell in notebook["cells"]:
        cell["metadata"] = {"id": "x"}
    notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "And a second thought."})
    whole, notes = repair(parse(json.dumps(notebook).encode()), problem_set)
    sources = {cell.metadata.nbgrader.grade_id: cell.source for cell in whole.cells if "nbgrader" in cell.metadata}
    assert set(sources) == set(problem_set.by_id) and len(whole.cells) == len(problem_set.cells)
    assert sources["scaled"] == example.SCALED
    assert sources["written"] == "A tie needs a rule.\n\nAnd a second thought."
    assert len(notes) == 3 and all("lost its mark" in note for note in notes)


def test_other_problem_sets_keep_their_rows(example_folder, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(example_folder / "source" / "example", source / "example")
    text = (source / "example" / "example.ipynb").read_text(encoding="utf-8")
    (source / "later").mkdir()
    (source / "later" / "later.ipynb").write_text(text.replace("first_peak", "last_peak").replace("scaled", "larger"))
    put(tmp_path / "one" / "ada" / "example.ipynb", example.answered(example_folder / "release", **GOOD))
    later = json.dumps(example.answered(example_folder / "release", **GOOD))
    put(tmp_path / "two" / "ada" / "x.ipynb", later.replace("first_peak", "last_peak").replace("scaled", "larger"))
    for folder, seen in (("one", ["example"]), ("two", ["example", "later"]), ("two", ["example", "later"])):
        rows = grade.grade(tmp_path / folder, tmp_path / "out", source, 1, LIMITS, quiet=True)
        assert [row["set"] for row in rows] == seen and rows[0]["total"] == "7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Lovelace,ada\nbob\n\n", {"Ada Lovelace": "ada", "bob": "bob"}),
        ("\ufeffName;ID\r\nAda Lovelace;ada\r\nbob;\r\n", {"Ada Lovelace": "ada", "bob": "bob"}),
        ('"Lovelace, Ada",ada\n', {"Lovelace, Ada": "ada"}),
    ],
)
def test_rosters_as_spreadsheets_save_them(tmp_path, text, expected):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8", newline="")
    assert grade.read_roster(tmp_path / "roster.csv") == expected


def test_a_table_that_is_no_table_is_told(tmp_path):
    (tmp_path / "old.csv").write_bytes("Zo\u00eb,zoe\n".encode("cp1252"))
    with pytest.raises(SystemExit, match="not in UTF-8"):
        grade.read_roster(tmp_path / "old.csv")
    with pytest.raises(SystemExit, match="No such file"):
        grade.read_roster(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("good,example,six", "good, example: written = 'six', expected 0 to 5 points"),
        ("good,example,5.5", "written = '5.5', expected 0 to 5 points"),
        ("goood,example,5\ngood,example,1", "goood, example: nobody with this id"),
        ("good,other,5", "good, other: nobody with this id was graded in this set"),
    ],
)
def test_wrong_points_of_written_answers_enter_nothing(graded, tmp_path, lines, message):
    (tmp_path / "points.csv").write_text(f"student,set,written\n{lines}\n", encoding="utf-8")
    before = (graded[0] / "out" / "gradebook.db").read_bytes()
    with pytest.raises(SystemExit, match=re.escape(message)):
        grade.enter_written(graded[0] / "out", tmp_path / "points.csv")
    assert (graded[0] / "out" / "gradebook.db").read_bytes() == before


def test_points_with_semicolons_and_a_comma(graded, tmp_path):
    (tmp_path / "points.csv").write_text("\ufeffstudent;set;written\r\nrenamed;example;3,5\r\n", encoding="utf-8")
    assert grade.enter_written(graded[0] / "out", tmp_path / "points.csv") == 1
    assert Course(graded[0] / "out", graded[0] / "out" / "source").points("example", "renamed")["written"] == 3.5
    (tmp_path / "points.csv").write_text("student,set,points\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no column 'written'"):
        grade.enter_written(graded[0] / "out", tmp_path / "points.csv")


@pytest.mark.parametrize("given", [[], [""], ["no-such-folder"]])
def test_without_a_folder_nothing_is_graded(given, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["grade.py", *given, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        grade.main()
    assert "expected a folder of submissions" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("typed", ["Zoë Å", " zoë å ", "ZOE\u0308 A\u030a", "Zoë_Å"])
def test_an_id_with_blanks_and_accents_is_that_of_its_folder(typed, monkeypatch):
    alone = variant("example", typed)
    monkeypatch.setenv(STUDENT, "Zoë_Å")
    graded = variant("example", typed)
    assert graded.typed is None and graded.seed("x") == alone.seed("x")


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
