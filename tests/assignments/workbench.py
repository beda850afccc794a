"""Problem sets and answers to them, tried in this process: quick, and independent of nbgrader and the sandbox."""

import contextlib
import importlib.util
import os
from functools import cache
from pathlib import Path

import torch

import sets
from dsmini.check import STUDENT

ANSWERS = Path(__file__).parents[2] / "assignments" / "answers"
NAMES = sets.names()


@cache
def problem_set(name):
    return sets.load(name)


@cache
def answers(name):
    """The module assignments/answers/NAME.py: WRONG and RIGHT."""
    spec = importlib.util.spec_from_file_location(f"answers_{name}", ANSWERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def graded_as(student):
    before = os.environ.get(STUDENT)
    os.environ[STUDENT] = student
    try:
        yield
    finally:
        os.environ.pop(STUDENT)
        if before is not None:
            os.environ[STUDENT] = before


@cache
def namespace(name, student, solved=True):
    """The names of a problem set after its own cells have run; solved: with the reference's answers."""
    names = {"__name__": "__main__"}
    with graded_as(student):
        for cell in problem_set(name).cells:
            if cell.kind == "given" or cell.kind == "solution" and solved:
                exec(compile(cell.source, f"<{name} {cell.id}>", "exec"), names)
    return names


def verdicts(name, function, student, source=None):
    """{public, hidden: None or the error}, with `source` in the place of the reference's answer."""
    found = {}
    for kind in ("public", "hidden"):
        names = dict(namespace(name, student))
        cell = problem_set(name).by_id[problem_set(name).functions[function][kind]]
        torch.manual_seed(0)
        with graded_as(student), contextlib.redirect_stdout(None):
            try:
                if source is not None:
                    exec(compile(source, f"<answer {function}>", "exec"), names)
                exec(compile(cell.source, f"<{cell.id}>", "exec"), names)
                found[kind] = None
            except Exception as error:
                found[kind] = error
    return found
