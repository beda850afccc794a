"""Mistakes, planted: a module of the package with pieces of its source replaced."""

import inspect
from types import ModuleType


def planted(module, right, wrong, *more):
    """A copy of a module whose source says `wrong` where it said `right`; the module itself stays as it is.

    more: further pairs, one after the other, for a mistake that is in several places.
    """
    source = inspect.getsource(module)
    for right, wrong in ((right, wrong), *zip(more[::2], more[1::2], strict=True)):  # noqa: PLR1704, B020
        found = source.count(right)
        assert found == 1, f"{module.__name__}: {right!r} is there {found} times, expected once"
        source = source.replace(right, wrong)
    copy = ModuleType(module.__name__)
    exec(compile(source, f"planted in {module.__name__}", "exec"), vars(copy))
    return copy
