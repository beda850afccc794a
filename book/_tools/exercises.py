"""Exercises are held to what they promise: the solution passes the public check, and an empty answer does not.

A chapter states an exercise as `exercise` and `solution` blocks (sphinx-exercise). The Python in the exercise is its
check, the Python in the solution is an answer. Both run after the chapter's own cells, in the chapter's own kernel.
"""

import ast
import json
import re
from dataclasses import dataclass

BLOCK = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<kind>exercise|solution)\} *(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=fence) *$",
    re.DOTALL | re.MULTILINE,
)
LABEL = re.compile(r"^:label: *(\S+)", re.MULTILINE)
PYTHON = re.compile(r"^(```|~~~)python\n(.*?)^\1 *$", re.DOTALL | re.MULTILINE)
DIFFICULTY = re.compile(r"★{1,3} \d+ minutes\.")


@dataclass
class Exercise:
    """One exercise of a chapter."""

    label: str
    text: str
    check: str
    solution: str = ""


def exercises(notebook):
    """The exercises of a notebook by label, each with its solution."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for block in BLOCK.finditer(cell.source):
            python = "\n".join(match[2] for match in PYTHON.finditer(block["body"]))
            if block["kind"] == "exercise":
                label = LABEL.search(block["body"])[1]
                found[label] = Exercise(label, block["body"], python)
            else:
                found[block["title"].strip()].solution = python
    return found


def empty_answer(solution):
    """Code that defines the solution's names and answers nothing."""
    lines = []
    for node in ast.parse(solution).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            lines.append(f"{node.name} = lambda *args, **kwargs: None")
        elif isinstance(node, ast.Assign):
            names = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            lines += [f"{name} = None" for name in names]
    return "\n".join(lines)


def kernel_code(found):
    """Code for a kernel that has run the chapter: prints one line of JSON, label -> what is wrong."""
    trials = {item.label: (item.solution, empty_answer(item.solution), item.check) for item in found.values()}
    return f"""
def _complaint(solution, empty, check):
    answered, unanswered = dict(globals()), dict(globals())
    try:
        exec(solution, answered)
        exec(check, answered)
    except Exception as error:
        return f"the solution fails its own check: {{type(error).__name__}}: {{error}}"
    try:
        exec(empty, unanswered)
        exec(check, unanswered)
    except Exception:
        return ""
    return "the check passes with an empty answer"

import json as _json
print(_json.dumps({{label: _complaint(*trial) for label, trial in {trials!r}.items()}}))
"""


def complaints(printed):
    """What `kernel_code` found wrong, one line an exercise."""
    return [f"{label}: {what}" for label, what in json.loads(printed.strip().splitlines()[-1]).items() if what]
