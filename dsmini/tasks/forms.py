"""Forms of a formula: whether it is simplified, expanded or factored, and the many ways to write it down.

Equal is not enough where a question asks for a form: `expand (x + 1)(x + 2)` would be answered by its own words. The
checks look at the tree as it was written, before any arithmetic. `spell` writes a tree so that `formulas.parse` reads
an equal one in the same form.
"""

import math
from fractions import Fraction

from dsmini.tasks.formulas import degree

_ZERO = ("number", Fraction(0))


def has_form(tree, form):
    """Whether a tree in x is in the form that was asked for.

    form: "lowest" (a number, or a fraction of two without a common factor, or both as a mixed number); "simple root" (a
    number in lowest terms times the root of a whole number that no square divides); "expanded" (a sum of monomials,
    each power once); "factored" (a product of numbers and of factors of degree 1). Raises ValueError for another form.
    """
    checks = {"lowest": _is_lowest, "simple root": _is_simple_root, "expanded": _is_expanded, "factored": _is_factored}
    if form not in checks:
        raise ValueError(f"form = {form!r}: expected one of {', '.join(checks)}")
    return checks[form](tree)


def terms_of(tree, negative=False):
    """The terms of a sum, as pairs (whether it is subtracted, tree)."""
    match tree:
        case ("-", a):
            return terms_of(a, not negative)
        case ("+", a, b):
            return terms_of(a, negative) + terms_of(b, negative)
    return [(negative, tree)]


def factors_of(tree):
    """The factors of a product, a power as that many, a division by a number as a factor too; signs are left out."""
    match tree:
        case ("-", a):
            return factors_of(a)
        case ("*", a, b):
            return factors_of(a) + factors_of(b)
        case ("^", a, n) if n > 0:
            return factors_of(a) * n
        case ("/", a, ("number", _) as q) if a[0] != "number":
            return [*factors_of(a), ("/", ("number", Fraction(1)), q)]
    return [tree]


def _is_lowest(tree):
    match tree:
        case ("-", a):
            return _is_lowest(a)
        case ("number", _):
            return True
        case ("+", ("number", _), ("/", _, _) as part) | ("+", ("/", _, _) as part, ("number", _)):
            return _is_lowest(part)
        case ("/", a, ("number", q)):
            p = a[1][1] if a[0] == "-" and a[1][0] == "number" else a[1] if a[0] == "number" else None
            return p is not None and p.denominator == q.denominator == 1 < q and math.gcd(int(p), int(q)) == 1
    return False


def _is_simple_root(tree):
    factors = factors_of(tree)
    roots = [a for name, *rest in factors if name == "sqrt" for a in rest]
    others = [factor for factor in factors if factor[0] != "sqrt"]
    if len(roots) != 1 or len(others) > 1 or not all(map(_is_lowest, others)) or roots[0][0] != "number":
        return False
    n = roots[0][1]
    return n.denominator == 1 and n > 1 and all(n % (d * d) for d in range(2, math.isqrt(int(n)) + 1))


def _is_expanded(tree):
    powers = [_power_of_monomial(term) for _, term in terms_of(tree)]
    return None not in powers and len(set(powers)) == len(powers)


def _power_of_monomial(tree):
    """The power of x in a number times x's; None for a sum, for zero, and for x in a denominator or in a root."""
    power = 0
    for factor in factors_of(tree):
        if factor[0] == "name":
            power += 1
        elif factor == _ZERO or factor[0] == "+" or degree(factor) > 0:
            return None
    return power


def _is_factored(tree):
    return all(degree(factor) == 0 or (degree(factor) == 1 and _is_expanded(factor)) for factor in factors_of(tree))


def spell(tree, draw=None, latex=False):
    """A tree as text. draw: chooses among the ways to write it, in any order of terms and factors; None: one plain way.

    latex: fractions, roots, dots and exponents as LaTeX writes them.
    """
    return _Speller(draw, latex).sum(tree)


class _Speller:
    def __init__(self, draw, latex):
        self.draw, self.latex = draw, latex

    def pick(self, *ways):
        return self.draw.choice(ways) if self.draw else ways[0]

    def mixed(self, parts):
        return self.draw.shuffled(parts) if self.draw else parts

    def sum(self, tree):
        text = ""
        for negative, term in self.mixed(terms_of(tree)):
            sign = ("-" if negative else "+") if text or negative else ""
            gap = self.pick(" ", "") if text else ""
            text += f"{gap}{sign}{gap}{self.product(term)}"
        return text

    def product(self, tree):
        """A product, or what stands in its place; a sum or a sign in it gets brackets."""
        if tree[0] != "*":
            return self.quotient(tree)
        text = ""
        for factor in self.mixed(_parts(tree)):
            part = self.atom(factor) if factor[0] in ("/", "+", "-") else self.power(factor)
            dot = r" \cdot " if self.latex else "*"
            if not text:
                text = part
            elif part[0].isdigit() or (text[-1].isdigit() and part.startswith(r"\frac")):
                text += dot + part
            else:
                text += self.pick("", " ", dot) + part
        return text

    def quotient(self, tree):
        if tree[0] != "/":
            return self.power(tree)
        value = _ratio(tree)
        if value is not None and _is_short(value) and self.pick(False, False, True):
            return f"{float(value):g}"
        if self.latex:
            return rf"\{self.pick('frac', 'dfrac')}{{{self.sum(tree[1])}}}{{{self.sum(tree[2])}}}"
        return f"{self.atom(tree[1])}/{self.atom(tree[2])}"

    def power(self, tree):
        if tree[0] != "^":
            return self.atom(tree)
        _, base, n = tree
        if self.latex:
            exponent = self.pick(f"^{n}", f"^{{{n}}}") if 0 <= n <= 9 else f"^{{{n}}}"  # TeX lifts one character
        else:
            exponent = self.pick(f"^{n}", f"**{n}", f"^({n})")
        return self.atom(base) + exponent

    def atom(self, tree):
        match tree:
            case ("number", value) if value.denominator == 1:
                return str(value)
            case ("number", value) if _is_short(value):
                return f"{float(value):g}"
            case ("number", value):
                return f"({value})"
            case ("name", name):
                return name
            case ("pi",):
                return r"\pi " if self.latex else "pi"
            case ("sqrt", a):
                inside = self.sum(a)
                return rf"\sqrt{{{inside}}}" if self.latex else self.pick(f"sqrt({inside})", f"({inside})^(1/2)")
        if self.latex and tree[0] == "/":
            return self.quotient(tree)
        return rf"\left({self.sum(tree)}\right)" if self.latex else f"({self.sum(tree)})"


def _parts(tree):
    """The factors of a product, powers and signs left as they are."""
    return _parts(tree[1]) + _parts(tree[2]) if tree[0] == "*" else [tree]


def _ratio(tree):
    """The value of a fraction of two numbers, else None."""
    _, a, b = tree
    return a[1] / b[1] if a[0] == b[0] == "number" and b[1] else None


def _is_short(value):
    """Whether a number is a decimal of few places."""
    return (value * 1000).denominator == 1 and abs(value) < 1000
