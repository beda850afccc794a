"""A submitted notebook made whole: every cell of the problem set once, the tests as they were handed out.

What a student may change is kept in its order: solutions, cells of their own, the written answer. What was locked is
put back, what is missing is added. Each repair is noted in words for the student.
"""

import copy
import json
import re

import nbformat

from sets import HIDDEN, ProblemSet, text_of

MOST_SOURCE = 200_000  # characters of one cell
MOST_CELLS = 1000
MISSING = "# This cell was missing in the notebook that was handed in.\n"


class Unreadable(ValueError):
    """No notebook: says why."""


def parse(data):
    """The cells of a notebook file, from bytes: a list of (type, source, grade id or None)."""
    if not data.strip():
        raise Unreadable("the file is empty")
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unreadable("the file is no notebook: not a text in UTF-8") from None
    except RecursionError:
        raise Unreadable("the file is no notebook: it is nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"the file is no notebook: broken JSON ({str(error)[:100]})") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("the file is no notebook: it has no list of cells")
    if len(cells) > MOST_CELLS:
        raise Unreadable(f"the notebook has {len(cells)} cells, expected {MOST_CELLS} at most")
    found = []
    for cell in cells:
        if not isinstance(cell, dict):
            continue
        metadata = cell.get("metadata")
        mark = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        grade_id = mark.get("grade_id") if isinstance(mark, dict) else None
        source = text_of(cell.get("source")).replace("\r\n", "\n").replace("\x00", "")
        source = source.encode("utf-8", "replace").decode()
        if len(source) > MOST_SOURCE:
            source = f"# A cell of {len(source):,} characters was left out.\n"
        kind = "code" if cell.get("cell_type") == "code" else "markdown"
        found.append((kind, source, grade_id if isinstance(grade_id, str) else None))
    return found


def guess_set(cells, problem_sets):
    """The set that most marks of a notebook belong to; without marks, the one that it names or defines. Or None."""
    ids = {grade_id for _, _, grade_id in cells if grade_id}
    text = "\n".join(source for _, source, _ in cells)

    def likeness(item):
        name, problem_set = item
        solutions = [cell.id for cell in problem_set.cells if cell.kind == "solution"]
        named = re.search(rf"variant\(\s*['\"]{re.escape(name)}['\"]", text) is not None
        return (len(ids & set(problem_set.by_id)), named, sum(defines(text, solution) for solution in solutions))

    best = max(problem_sets.items(), key=likeness, default=None)
    return best[0] if best and any(likeness(best)) else None


def defines(source, name):
    return re.search(rf"^(def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", source, re.MULTILINE) is not None


def repair(cells, problem_set: ProblemSet, stubs=None):
    """(a notebook, notes): the problem set's cells and the student's, from `parse`.

    stubs: what stands in the handed-out solution and written cells, by id, to tell what was never touched.
    """
    notes, stubs = [], stubs or {}
    cells = _marked_again(cells, problem_set, notes)
    last = {grade_id: index for index, (_, _, grade_id) in enumerate(cells)}
    placed, result = {}, []
    for index, (kind, source, grade_id) in enumerate(cells):
        known = problem_set.by_id.get(grade_id)
        if known is None:
            result.append(_own(kind, source))
            continue
        free = known.kind in ("solution", "written")
        if last[grade_id] != index and free:
            notes.append(f"the cell {grade_id} is there more than once: all run, in order, and the last one counts")
            result.append(_own(kind, source))
        elif free:
            if known.code != (kind == "code"):
                notes.append(f"the cell {grade_id} had another type")
            placed[grade_id] = known
            result.append(_known(known, source))
        elif grade_id not in placed:
            placed[grade_id] = known
            result.append(_known(known, known.source))
            if known.kind == "public" and source.strip() != known.source.strip():
                notes.append(f"the test cell {grade_id} was changed: the original counts")
        elif known.code:
            notes.append(f"the cell {grade_id} is there more than once: it counts once")
    _add_missing(problem_set, placed, result, notes, stubs)
    for number, cell in enumerate(result):
        cell["id"] = f"cell-{number}"
    return nbformat.v4.new_notebook(cells=result, metadata={"kernelspec": _KERNEL}), list(dict.fromkeys(notes))


def _marked_again(cells, problem_set, notes):
    """The cells; those whose mark an editor has dropped (Colab's may) have it again, by their text or their place."""
    cells, there = list(cells), {grade_id for _, _, grade_id in cells}
    before = None
    for cell in problem_set.cells:
        if cell.id and cell.id not in there:
            loose = [i for i, (_, _, grade_id) in enumerate(cells) if grade_id not in problem_set.by_id]
            if cell.kind == "solution":
                found = [i for i in loose if cells[i][0] == "code" and defines(cells[i][1], cell.id)][-1:]
                what = f"the cell {cell.id} lost its mark: what defines {cell.id} counts"
            elif cell.kind == "written":
                found, what = _below(cells, before, loose), "the written answer's cell lost its mark: it counts"
            else:
                found = [i for i in loose if cells[i][1].strip() == cell.source.split(HIDDEN)[0].strip()][:1]
                what = None
            if found:
                kind, source = cells[found[0]][0], "\n\n".join(cells[i][1] for i in found)
                cells[found[0]] = (kind, source, cell.id)
                for i in reversed(found[1:]):
                    del cells[i]
                notes += [what] if what else []
        before = cell.id or before
    return cells


def _below(cells, grade_id, loose):
    """The places of the texts without a mark that stand directly below a cell."""
    place = next((i for i, cell in enumerate(cells) if cell[2] == grade_id), len(cells))
    found = []
    while (place := place + 1) in loose and cells[place][0] == "markdown":
        found.append(place)
    return found


_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def _own(kind, source):
    return nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)


def _known(cell, source):
    new = nbformat.v4.new_code_cell(source) if cell.code else nbformat.v4.new_markdown_cell(source)
    new.metadata["nbgrader"] = nbformat.from_dict(copy.deepcopy(cell.mark))
    return new


def _add_missing(problem_set, placed, result, notes, stubs):
    """Each cell that is not there, behind the one that comes before it in the problem set."""
    position = 0
    for cell in problem_set.cells:
        if not cell.id:
            continue
        if cell.id in placed:
            position = 1 + next(
                i for i, one in enumerate(result) if one.metadata.get("nbgrader", {}).get("grade_id") == cell.id
            )
            continue
        source = cell.source
        if cell.kind == "written":
            source = stubs.get(cell.id, "")
            notes.append("the written answer's cell is missing")
        elif cell.kind == "solution":
            source = MISSING
            if any(one.cell_type == "code" and defines(one.source, cell.id) for one in result):
                notes.append(f"the cell {cell.id} is missing: what defines {cell.id} elsewhere counts")
            else:
                notes.append(f"the cell {cell.id} is missing")
        elif cell.kind in ("public", "given"):
            notes.append(f"the cell {cell.id} was missing and was put back")
        result.insert(position, _known(cell, source))
        position += 1
