"""What was handed in: which notebook is whose, and which problem set it answers.

    SUBMISSIONS/STUDENT/ANYTHING.ipynb      SUBMISSIONS/STUDENT_SET.ipynb      and zips of either, also in a zip

A notebook's set follows from its cells, so a renamed file is no problem. Nothing is unpacked to the disk, no link is
followed, and what cannot be read becomes a row with a reason.
"""

import dataclasses
import io
import os
import re
import zipfile
from pathlib import Path

from dsmini.check import file_name
from repair import Unreadable, guess_set, parse

MOST_BYTES = 20 * 2**20  # of one file
MOST_FILES = 200  # of one student's zip
MOST_OF_CLASS = 20_000  # of a zip of a whole class
MOST_UNPACKED = 5 * MOST_BYTES  # of one student's zip


@dataclasses.dataclass
class Submission:
    """cells: of the notebook, or None where there is nothing to run; then the notes say why."""

    student: str
    problem_set: str
    cells: list | None
    notes: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Found:
    """A file: whose, its name, its bytes or what is wrong with it, when it was saved."""

    student: str
    name: str
    data: bytes | None
    fault: str | None
    time: float


def student_id(text):
    """A name that is safe in a path, in nbgrader and in a table."""
    return file_name(text)[:100] or "nameless"


class Names:
    """The ids of students from the names of folders and files; two names never become one id.

    roster: {name: id}. A name of the roster also fits a longer one, as learning platforms make them:
    `Ada Lovelace` fits the folder `Ada Lovelace_4711_assignsubmission_file_`.
    """

    def __init__(self, roster):
        self.roster = {student_id(name): student_id(student) for name, student in roster.items()}
        self.given = {}  # id: the name that has it

    def fitting(self, plain):
        return [known for known in self.roster if plain == known or plain.startswith(known + "_")]

    def knows(self, name):
        """Whether the roster has this name, or the beginning of it."""
        return bool(self.fitting(student_id(name)))

    def __call__(self, name):
        plain = student_id(name)
        if fits := self.fitting(plain):
            return self.roster[max(fits, key=len)]
        student, number = plain, 2
        while self.given.setdefault(student, name) != name or student in self.roster.values() and student != plain:
            student, number = f"{plain}-{number}", number + 1
        return student


def skipped(path):
    parts = path.replace("\\", "/").split("/")
    return any(part.startswith((".", "__MACOSX")) or part == "__pycache__" for part in parts)


def from_zip(path, student, sets, names):
    """The notebooks in a zip. student: whose it is, or None for a zip of a whole class."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield from from_archive(archive, path.name, student, sets, names)
    except UNREADABLE as error:
        yield Found(student or names(path.stem), path.name, None, f"the zip cannot be read: {error}", 0.0)


UNREADABLE = (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError)


def from_archive(archive, title, student, sets, names, depth=0):
    """The notebooks in an open zip named `title`, and those in the zips in it."""
    entries = [entry for entry in archive.infolist() if ending(entry.filename) in (".ipynb", ".zip")]
    entries = [entry for entry in entries if not skipped(entry.filename)]
    room = MOST_UNPACKED
    for entry in entries[: MOST_FILES if student else MOST_OF_CLASS]:
        name = Path(entry.filename).name
        if ending(name) == ".zip" and depth:
            continue
        whose = student or names(owner_in_zip(entry.filename, Path(title).stem, sets))
        stamp = entry.date_time
        moment = sum(part * unit for part, unit in zip(stamp, (32e6, 2.7e6, 86400, 3600, 60, 1), strict=True))
        room -= entry.file_size if student else 0
        if entry.file_size > MOST_BYTES or room < 0:
            yield Found(whose, name, None, "the file is too large", moment)
            continue
        with archive.open(entry) as file:
            data = file.read(MOST_BYTES)
        if ending(name) == ".ipynb":
            yield Found(whose, name, data, None, moment)
            continue
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                yield from from_archive(inner, name, whose, sets, names, depth + 1)
        except UNREADABLE as error:
            yield Found(whose, name, None, f"the zip cannot be read: {error}", moment)


def ending(name):
    return Path(name).suffix.lower()


def owner_in_zip(name, title, sets):
    """Whose a file of a class's zip is: its folder's, its name's, or the zip's own. A folder `v3` is nobody's."""
    *folders, name = Path(name).parts
    folders = [folder for folder in folders if folder.lower() not in sets]
    if folders:
        return folders[-1]
    stem = Path(name).stem
    whose = owner(stem, sets)
    return title if whose == stem and ending(name) == ".ipynb" else whose  # ada.zip with v3.ipynb in it


