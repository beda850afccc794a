"""Mistakes, planted: a module of the package with one piece of its source replaced."""

import inspect
from types import ModuleType


def planted(module, right, wrong):
    """A copy of a module whose source says `wrong` where it said `right`; the module itself stays as it is."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{module.__name__}: {right!r} is there {source.count(right)} times, expected once"
    copy = ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), f"planted in {module.__name__}", "exec"), vars(copy))
    return copy
