"""The problem sets as their sources say: which functions, which cells, how many points."""

import ast
import dataclasses
import functools
import json
from pathlib import Path

ASSIGNMENTS = Path(__file__).parents[1]
SOURCE = ASSIGNMENTS / "source"
HIDDEN = "### BEGIN HIDDEN TESTS"
WRITTEN = "YOUR ANSWER HERE"


@dataclasses.dataclass(frozen=True)
class SourceCell:
    """kind: given (code that everybody gets), text, solution, public, hidden or written. id: None without a mark."""

    id: str | None
    kind: str
    code: bool
    source: str
    points: float
    mark: dict  # the nbgrader metadata


@dataclasses.dataclass(frozen=True)
class ProblemSet:
    name: str
    cells: tuple

    @functools.cached_property
    def by_id(self):
        return {cell.id: cell for cell in self.cells if cell.id}

    @functools.cached_property
    def functions(self):
        """The graded functions in order: {name: {"public": cell id, "hidden": cell id, "points": points}}."""
        found = {}
        for cell in self.cells:
            if cell.kind in ("public", "hidden"):
                entry = found.setdefault(function_of(cell.id), {"points": 0.0})
                entry[cell.kind] = cell.id
                entry["points"] += cell.points
        return found

    @property
    def points(self):
        return sum(cell.points for cell in self.cells)

    @property
    def given(self):
        """The code that a student gets, magics aside: what the tests may count on."""
        return "\n\n".join(cell.source for cell in self.cells if cell.kind == "given" and parses(cell.source))


def parses(source):
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def function_of(grade_id):
    return grade_id.removesuffix("-public").removesuffix("-hidden")


def kind_of(mark, code, source):
    if mark.get("grade"):
        if mark.get("solution"):
            return "written"
        return "hidden" if HIDDEN in source else "public"
    if mark.get("solution"):
        return "solution"
    return "given" if code else "text"


def text_of(source):
    """A cell's source, which a notebook file holds as a text or as lines."""
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def load(name, folder=SOURCE):
    """The `ProblemSet` in folder/NAME/NAME.ipynb."""
    notebook = json.loads((Path(folder) / name / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = []
    for cell in notebook["cells"]:
        mark = cell["metadata"].get("nbgrader", {})
        source, code = text_of(cell["source"]), cell["cell_type"] == "code"
        points = float(mark.get("points", 0)) if mark.get("grade") else 0.0
        cells.append(SourceCell(mark.get("grade_id"), kind_of(mark, code, source), code, source, points, mark))
    return ProblemSet(name, tuple(cells))


def names(folder=SOURCE):
    """The problem sets in a folder."""
    return sorted(path.stem for path in Path(folder).glob("*/*.ipynb") if path.stem == path.parent.name)


def load_all(folder=SOURCE):
    return {name: load(name, folder) for name in names(folder)}
