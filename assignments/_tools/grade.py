"""Grade a folder of submissions: collect, run each in a sandbox, enter the points, write a table and the feedback.

    python assignments/_tools/grade.py SUBMISSIONS [--out DIR] [--jobs N] [--roster FILE]
    python assignments/_tools/grade.py --report [--written CSV] [--out DIR]      the table and the feedback again, after
                                                                               the written questions were graded

OUT/grades.csv is the table, OUT/feedback/STUDENT/SET/SET.html a page for each, OUT itself an nbgrader course.
"""

import argparse
import concurrent.futures
import csv
import io
import json
import os
import re
import sys
import threading
from pathlib import Path

import nbformat
from tqdm import tqdm

import course as nb
import sandbox
import sets
from collect import collect
from feedback import Part, Result, number, page
from repair import repair

STATE = "state.json"
ODD = re.compile(r"_getframe|currentframe|\bf_(?:back|globals|locals)\b|get_objects|get_referrers|__globals__|/proc/")


def grade(submissions, out, source=sets.SOURCE, jobs=1, limits=None, roster=None, quiet=False):
    """Grade a folder. roster: as `collect` takes it. Returns the rows of the table.

    Rows of problem sets that nobody hands in this time stay as they were.
    """
    course = nb.Course(out, source)
    if sandbox.notice() and not quiet:
        print(f"Note: {sandbox.notice()}", file=sys.stderr)
    strange = []
    found = collect(submissions, course.problem_sets, roster, strange)
    if strange and not quiet:
        print(f"Note: neither a folder nor a notebook nor a zip, so nobody's: {', '.join(strange)}", file=sys.stderr)
    stubs = {}
    for name in sorted({one.problem_set for one in found}):
        stubs[name] = stubs_of(course.release(name))
    graded = {one.problem_set for one in found}
    state = [one for one in read_state(course.root) if one["set"] in set(course.problem_sets) - graded]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = []
        gate = threading.Semaphore(2 * jobs)  # not all notebooks of a class in memory at once
        for one in found:
            problem_set = course.problem_sets[one.problem_set]
            waiting.append((one, pool.submit(execute, one, problem_set, stubs, limits, gate)))
        for one, future in tqdm(waiting, unit="notebook", disable=quiet, smoothing=0):
            state.append(enter(course, one, future, gate))
            save_state(course.root, state)
    return report(course.root)


def stubs_of(notebook):
    marked = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in marked}


def execute(one, problem_set, stubs, limits, gate):
    """In a thread: (the repaired notebook, what running it gave)."""
    if one.cells is None:
        return None
    gate.acquire()
    notebook, notes = repair(one.cells, problem_set, stubs[problem_set.name])
    cells, job = nb.cells_of(notebook, problem_set), nb.job_of(problem_set, one.student)
    try:
        return notebook, notes, sandbox.run(cells, job, limits)
    except sandbox.Broken:
        return notebook, notes, sandbox.run(cells, job, limits)  # once more, and then it is not by chance


def enter(course, one, future, gate):
    """One submission's points into the gradebook, whatever happened. Returns its entry in the state."""
    key, notes, cpu, failed, odd = (one.student, one.problem_set), list(one.notes), 0.0, False, []
    try:
        ran = future.result()
        if ran is None:
            course.zero(one.problem_set, one.student)
        else:
            notebook, repairs, outcome = ran
            nb.DONE[key], nb.DONE_NOTES[key] = outcome, notes + repairs
            cpu, odd = outcome.cpu, odd_words(notebook)
            course.autograde(one.problem_set, one.student, notebook)
    except Exception as error:
        failed = True
        notes.append(f"the grader itself failed, please grade by hand ({type(error).__name__}: {str(error)[-300:]})")
        course.zero(one.problem_set, one.student)
    finally:
        nb.DONE.pop(key, None), nb.DONE_NOTES.pop(key, None)
        if one.cells is not None:
            gate.release()
    entry = {"student": one.student, "set": one.problem_set, "notes": notes, "cpu": round(cpu, 2)}
    return entry | {"failed": failed, "odd": odd}


