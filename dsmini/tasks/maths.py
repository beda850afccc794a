r"""Symbolic maths: problems whose right answers have many spellings.

`factor 2x^2 + x - 6` is answered by `(x + 2)(2x - 3)`, `\boxed{(2x-3)(x+2)}` or `2(x - 1.5)(x + 2)`, and not by
`2x^2 + x - 6`, though that is equal. So a verifier has two questions to ask: is the value right (`is_equal`, by
`formulas.equal`), and is it in the form that was asked for? `is_right` asks both. The text of these problems is outside
the book's 128 symbols: they are for verifiers, and for readers with a model of their own. Generated only; one problem
in ten is held out by a hash of its text, in which factors stand in order.
"""

import dataclasses
import math
import re
from fractions import Fraction

from dsmini.tasks.draw import check_split, split_of
from dsmini.tasks.forms import has_form, spell
from dsmini.tasks.formulas import boxed, equal, evaluate, parse

LEVELS = {1: ("fraction", "linear"), 2: ("root", "expand", "derivative"), 3: ("factor", "quadratic", "surd")}
KINDS = tuple(kind for kinds in LEVELS.values() for kind in kinds)
STYLES = ("right", "respelled", "copy", "sign", "half", "decimal")
_ASKS = {"fraction": "simplify {}", "root": "simplify {}", "linear": "solve {} for x", "quadratic": "solve {} for x",
         "surd": "solve {} for x", "expand": "expand {}", "factor": "factor {}",
         "derivative": "differentiate {} with respect to x"}  # fmt: skip
_FORMS = {"fraction": "lowest", "root": "simple root", "expand": "expanded", "factor": "factored"}  # others: any
_SOLVED = ("linear", "quadratic", "surd")  # answered by a set of solutions; the others by one formula
# `y =`, `t_1 \in`: another unknown than x. A capital names the set of solutions, `S = {2, 3}`.
_OTHER_LABEL = re.compile(r"(?<![A-Za-z\\])[a-wyz](?:'|_\w|_\{\w\}|\([a-z]\))?\s*(?:=|\\in(?![A-Za-z])|∈)")
_SQUARE_FREE = (2, 3, 5, 6, 7, 10, 11, 13)


@dataclasses.dataclass(frozen=True)
class Maths:
    """One problem. kind: of `KINDS`. subject: what it is about. solutions: texts; several only if all are asked for."""

    kind: str
    subject: str
    solutions: tuple

    @property
    def prompt(self):
        return _ASKS[self.kind].format(self.subject)

    @property
    def answer(self):
        """One right answer; `is_right` takes any."""
        return ", ".join(self.solutions)

    @property
    def difficulty(self):
        return next(level for level, kinds in LEVELS.items() if self.kind in kinds)

    @property
    def split(self):
        return split_of(self.prompt)


def sample(draw, split="train", levels=(1, 3)):
    """A random problem of the split. levels: easiest and hardest, 1 to 3; every kind within them is as likely."""
    check_split(split)
    low, high = levels
    if not 1 <= low <= high <= 3:
        raise ValueError(f"levels = {levels!r}: expected (easiest, hardest) between 1 and 3")
    kind = draw.choice([kind for level in range(low, high + 1) for kind in LEVELS[level]])
    while True:
        problem = Maths(kind, *_MAKERS[kind](draw))
        if problem.split == split:
            return problem


def is_right(problem, answer):
    r"""Whether an answer's text, or the last `\boxed{...}` in it, is right: equal, and in the form asked for.

    A fraction is in lowest terms (a decimal, if exact, is one too), a root is a number times one square-free root, an
    expanded polynomial has each power once, a factored one is a product of linear factors. Of solutions, all and no
    other: {2}, `x = 2` and `2` alike, in any order, and `y = 2` not.
    """
    trees = _read(problem, answer)
    form = _FORMS.get(problem.kind)
    return _are_equal(problem, trees) and (form is None or has_form(trees[0], form))


def is_equal(problem, answer):
    """A weaker verifier: the value alone. It pays who copies the question, for four kinds out of eight."""
    return _are_equal(problem, _read(problem, answer))


def write(problem, style, draw):
    r"""An answer in one of six styles, with no thought: two texts, the first one empty.

    right: `problem.answer`. respelled: the same, written in another of its ways, plain or LaTeX, half of them boxed.
    copy: what the question asks about, unchanged. sign: one sign is wrong. half: one of two solutions. decimal: numbers
    to two places. Where a mistake cannot be made (one solution; an exact decimal; a polynomial to round) the answer
    is right. Raises ValueError for another style.
    """
    if style not in STYLES:
        raise ValueError(f"style = {style!r}: expected one of {', '.join(STYLES)}")
    trees = [tree for text in problem.solutions for tree in parse(text)]
    if style == "copy":
        return "", problem.subject
    if style == "half":
        return "", draw.choice(problem.solutions)
    if style == "sign":
        at = draw.below(len(trees))
        trees[at] = _wrong_sign(trees[at], draw)
        return "", ", ".join(spell(tree) for tree in trees)
    if style == "decimal" and problem.kind not in ("expand", "factor", "derivative"):
        return "", ", ".join(f"{float(evaluate(tree, {})):.2f}" for tree in trees)
    return "", _respelled(problem, trees, draw) if style == "respelled" else problem.answer


def _read(problem, answer):
    text = boxed(answer)
    if text is None or (problem.kind in _SOLVED and _OTHER_LABEL.search(text)):
        return ()
    try:
        return parse(text)
    except ValueError:
        return ()


