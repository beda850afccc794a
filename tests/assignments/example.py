"""A problem set of two small functions and a written question, for the tests of the tools alone."""

import json
from pathlib import Path

import nbformat

NAME = "example"
IMPORTS = """import torch

from dsmini.check import case, close, equal, refuses, variant

me = variant("example", student="reader")"""
SCALED = '''def scaled(x, by):
    """x * by, as a new tensor. x: (N,). by: a number; 0 is a ValueError that names `by`."""
    ### BEGIN SOLUTION
    if by == 0:
        raise ValueError("by = 0: expected another number")
    return x * by
    ### END SOLUTION'''
SCALED_PUBLIC = """close(scaled(torch.tensor([1.0, 2.0]), 3), torch.tensor([3.0, 6.0]))
print("scaled: public checks pass")"""
SCALED_HIDDEN = """# Hidden tests (2 points): other numbers, bad input.
### BEGIN HIDDEN TESTS
x = me.normal("scaled", me.integer("scaled-n", 3, 9))
with case("other numbers"):
    close(scaled(x, -0.75), torch.tensor([-0.75 * value for value in x.tolist()]))
with case("zero is refused"):
    refuses(scaled, x, 0, naming="by")
### END HIDDEN TESTS"""
FIRST_PEAK = '''def first_peak(values):
    """The index of the first of the largest values. values: a list of numbers."""
    ### BEGIN SOLUTION
    return values.index(max(values))
    ### END SOLUTION'''
FIRST_PEAK_PUBLIC = """equal(first_peak([1, 3, 2]), 1)
print("first_peak: public checks pass")"""
FIRST_PEAK_HIDDEN = """# Hidden tests (3 points): ties, longer lists.
### BEGIN HIDDEN TESTS
with case("ties go to the lower index"):
    equal(first_peak([2, 7, 7, 1]), 1)
with case("longer lists"):
    values = me.normal("peak", me.integer("peak-n", 20, 40)).tolist()
    equal(first_peak(values), max(range(len(values)), key=values.__getitem__))
### END HIDDEN TESTS"""
WRITTEN = """### BEGIN SOLUTION
A tie needs a rule, or two machines give two answers.
### END SOLUTION"""


def mark(grade_id, points=None, solution=False, code=True):
    grade = points is not None
    found = {"grade": grade, "grade_id": grade_id, "locked": not solution, "schema_version": 3, "solution": solution}
    found |= {"task": False, "cell_type": "code" if code else "markdown"}
    return {"nbgrader": found | ({"points": points} if grade else {})}


def notebook():
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [
        text("# An example"),
        code(IMPORTS),
        text("Write `scaled`.", metadata=mark("scaled-text", code=False)),
        code(SCALED, metadata=mark("scaled", solution=True)),
        code(SCALED_PUBLIC, metadata=mark("scaled-public", 1)),
        code(SCALED_HIDDEN, metadata=mark("scaled-hidden", 2)),
        text("Write `first_peak`.", metadata=mark("first_peak-text", code=False)),
        code(FIRST_PEAK, metadata=mark("first_peak", solution=True)),
        code(FIRST_PEAK_PUBLIC, metadata=mark("first_peak-public", 1)),
        code(FIRST_PEAK_HIDDEN, metadata=mark("first_peak-hidden", 3)),
        text("Why do ties need a rule?", metadata=mark("written-text", code=False)),
        text(WRITTEN, metadata=mark("written", 5, solution=True, code=False)),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"example-{number}"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def write_source(folder):
    """folder/example/example.ipynb. Returns folder."""
    path = Path(folder) / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook(), path)
    return Path(folder)


def answered(folder, **answers):
    """A released notebook as a dict, with the given sources in its solution and written cells."""
    released = json.loads((Path(folder) / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8"))
    for cell in released["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if grade_id in answers:
            cell["source"] = answers[grade_id]
    return released