def odd_words(notebook):
    """What in a student's own code looks into the interpreter, where the tests run: no proof, a reason to read it."""
    free = [cell.source for cell in notebook.cells if not cell.metadata.get("nbgrader", {}).get("locked")]
    return sorted({word for source in free for word in ODD.findall(source)})


def read_state(root):
    path = root / STATE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def save_state(root, state):
    (root / STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def report(out):
    """Write the table and the feedback from what is in a graded folder. Returns the table's rows."""
    course = nb.Course(out, Path(out) / "source")
    results = []
    if not (course.root / STATE).is_file():
        raise SystemExit(f"{course.root}: nothing was graded here yet")
    for entry in read_state(course.root):
        result = result_of(course, entry)
        folder = course.root / "feedback" / result.student / result.problem_set
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{result.problem_set}.html").write_text(page(result), encoding="utf-8")
        results.append(result)
    return write_table(course.root / "grades.csv", results)


def result_of(course, entry):
    """The `Result` of a student and set, from the gradebook and the autograded notebook."""
    name, student = entry["set"], entry["student"]
    problem_set, points = course.problem_sets[name], course.points(entry["set"], entry["student"])
    path = course.root / "autograded" / student / name / f"{name}.ipynb"
    cells, notes, faults = {}, list(entry["notes"]), []
    if path.is_file():
        notebook = nbformat.read(path, 4)
        notes = list(notebook.metadata.get("dsmini", {}).get("notes", notes))
        for cell in notebook.cells:
            mark = cell.metadata.get("nbgrader", {})
            if mark.get("grade_id"):
                cells[mark["grade_id"]] = cell
            if not mark.get("grade") and fault_of(cell):
                faults.append((cell.source, fault_of(cell)))
    parts = [part_of(problem_set, function, points, cells) for function in problem_set.functions]
    for cell in problem_set.cells:
        if cell.kind == "written":
            mine = cells.get(cell.id)
            score = points.get(cell.id, 0.0)
            parts.append(Part(cell.id, score, cell.points, [], mine.source if mine is not None else ""))
    return Result(student, name, parts, notes, faults, comment_of(course, name, student), entry.get("odd", []))


def part_of(problem_set, function, points, cells):
    entry, score, reasons = problem_set.functions[function], 0.0, []
    for kind in ("public", "hidden"):
        if kind in entry:
            score += points.get(entry[kind]) or 0.0
            why = fault_of(cells.get(entry[kind]))
            if why:
                reasons.append((f"{kind} tests", why))
    solution = cells.get(function)
    return Part(function, score, entry["points"], reasons, solution.source if solution is not None else "")


def fault_of(cell):
    """Why a cell of an autograded notebook failed, or None."""
    for output in cell.get("outputs", []) if cell is not None else []:
        if output.output_type == "error":
            return output.evalue
    return None


def comment_of(course, name, student):
    """What the person who graded the written answer wrote."""
    with course.gradebook as gradebook:
        try:
            notebook = gradebook.find_submission_notebook(name, name, student)
        except nb.MissingEntry:
            return ""
        return "\n".join(comment.manual_comment for comment in notebook.comments if comment.manual_comment)


def write_table(path, results):
    """student, set, total, max, the points of each part, notes. A part to be graded by hand is empty."""
    names = list(dict.fromkeys(part.name for result in results for part in result.parts))
    names = [name for name in names if name != "written"] + [name for name in names if name == "written"]
    rows = []
    for result in results:
        row = {"student": result.student, "set": result.problem_set}
        row |= {"total": number(result.total), "max": number(result.most)}
        mine = {part.name: "" if part.points is None else number(part.points) for part in result.parts}
        row |= {name: mine.get(name, "") for name in names}
        reasons = [f"{part.name}: {part.reasons[-1][1]}" for part in result.parts if part.reasons]
        faults = [f"a cell failed: {why}" for _, why in result.faults[:3]]
        odd = [f"please read this code, it uses {', '.join(result.odd)}"] if result.odd else []
        row["notes"] = "; ".join(plain(text) for text in (*odd, *result.notes, *faults, *reasons))[:2000]
        rows.append(row)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["student", "set", "total", "max", *names, "notes"])
        writer.writeheader()
        writer.writerows([{key: harmless(value) for key, value in row.items()} for row in rows])
    return rows