def _are_equal(problem, trees):
    """Whether they are the problem's solutions, each at least once, and nothing else; where one is asked for, one."""
    wanted = [tree for text in problem.solutions for tree in parse(text)]
    if not trees or (problem.kind not in _SOLVED and len(trees) > 1):
        return False
    found = [[equal(tree, solution) for solution in wanted] for tree in trees]
    return all(map(any, found)) and all(map(any, zip(*found, strict=True)))


def _respelled(problem, trees, draw):
    latex = draw.happens(1 / 2)
    texts = [spell(tree, draw, latex) for tree in draw.shuffled(trees)]
    if problem.kind in _SOLVED:
        either = r" \text{ or } " if latex else " or "
        text = draw.choice([f"x = {', '.join(texts)}", either.join(f"x = {text}" for text in texts),
                            (r"\{%s\}" if latex else "{%s}") % ", ".join(texts)])  # fmt: skip
    else:
        text = texts[0]
    return rf"The answer is \boxed{{{text}}}." if draw.happens(1 / 2) else text


def _wrong_sign(tree, draw):
    """The tree with the sign of one term wrong: of a sum, of one factor of a product, or else of the whole."""
    if tree[0] == "*" and "+" in (tree[1][0], tree[2][0]):
        left = draw.happens(1 / 2) if tree[1][0] == tree[2][0] else tree[1][0] == "+"
        return ("*", _wrong_sign(tree[1], draw), tree[2]) if left else ("*", tree[1], _wrong_sign(tree[2], draw))
    if tree[0] == "+" and draw.happens(1 / 2):
        return ("+", _wrong_sign(tree[1], draw), tree[2])
    if tree[0] == "+":
        return ("+", tree[1], _wrong_sign(tree[2], draw))
    return tree[1] if tree[0] == "-" else ("-", tree)


def _fraction(draw):
    while True:
        value, times = Fraction(1 + draw.below(12), 2 + draw.below(11)), 2 + draw.below(11)
        if value.denominator > 1:
            return f"{value.numerator * times}/{value.denominator * times}", (str(value),)


def _linear(draw):
    while True:
        a, c, b, d = 2 + draw.below(8), draw.below(10), draw.below(19) - 9, draw.below(19) - 9
        if a != c and b and b != d:
            return f"{_polynomial((b, a))} = {_polynomial((d, c))}", (str(Fraction(d - b, a - c)),)


def _root(draw):
    outside, inside = 2 + draw.below(8), draw.choice(_SQUARE_FREE)
    return f"sqrt({outside**2 * inside})", (f"{outside} sqrt({inside})",)


def _expand(draw):
    factors = sorted(_factor(draw) for _ in range(3 if draw.happens(1 / 3) else 2))
    return _product(factors), (_polynomial(_multiplied(factors)),)


def _derivative(draw):
    while True:
        coefficients = [draw.below(19) - 9 for _ in range(3 + draw.below(3))]  # of 1, x, x^2, ...
        if any(coefficients[2:]):
            slopes = [power * c for power, c in enumerate(coefficients)][1:]
            return _polynomial(coefficients), (_polynomial(slopes),)


def _factored(draw):
    factors = sorted((_factor(draw), _factor(draw)))
    return _polynomial(_multiplied(factors)), (_product(factors),)


def _quadratic(draw):
    while True:
        factors = [_factor(draw), _factor(draw)]
        roots = sorted({Fraction(-b, a) for a, b in factors})
        if len(roots) == 2:
            return f"{_polynomial(_multiplied(factors))} = 0", tuple(map(str, roots))


def _surd(draw):
    """Roots p - q sqrt(r) and p + q sqrt(r)."""
    p, q, r = draw.below(11) - 5, 1 + draw.below(3), draw.choice(_SQUARE_FREE)
    root = f"{q} sqrt({r})" if q > 1 else f"sqrt({r})"
    solutions = (f"{p} - {root}", f"{p} + {root}") if p else (f"-{root}", root)
    return f"{_polynomial((p * p - q * q * r, -2 * p, 1))} = 0", solutions


_MAKERS = {"fraction": _fraction, "linear": _linear, "root": _root, "expand": _expand, "derivative": _derivative,
           "factor": _factored, "quadratic": _quadratic, "surd": _surd}  # fmt: skip


def _factor(draw):
    """(a, b) for a x + b, which nothing divides: a from 1 to 4, b from -9 to 9 but not 0."""
    while True:
        a, b = 1 + draw.below(4), draw.below(19) - 9
        if b and math.gcd(a, b) == 1:
            return a, b


def _multiplied(factors):
    """The coefficients of a product of factors a x + b, that of 1 first."""
    product = [1]
    for a, b in factors:
        product = [b * low + a * high for low, high in zip([*product, 0], [0, *product], strict=True)]
    return product


def _product(factors):
    return "".join(f"({_polynomial((b, a))})" for a, b in factors)


def _polynomial(coefficients):
    """Coefficients of 1, x, x^2, ... -> `2x^2 - x + 3`."""
    text = ""
    for power, c in reversed(list(enumerate(coefficients))):
        if c:
            size = "" if abs(c) == 1 and power else abs(c)
            sign = (" - " if c < 0 else " + ") if text else "-" if c < 0 else ""
            text += f"{sign}{size}{('', 'x', f'x^{power}')[min(power, 2)]}"
    return text or "0"
