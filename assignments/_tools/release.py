"""Build what students get: a notebook and a zip for each problem set, without solutions and hidden tests.

python assignments/_tools/release.py [--out DIR] [SET ...]
"""

import argparse
import shutil
import tempfile
import zipfile
from pathlib import Path

import nbformat

import sets
from course import PLACEHOLDER, Course

MARKS = ("### BEGIN", "### END", "HIDDEN TESTS", "BEGIN SOLUTION")


def leaks(notebook, problem_set):
    """What a released notebook must not hold: a list of complaints."""
    text = "\n".join(cell.source for cell in notebook.cells)
    found = [f"the mark {mark!r}" for mark in MARKS if mark in text]
    for cell in problem_set.cells:
        for begin, end in (("### BEGIN SOLUTION", "### END SOLUTION"), (sets.HIDDEN, "### END HIDDEN TESTS")):
            for region in cell.source.split(begin)[1:]:
                inside = region.split(end)[0].strip()
                if inside in text or any(len(line) > 30 and line in text for line in _own_lines(inside, problem_set)):
                    found.append(f"what is between {begin} and its end in {cell.id}")
    if any(cell.get("outputs") for cell in notebook.cells):
        found.append("outputs")
    if "variant(" in text and f'student="{PLACEHOLDER}"' not in text:
        found.append("an id that is not the placeholder")
    return found


def _own_lines(inside, problem_set):
    """The lines of a region that stand nowhere in the open parts of a problem set."""
    open_text = "\n".join(cell.source for cell in problem_set.cells if cell.kind in ("given", "text", "public"))
    lines = [line.strip() for line in inside.split("\n")]
    return [line for line in lines if line not in open_text]


def release(out, names=None, source=sets.SOURCE):
    """Write out/SET/SET.ipynb and out/SET.zip for each set. Returns the paths of the zips."""
    out, zips = Path(out), []
    with tempfile.TemporaryDirectory() as folder:
        course = Course(folder, source)
        for name in names or course.problem_sets:
            notebook = course.release(name)
            found = leaks(notebook, course.problem_sets[name])
            if found:
                raise SystemExit(f"{name}: the release would hold {'; '.join(found)}")
            shutil.rmtree(out / name, ignore_errors=True)
            shutil.copytree(course.root / "release" / name, out / name)
            nbformat.write(notebook, out / name / f"{name}.ipynb")
            zips.append(pack(out / name, out / f"{name}.zip"))
    return zips


def pack(folder, target):
    """A zip of a folder: the same bytes for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder.parent).as_posix()), (2025, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help="default: all")
    parser.add_argument("--out", default=sets.ASSIGNMENTS / "release", type=Path)
    args = parser.parse_args()
    for path in release(args.out, args.sets):
        print(path)


if __name__ == "__main__":
    main()