def owner(stem, sets):
    """STUDENT of STUDENT_SET, or all of it where no set's name ends it. A copy's number behind it is none of either."""
    for name in sets:
        copy = r"(-\d+| ?\(\d+\)|[ _-]+copy)?"
        if match := re.fullmatch(rf"(.+)[_-]{re.escape(name)}{copy}", stem, re.IGNORECASE | re.DOTALL):
            return match[1]
    return stem


def from_file(path, student):
    try:
        if path.stat().st_size > MOST_BYTES:
            return Found(student, path.name, None, "the file is too large", 0.0)
        return Found(student, path.name, path.read_bytes(), None, path.stat().st_mtime)
    except OSError as error:
        return Found(student, path.name, None, f"the file cannot be read: {error.strerror}", 0.0)


def files(folder, sets, names):
    """(every file of every student, the students, what is nobody's): students with an empty folder too."""
    found, students, strange = [], [], []
    for path in sorted(Path(folder).iterdir()):
        if skipped(path.name) or path.is_symlink():
            continue
        if path.is_dir():
            student = names(path.name)
            students.append(student)
            for root, folders, inside in os.walk(path):
                folders[:] = sorted(name for name in folders if not skipped(name))
                for inner in (Path(root, name) for name in sorted(inside) if not skipped(name)):
                    if inner.is_symlink() or not inner.is_file():
                        continue
                    if ending(inner.name) == ".ipynb":
                        found.append(from_file(inner, student))
                    elif ending(inner.name) == ".zip":
                        found += from_zip(inner, student, sets, names)
        elif ending(path.name) == ".ipynb":
            found.append(from_file(path, names(owner(path.stem, sets))))
        elif ending(path.name) == ".zip":
            mine = owner(path.stem, sets)
            known = mine != path.stem or names.knows(mine)
            found += from_zip(path, names(mine) if known else None, sets, names)
        else:
            strange.append(path.name)
    return found, list(dict.fromkeys(students + [one.student for one in found])), strange


def collect(folder, problem_sets, roster=None, strange=None):
    """A `Submission` for each student and each problem set that anybody handed in, in order.

    roster: {name of the folder or file: id of the student}; who is on it and handed in nothing has a row too.
    strange: a list that takes the names of files at the top that nothing is done with.
    """
    names = Names(roster or {})
    found, students, others = files(folder, problem_sets, names)
    if strange is not None:
        strange += others
    best, faults = {}, {}
    for one in sorted(found, key=lambda one: (one.time, one.name)):
        try:
            if one.fault:
                raise Unreadable(one.fault)
            cells = parse(one.data)
            name = guess_set(cells, problem_sets)
            if name is None:
                raise Unreadable("the notebook belongs to no problem set: it has none of its cells")
        except Unreadable as error:
            faults.setdefault(one.student, []).append((named_set(one, problem_sets), f"{one.name}: {error}"))
            continue
        notes = []
        if (one.student, name) in best:
            notes = [f"several notebooks of this problem set: {one.name}, saved last, counts"]
        best[one.student, name] = Submission(one.student, name, cells, notes)
    seen = {name for _, name in best} | {name for group in faults.values() for name, _ in group if name}
    seen = sorted(seen or problem_sets)
    rows = []
    for student in sorted({*students, *names.roster.values()}):
        for name in seen:
            mine = [text for guess, text in faults.get(student, []) if guess in (None, name)]
            row = best.get((student, name))
            if row is None:
                row = Submission(student, name, None, mine or ["no notebook of this problem set was handed in"])
            else:
                row.notes += mine
            rows.append(row)
    return rows


def named_set(one, problem_sets):
    """The set that an unreadable file's name or text tells of, or None."""
    text = one.name + " " + (one.data or b"")[:200_000].decode("utf-8", "replace")
    for name, problem_set in problem_sets.items():
        ids = [cell.id for cell in problem_set.cells if cell.kind == "hidden"]
        if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", one.name) or any(
            f'"{grade_id}"' in text for grade_id in ids
        ):
            return name
    return None
