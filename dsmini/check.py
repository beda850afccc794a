"""Checks that a reader can call: they say what differs first, where, and what was expected.

A problem set's visible tests are made of these, and so are the hidden ones, where `case` hides the values and keeps the
kind of mistake. The decision to know: whatever is random in a problem set is drawn by `variant` from the student's id,
so two students have other sizes and other numbers, and the same student has the same ones every time.
"""

import contextlib
import hashlib
import math
import os
import re
import unicodedata
from numbers import Number

STUDENT = "DSMINI_STUDENT"  # the environment variable that names the student while a submission is graded


class Wrong(AssertionError):
    """An answer is not what was asked for. kind: in a few words and without values; the text has the values."""

    def __init__(self, message, kind):
        super().__init__(message)
        self.kind = kind


def close(actual, expected, what="answer", atol=1e-6, rtol=1e-5):
    """Numbers, tensors, and lists, tuples or dicts of them are equal within |a - e| <= atol + rtol * |e|.

    A tensor's dtype may differ, its shape may not. Raises `Wrong`, which names the first difference.
    """
    _compare(actual, expected, what, atol, rtol)


def equal(actual, expected, what="answer"):
    """As `close` without a tolerance; for texts, truth values and None too."""
    _compare(actual, expected, what, 0.0, 0.0)


def refuses(function, *args, error=ValueError, naming="", what="bad input"):
    """The call raises this kind of error, with a text that holds `naming`. Raises `Wrong` if it does not."""
    try:
        result = function(*args)
    except error as caught:
        if naming in str(caught):
            return
        message = f"{what}: the {type(caught).__name__} says {str(caught)!r}, expected it to name {naming!r}"
        raise Wrong(message, "an error that does not name what is wrong") from None
    except Exception as caught:
        message = f"{what}: raised {type(caught).__name__} ({caught}), expected {error.__name__}"
        raise Wrong(message, f"raised {type(caught).__name__}") from None
    raise Wrong(f"{what}: returned {_short(result)}, expected {error.__name__}", "no error where one was expected")


@contextlib.contextmanager
def case(name):
    """A hidden test: whatever goes wrong inside is told by the case's name and the kind of failure, without values."""
    try:
        yield
    except Wrong as wrong:
        raise Wrong(f"{name}: {wrong.kind}", wrong.kind) from None
    except Exception as error:
        kind = "not answered yet" if isinstance(error, NotImplementedError) else f"raised {type(error).__name__}"
        raise Wrong(f"{name}: {kind}", kind) from None


class Variant:
    """A student's own sizes and numbers, drawn from the id, the problem set and a name for each.

    student, problem_set: texts. typed: the id that the notebook was worked under; None where it is the same.
    """

    def __init__(self, student, problem_set, typed=None):
        self.student, self.problem_set, self.typed = student, problem_set, typed

    def __repr__(self):
        return f"Variant(student={self.student!r}, problem_set={self.problem_set!r})"

    def seed(self, name):
        """An integer of 62 bits."""
        text = "\n".join((self.problem_set, self.student, name))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2

    def integer(self, name, low, high):
        """An integer from low to high, both included."""
        return low + self.seed(name) % (high - low + 1)

    def choice(self, name, options):
        """One of the options."""
        return options[self.seed(name) % len(options)]

    def generator(self, name):
        """A torch.Generator of its own for each name."""
        import torch

        return torch.Generator().manual_seed(self.seed(name))

    def normal(self, name, *shape, dtype=None):
        """Standard normal numbers of a shape; dtype: None for float64."""
        import torch

        return torch.randn(*shape, generator=self.generator(name), dtype=dtype or torch.float64)


def variant(problem_set, student):
    """The `Variant` of a student: of the id given, or of the one that the submission is graded under.

    Raises ValueError for an id that is empty or still a placeholder.
    """
    typed, graded = plain_id(str(student)), plain_id(os.environ.get(STUDENT, ""))
    if not graded and (not typed or typed == "your-id"):
        raise ValueError(f"student = {student!r}: expected your id, the name that you hand in under")
    return Variant(graded or typed, problem_set, typed if graded and typed != graded else None)


