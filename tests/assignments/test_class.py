"""Thirty submissions over the four problem sets, graded in one go: good, partly right and hostile.

What each should get is worked out here, in this process, from the lists of answers; the gradebook must say the same.
"""

import json
import random
import re

import pytest
from workbench import NAMES, answers, problem_set, verdicts

import grade
import release
import sandbox
import sets

LIMITS = sandbox.Limits(cell=4.0, test=4.0, total=50.0, wall=15.0)
ENDLESS = "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
OWN = {  # what a hostile student has in a cell of their own, before their right answers: it costs nothing else
    "exits": "import os; os._exit(0)",
    "endless": ENDLESS,
    "hoards": "hoard = [bytearray(10**11) for _ in range(1000)]",  # refused at once: to fill a smaller one takes long
    "floods": "while True: print('x' * 10**6)",
    "bombs": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "calls": "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=3)",
    "raises": "raise SystemExit(0)",
    "slips": "def broken(:\n    pass",
    "patches": "import dsmini.check, torch\ndsmini.check._compare = lambda *_: None\ncase = close = equal = None",
}  # fmt: skip
LAST = {"exits": "import os; os._exit(0)", "loops": ENDLESS.replace("\n", "\n    "), "leaves": "raise SystemExit(0)"}


def fill(out, name, student, replaced=None, own=None):
    """A released notebook with the reference's answers, some defined again after them, and a cell of one's own."""
    notebook = json.loads((out / name / f"{name}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        known = problem_set(name).by_id.get(grade_id)
        if known and known.kind in ("solution", "written"):
            cell["source"] = "\n\n\n".join([known.source, *filter(None, [(replaced or {}).get(grade_id)])])
        if "me = variant(" in sets.text_of(cell["source"]):
            cell["source"] = sets.text_of(cell["source"]).replace("your-id", student)
    if own:
        extra = {"cell_type": "code", "metadata": {}, "source": own, "outputs": [], "execution_count": None}
        notebook["cells"].insert(3, extra)
    return notebook


def plan():
    """[(student, set, {function: source}, own cell or None)]: the readable submissions."""
    dice, found = random.Random(7), []
    for name in NAMES:
        right = answers(name).RIGHT
        found.append((f"good-{name}", name, {}, None))
        found.append((f"other-{name}", name, {f: list(right[f].values())[-1] for f in right}, None))
        for number in range(2):
            wrong = answers(name).WRONG
            functions = dice.sample(sorted(wrong), 2)
            found.append(
                (f"part-{name}-{number}", name, {f: dice.choice(list(wrong[f].values())) for f in functions}, None)
            )
    for number, (student, own) in enumerate(OWN.items()):
        found.append((student, NAMES[number % len(NAMES)], {}, own))
    for number, (student, body) in enumerate(LAST.items()):
        name = NAMES[number % len(NAMES)]
        function = list(problem_set(name).functions)[-1]
        found.append((f"last-{student}", name, {function: f"def {function}(*args, **kwargs):\n    {body}"}, None))
    return found


def expected_points(student, name, replaced):
    """{function: points}, worked out in this process. A function that ends or hangs Python has none."""
    found = {}
    for function, entry in problem_set(name).functions.items():
        source = replaced.get(function)
        deadly = student.startswith("last-") and source is not None
        points = {kind: problem_set(name).by_id[entry[kind]].points for kind in ("public", "hidden")}
        faults = dict.fromkeys(points, "deadly") if deadly else verdicts(name, function, student, source)
        found[function] = sum(points[kind] for kind in points if faults[kind] is None)
    return found


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    root = tmp_path_factory.mktemp("class")
    release.release(root / "release")
    for student, name, replaced, own in plan():
        path = root / "in" / student / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(fill(root / "release", name, student, replaced, own)), encoding="utf-8")
    (root / "in" / "empty").mkdir()
    (root / "in" / f"broken_{NAMES[0]}.ipynb").write_text('{"cells": [', encoding="utf-8")
    rows = grade.grade(root / "in", root / "out", jobs=2, limits=LIMITS, quiet=True)
    return root, {(row["student"], row["set"]): row for row in rows}


def test_the_class_has_thirty_submissions():
    assert len(plan()) + 2 == 30


def test_the_gradebook_is_as_expected(graded):
    wrong = {}
    for student, name, replaced, _ in plan():
        row, expected = graded[1][student, name], expected_points(student, name, replaced)
        found = {function: float(row[function]) for function in expected}
        if found != expected or row["max"] != "30":
            wrong[student] = (found, expected, row["notes"])
    assert not wrong, "\n".join(map(str, wrong.items()))


def test_who_handed_in_nothing_readable_has_a_row_for_every_set(graded):
    for name in NAMES:
        assert (graded[1]["empty", name]["total"], graded[1]["broken", name]["total"]) == ("0", "0")
    assert "broken JSON" in graded[1]["broken", NAMES[0]]["notes"]


REASONS = {
    "exits": "ended Python",
    "endless": "stopped after",
    "hoards": "MemoryError|too much memory",
    "floods": "stopped after",
    "bombs": "processes|too much memory|stopped after",
    "raises": "SystemExit",
    "slips": "SyntaxError",
}


def test_hostile_cells_are_named(graded):
    if sandbox.walls() == "full":
        REASONS["calls"] = "unreachable|URLError"
    for student, name, _, _ in plan():
        if student in REASONS:
            row = graded[1][student, name]
            assert re.search(REASONS[student], row["notes"]), row["notes"]
            assert row["total"] == "25"


def test_a_submission_stays_in_its_budget(graded):
    state = json.loads((graded[0] / "out" / "state.json").read_text(encoding="utf-8"))
    assert max(entry["cpu"] for entry in state) <= 60
    honest = [entry["cpu"] for entry in state if entry["student"].startswith(("good", "other", "part"))]
    assert max(honest) <= 10


def test_feedback_shows_no_hidden_test(graded):
    lines = {}
    for name in NAMES:
        one = problem_set(name)
        visible = "\n".join(cell.source for cell in one.cells if cell.kind != "hidden")
        hidden = [line.strip() for cell in one.cells if cell.kind == "hidden" for line in cell.source.split("\n")]
        lines[name] = [line for line in hidden if len(line) > 25 and line not in visible and line[0] != "#"]
    for student, name, _, _ in plan():
        page = (graded[0] / "out" / "feedback" / student / name / f"{name}.html").read_text(encoding="utf-8")
        assert not [line for line in lines[name] if line in page]
        assert "http" not in page.replace("http-equiv", "").replace("http://192.0.2.1/", "")
