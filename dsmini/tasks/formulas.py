"""Formulas: from text that a model wrote, plain or LaTeX, to a tree; and whether two of them are equal.

SymPy's own readers hand text to Python's `eval`, so a model that is rewarded through them can run code. This reader
knows numbers, + - * / ^, brackets, roots, pi and the variables it is told, and nothing else. The one decision to know:
length, depth, exponents and degree are bounded before anything is computed, and what a careful human could read in two
ways (`1/2x`) is not read at all. SymPy only ever sees a finished tree, to prove what a few exact points suggest.

A tree is a tuple: ("number", Fraction), ("name", "x"), ("pi",), ("-", a), ("+", a, b), ("*", a, b), ("/", a, b),
("^", a, n) with an int n, or ("sqrt", a).
"""

import math
import re
from fractions import Fraction

MAX_LENGTH = 300  # characters of an answer
MAX_DIGITS = 24  # of one number
MAX_DEPTH = 24  # brackets in brackets
MAX_EXPONENT = 12
MAX_DEGREE = 24  # exponents of factors added, of powers of powers multiplied
MAX_ROOTS = 4
MAX_ITEMS = 8  # of a list

_DIGITS = 10**60
_CLOSE = Fraction(1, 10**40)
_PI = Fraction("3.141592653589793238462643383279502884197169399375105820974945")
_POINTS = (Fraction(3, 7), Fraction(-11, 5), Fraction(13, 3), Fraction(29, 8))
_SPELLINGS = [
    (re.compile(pattern), to)
    for pattern, to in (
        (r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\(?:left|right|displaystyle|qquad|quad|[,;:!()\[\] ])|[$~]", " "),
        (r"\\[dt]frac", r"\\frac"),
        (r"\\(?:cdot|times)(?![A-Za-z])|[·×⋅]", "*"),
        (r"\\div(?![A-Za-z])|÷", "/"),
        (r"[−–]", "-"),
        (r"\\pm(?![A-Za-z])", "±"),
        (r"\*\*", "^"),
        (r"²", "^2"),
        (r"√", "sqrt"),
        (r"π", "pi"),
        (r"\\in(?![A-Za-z])|∈", "="),
        (r"\\(?=[{}]|(?:frac|sqrt|pi)(?![A-Za-z]))", ""),
        (r"\s*,?\s*(?:\b(?:or|and)\b|\\lor\b|∨)|;", ","),
        (r"[.\s]+$", ""),
    )
]
_LABEL = re.compile(r"\s*(?:[A-Za-z]'?(?:_\w|_\{\w\}|\([A-Za-z]\))?|d[A-Za-z]/d[A-Za-z]|frac\{d[A-Za-z]\}\{dx\})\s*=")


def boxed(text):
    r"""What stands in the last `\boxed{...}` of a text, or the whole text where there is none.

    None for a box that does not close, or not within 300 characters: such an answer was cut off, or is no answer.
    """
    start = text.rfind(r"\boxed{")
    if start < 0:
        return text
    start += len(r"\boxed{")
    end = _closing(text[start : start + MAX_LENGTH + 1])
    return None if end is None else text[start : start + end]


def parse(text, names=("x",)):
    r"""The formulas in a text, as a tuple of trees: one, or several for a list or a set.

    names: the variables, one letter each. A label (`x =`, `f'(x) =`, `x \in`) is not part of a formula; `±` makes two.
    Raises ValueError, saying what it could not read, for anything but at most 8 formulas within the limits above.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"text: {len(text)} characters, expected at most {MAX_LENGTH}")
    for pattern, to in _SPELLINGS:
        text = pattern.sub(to, text)
    bare = _without_label(text)
    if bare.startswith("{") and _closing(bare[1:]) == len(bare) - 2:
        text = bare[1:-1]
    items = [_without_label(item) for item in text.split(",")]
    items = [item.replace("±", sign) for item in items for sign in ("+-" if "±" in item else "+")]
    if len(items) > MAX_ITEMS:
        raise ValueError(f"text: {len(items)} formulas, expected at most {MAX_ITEMS}")
    return tuple(_Reader(item, names).formula() for item in items)


def evaluate(tree, values):
    """A tree's value where its variables have theirs, as a Fraction: exact, but for roots and pi, which have 60 digits.

    values: dict, name -> Fraction. Raises ValueError for the root of a negative number and for a name without a value,
    ZeroDivisionError for a division by zero.
    """
    match tree:
        case ("number", value):
            return value
        case ("name", name):
            if name not in values:
                raise ValueError(f"tree: holds {name!r}, expected a number")
            return values[name]
        case ("pi",):
            return _PI
        case ("-", a):
            return -evaluate(a, values)
        case ("sqrt", a):
            square = evaluate(a, values)
            if square < 0:
                raise ValueError(f"tree: holds the root of {square}, expected at least 0")
            return Fraction(math.isqrt(int(square * _DIGITS**2)), _DIGITS)
        case ("^", a, n):
            return evaluate(a, values) ** n
    left, right = evaluate(tree[1], values), evaluate(tree[2], values)
    return left + right if tree[0] == "+" else left * right if tree[0] == "*" else left / right


def is_rational(tree):
    """Whether neither a root nor pi is in a tree."""
    return tree[0] not in ("sqrt", "pi") and all(is_rational(part) for part in tree[1:] if isinstance(part, tuple))


def to_sympy(tree):
    """The tree as SymPy's expression. Raises ValueError for one that divides by zero."""
    import sympy  # half a second, and only who checks formulas needs it

    def convert(tree):
        match tree:
            case ("number", value):
                return sympy.Rational(value.numerator, value.denominator)
            case ("name", name):
                return sympy.Symbol(name)
            case ("pi",):
                return sympy.pi
            case ("-", a):
                return -convert(a)
            case ("sqrt", a):
                return sympy.sqrt(convert(a))
            case ("^", a, n):
                return convert(a) ** n
        left, right = convert(tree[1]), convert(tree[2])
        return left + right if tree[0] == "+" else left * right if tree[0] == "*" else left / right

    expression = convert(tree)
    if expression.has(sympy.zoo, sympy.nan):
        raise ValueError("tree: divides by zero")
    return expression


def equal(a, b, names=("x",)):
    """Whether two trees are the same function of their variables, wherever both are defined.

    First their values at four points: most wrong answers end here, in microseconds; only what is right to forty digits
    goes on. Then SymPy must prove that the difference is zero.
    """
    exact = is_rational(a) and is_rational(b)
    for i in range(len(_POINTS)):
        values = {name: _POINTS[(i + j) % len(_POINTS)] for j, name in enumerate(names)}
        try:
            left, right = evaluate(a, values), evaluate(b, values)
        except (ValueError, ZeroDivisionError):
            continue  # not defined there
        if left != right and (exact or abs(left - right) > _CLOSE * max(1, abs(left))):
            return False
    import sympy

    try:
        difference = to_sympy(a) - to_sympy(b)
    except ValueError:
        return False
    return (sympy.cancel if exact else sympy.simplify)(difference) == 0


def degree(tree):
    """An upper bound of a tree's degree: factors add, powers multiply. A number is 0, its n-th power n."""
    match tree:
        case ("number", _) | ("pi",):
            return 0
        case ("name", _):
            return 1
        case ("-", a) | ("sqrt", a):
            return degree(a)
        case ("^", a, n):
            return abs(n) * max(1, degree(a))
        case ("+", a, b):
            return max(degree(a), degree(b))
    return degree(tree[1]) + degree(tree[2])


def _without_label(text):
    label = _LABEL.match(text)
    return (text[label.end() :] if label else text).strip()


def _closing(text):
    """Where the brace closes that opened just before this text, or None."""
    depth = 1
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return at
    return None


class _Reader:
    """Recursive descent, a method for each level: sum, product, power, atom. Every recursion passes through `power`."""

    def __init__(self, text, names):
        self.text, self.names, self.at, self.depth, self.roots = text, names, 0, 0, 0

    def formula(self):
        tree = self.sum()
        if self.peek(r"."):
            self.fail()
        return tree

    def sum(self):
        tree = self.product()
        while sign := self.take(r"[-+]"):
            right = self.product()
            tree = ("+", tree, ("-", right) if sign == "-" else right)
        return tree

    def product(self):
        negative = self.signs()
        tree, slash = self.power(), False
        while True:
            if operator := self.take(r"[*/]"):
                slash, minus = operator == "/", self.signs()
                right = self.power()
                tree = self.bounded((operator, tree, ("-", right) if minus else right))
            elif self.peek(r"[A-Za-z({]"):
                if slash:
                    self.fail("a product behind a slash, which can be read in two ways: ")
                tree = self.bounded(("*", tree, self.power()))
            else:
                return ("-", tree) if negative else tree

    def power(self):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} levels: ")
        tree = self.atom()
        if self.take(r"\^"):
            negative = self.signs()
            exponent = self.number_of(self.power()) * (-1 if negative else 1)
            if abs(exponent) > MAX_EXPONENT or exponent.denominator > 2:
                self.fail(f"an exponent that is no multiple of 1/2 up to {MAX_EXPONENT}: ")
            tree = self.bounded(("^", tree, exponent.numerator)) if exponent.numerator != 1 else tree
            tree = self.root(tree) if exponent.denominator == 2 else tree
        self.depth -= 1
        return tree

    def atom(self):
        if digits := self.take(r"\d+(?:\.\d+)?|\.\d+"):
            return self.number(digits)
        if bracket := self.take(r"[({]"):
            tree = self.sum()
            if not self.take(r"\)" if bracket == "(" else r"\}"):
                self.fail()
            return tree
        if self.take("frac"):
            return self.bounded(("/", self.argument(), self.argument()))
        if self.take("sqrt"):
            return self.root(self.argument())
        if self.take("pi"):
            return ("pi",)
        if self.peek(r"[A-Za-z]") and self.text[self.at] in self.names:
            return ("name", self.take(r"."))
        self.fail()

    def number(self, digits):
        """A number; with a fraction of two numbers right behind a whole one, a mixed number."""
        if len(digits) > MAX_DIGITS:
            self.fail(f"a number of more than {MAX_DIGITS} digits: ")
        tree = ("number", Fraction(digits))
        if digits.isdigit() and self.peek("frac"):
            part = self.atom()
            if part[1][0] == part[2][0] == "number":
                return ("+", tree, part)
            return self.bounded(("*", tree, part))
        return tree

    def argument(self):
        r"""What `\frac` and `\sqrt` take, by TeX's rule: a group, or else a single character (`\frac12`)."""
        digit = self.take(r"\d")
        return ("number", Fraction(digit)) if digit else self.atom()

    def root(self, tree):
        self.roots += 1
        if self.roots > MAX_ROOTS:
            self.fail(f"more than {MAX_ROOTS} roots: ")
        return ("sqrt", tree)

    def signs(self):
        """Takes any signs; whether they make a minus."""
        return "".join(iter(lambda: self.take(r"[-+]"), "")).count("-") % 2 == 1

    def number_of(self, tree):
        try:
            value = evaluate(tree, {}) if is_rational(tree) else None
        except (ValueError, ZeroDivisionError):
            value = None
        if value is None:
            self.fail("an exponent that is no number: ")
        return value

    def bounded(self, tree):
        if degree(tree) > MAX_DEGREE:
            self.fail(f"a degree above {MAX_DEGREE}: ")
        return tree

    def peek(self, pattern):
        self.at = re.compile(r"\s*").match(self.text, self.at).end()
        return re.compile(pattern).match(self.text, self.at)

    def take(self, pattern):
        """The text that matches here, which is then behind us; "" where none does."""
        match = self.peek(pattern)
        self.at = match.end() if match else self.at
        return match[0] if match else ""

    def fail(self, why=""):
        raise ValueError(f"text: cannot read {why}character {self.at} of {self.text!r}")