def plain_id(text):
    """An id in small letters, as the name of a file may spell it."""
    return file_name(unicodedata.normalize("NFC", text).lower())


def file_name(text):
    """A text as the name of a file may spell it: `_` for blanks and signs, accents in one way."""
    text = unicodedata.normalize("NFC", text)  # macOS writes its accents as letters of their own
    return re.sub(r"[^\w.@-]+", "_", text.strip()).strip("._-")


def _compare(actual, expected, where, atol, rtol):
    if hasattr(expected, "detach"):
        _compare_tensors(actual, expected, where, atol, rtol)
    elif isinstance(expected, dict):
        if not isinstance(actual, dict):
            raise Wrong(f"{where}: got {_short(actual)}, expected a dict", f"{type(actual).__name__}, not a dict")
        if set(actual) != set(expected):
            found, wanted = sorted(map(str, actual)), sorted(map(str, expected))
            raise Wrong(f"{where}: has the keys {found}, expected {wanted}", "other keys than expected")
        for key in expected:
            _compare(actual[key], expected[key], f"{where}[{key!r}]", atol, rtol)
    elif isinstance(expected, list | tuple):
        if not isinstance(actual, list | tuple):
            kind = f"{type(actual).__name__}, not a {type(expected).__name__}"
            raise Wrong(f"{where}: got {_short(actual)}, expected a {type(expected).__name__}", kind)
        for index, pair in enumerate(zip(actual, expected, strict=False)):
            _compare(*pair, f"{where}[{index}]", atol, rtol)
        if len(actual) != len(expected):
            raise Wrong(f"{where}: has {len(actual)} entries, expected {len(expected)}", "a wrong length")
    elif isinstance(expected, Number) and not isinstance(expected, bool):
        value = actual.item() if hasattr(actual, "item") and getattr(actual, "ndim", 0) == 0 else actual
        if not isinstance(value, Number) or isinstance(value, bool):
            raise Wrong(f"{where}: got {_short(actual)}, expected a number", f"{type(actual).__name__}, not a number")
        if not _near(value, expected, atol, rtol):
            raise Wrong(f"{where}: got {value:.8g}, expected {expected:.8g}{_within(atol, rtol)}", _kind(value))
    elif type(actual) is not type(expected) or actual != expected:
        raise Wrong(f"{where}: got {_short(actual)}, expected {_short(expected)}", "a wrong value")


def _compare_tensors(actual, expected, where, atol, rtol):
    import torch

    if not isinstance(actual, torch.Tensor):
        kind = f"{type(actual).__name__}, not a tensor"
        raise Wrong(f"{where}: got {_short(actual)}, expected a tensor {tuple(expected.shape)}", kind)
    if actual.shape != expected.shape:
        message = f"{where}: has the shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        raise Wrong(message, "a wrong shape")
    got, wanted = actual.detach().to(torch.float64), expected.detach().to(torch.float64)
    wrong = ~torch.isclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True)
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        at = f" at {list(place)}" if place else ""
        count = f"; {int(wrong.sum())} of {wrong.numel()} values differ" if wrong.numel() > 1 else ""
        value = got[place].item()
        message = f"{where}:{at} got {value:.8g}, expected {wanted[place].item():.8g}{_within(atol, rtol)}{count}"
        raise Wrong(message, _kind(value))


def _near(value, expected, atol, rtol):
    if isinstance(value, complex) or isinstance(expected, complex):
        return abs(value - expected) <= atol + rtol * abs(expected)
    if math.isnan(expected) or math.isinf(expected):
        return value == expected or math.isnan(value) and math.isnan(expected)
    return abs(value - expected) <= atol + rtol * abs(expected)


def _kind(value):
    return "NaN" if isinstance(value, float) and math.isnan(value) else "wrong values"


def _within(atol, rtol):
    return f" within {atol:g} + {rtol:g} x |expected|" if atol or rtol else ""


def _short(value):
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