def plain(text):
    return " ".join(text.split())[:300]


def harmless(text):
    """A spreadsheet takes a text that begins so for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text


def table_of(path):
    """The rows of a CSV as a spreadsheet saves it: commas or semicolons, with or without a mark of its encoding."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SystemExit(f"{path}: not in UTF-8; save it as 'CSV UTF-8'") from None
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",")
    return [row for row in rows if any(cell.strip() for cell in row)]


def read_roster(path):
    """{name: id} of a file with NAME or NAME,ID on each line; NAME is that of the folder or the file."""
    rows = [[cell.strip() for cell in row] + [""] for row in table_of(path)]
    if rows and [cell.lower() for cell in rows[0][:2]] == ["name", "id"]:
        del rows[0]
    return {name: student or name for name, student, *_ in rows if name}


def enter_written(out, path):
    """Points of written questions into the gradebook, from a CSV with student, set, written and maybe comment.

    The table itself will do, its empty column `written` filled in.
    """
    course = nb.Course(out, Path(out) / "source")
    head, *lines = table_of(path) or [[]]
    if missing := [name for name in ("student", "set", "written") if name not in head]:
        raise SystemExit(f"{path}: has no column {missing[0]!r} in its first line")
    rows, wrong = [], []
    for line in lines:
        row = dict(zip(head, line, strict=False))
        student, name = row["student"].removeprefix("'"), row.get("set")
        if not row.get("written", "").strip():
            continue
        if not (course.root / "feedback" / student / str(name)).is_dir() or name not in course.problem_sets:
            wrong.append(f"{student}, {name}: nobody with this id was graded in this set")
            continue
        (written,) = [cell for cell in course.problem_sets[name].cells if cell.kind == "written"]
        try:
            points = float(row["written"].replace(",", "."))
        except ValueError:
            points = -1.0
        if not 0 <= points <= written.points:
            wrong.append(f"{student}, {name}: written = {row['written']!r}, expected 0 to {written.points:g} points")
        elif (course.root / "autograded" / student / name).is_dir():  # else nothing that can be read: 0 points
            rows.append((name, student, written.id, points, row.get("comment")))
    if wrong:
        raise SystemExit(f"{path}: nothing was entered.\n" + "\n".join(wrong))
    for row in rows:
        course.mark(*row)
    return len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("submissions", nargs="?", help="a folder: STUDENT/*.ipynb, STUDENT_SET.ipynb, zips")
    parser.add_argument("--out", type=Path, default=sets.ASSIGNMENTS / "graded")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="notebooks at once")
    parser.add_argument("--roster", type=Path, help="a line each: NAME, or NAME,ID")
    parser.add_argument("--report", action="store_true", help="only write the table and the feedback again")
    parser.add_argument("--written", type=Path, help="with --report: points of the written questions to enter")
    args = parser.parse_args()
    if args.report or args.written:
        if args.written:
            print(f"{enter_written(args.out, args.written)} written answers entered")
        rows = report(args.out)
    else:
        if not args.submissions:
            parser.error("expected a folder of submissions: make grade SUBMISSIONS=folder")
        submissions = Path(args.submissions).expanduser()
        if not submissions.is_dir():
            parser.error(f"{submissions}: expected a folder of submissions, or a zip of them in a folder of its own")
        roster = read_roster(args.roster) if args.roster else {}
        rows = grade(submissions, args.out, jobs=args.jobs, roster=roster)
    print(f"{len(rows)} rows in {args.out / 'grades.csv'}; feedback in {args.out / 'feedback'}")


if __name__ == "__main__":
    main()
