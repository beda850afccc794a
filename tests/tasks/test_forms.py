"""Forms: which formulas are simplified, expanded or factored, and spellings that are read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsmini.tasks.draw import Draw
from dsmini.tasks.forms import has_form, spell
from dsmini.tasks.formulas import equal, parse

IN_FORM = {
    "lowest": ["3/4", "-3/4", "(-3)/4", r"-\frac{3}{4}", "7", "0.75", r"1\frac{3}{4}", "1 + 3/4", "12/7"],
    "simple root": ["6 sqrt(2)", "sqrt(2) * 6", r"6\sqrt{2}", "6 * 2^(1/2)", "-sqrt(30)", "1/2 * sqrt(3)", "sqrt(3)/2",
                    r"\frac{\sqrt{3}}{2}"],
    "expanded": ["x^2 + 5x + 6", "6 + x*5 + x^2", "-x", "7", "x^2 - 1/4", "(-2) x^3 + 1", r"\frac{x}{2} + 3", "x*x + 1",
                 "-(x^2) - 3x", "sqrt(2) x + 1"],
    "factored": ["(x+2)(x+3)", "(3+x) (2+x)", "-(x+2)(x+3)", "2(x+2)^2", "(x+2)(x+3)/2", "(2x+4)(x+3)", "x(x-1)", "5",
                 "(1.5x - 2)(x+3)", "(-x + 1)(x + 2)", "x - 1"],
}  # fmt: skip
NOT_IN_FORM = {
    "lowest": ["6/8", "3/1", "1/2 + 1/4", "3 * 0.25", "-6/8", "1.5/2", "2/0", r"1\frac{2}{4}", "3/(-4)", "sqrt(9)/4"],
    "simple root": ["sqrt(72)", "3 sqrt(8)", "2 * 3 sqrt(2)", "sqrt(2) sqrt(3)", "12/sqrt(4)", "6", "sqrt(4)",
                    "sqrt(0.5)", "12/2 * sqrt(2)", "sqrt(2) + sqrt(2)", "sqrt(sqrt(4))", "sqrt(1)"],
    "expanded": ["(x+2)(x+3)", "x^2 + 2x + 3x + 6", "x(x+5) + 6", "x^2 + 5x + 6 + 0", "(x+2)^2", "2(x+1)", "1/x",
                 "-(x+1)(x)", "x^2 + 0x + 1", "sqrt(x)", "(x+1)/2", "x^(-1)"],
    "factored": ["x^2 + 5x + 6", "x(x+5) + 6", "(x^2+5x+6)*1", "(x+2)(x+3) + 0", "(x^2+5x+6)/1", "(x+2)/(x+3)",
                 "(x + 1 + 1)(x+3)", "x^2 - 1", "(x+2)^(-1)"],
}  # fmt: skip


def tree(text):
    (read,) = parse(text)
    return read


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in IN_FORM.items() for text in texts])
def test_what_is_in_form(form, text):
    assert has_form(tree(text), form)


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in NOT_IN_FORM.items() for text in texts])
def test_what_is_not_in_form(form, text):
    assert not has_form(tree(text), form)


COEFFICIENTS = st.lists(st.fractions(-20, 20, max_denominator=8), min_size=1, max_size=5)
ALL_FORMS = [*IN_FORM["lowest"], *IN_FORM["simple root"], *IN_FORM["expanded"], *IN_FORM["factored"]]


@given(st.sampled_from(ALL_FORMS), st.integers(0, 10_000), st.booleans())
def test_a_spelling_is_read_as_an_equal_formula_in_the_same_form(text, seed, latex):
    spelled = spell(tree(text), Draw(seed), latex)
    assert equal(tree(spelled), tree(text)), spelled
    for form in IN_FORM:
        if has_form(tree(text), form) and "^2" not in text:
            assert has_form(tree(spelled), form), (form, spelled)


@given(COEFFICIENTS, st.integers(0, 10_000), st.booleans())
def test_polynomials_survive_their_spellings(coefficients, seed, latex):
    text = " + ".join(f"({c}) x^{power}" for power, c in enumerate(coefficients)) + " + sqrt(2)/(1 + x^2)"
    assert equal(tree(spell(tree(text), Draw(seed), latex)), tree(text))


def test_spellings_differ_and_the_plain_one_is_always_the_same():
    polynomial, fraction = tree("2x^2 - x/2 + 3"), tree("3/4")
    assert spell(polynomial) == "2x^2 - x/2 + 3"
    draw = Draw(0)
    plain, latex = ({spell(polynomial, draw, latex) for _ in range(200)} for latex in (False, True))
    assert len(plain) > 30 and len(latex) > 30
    assert any("**" in text for text in plain) and any(r"\dfrac" in text for text in latex)
    assert {spell(fraction, draw) for _ in range(50)} == {"3/4", "0.75"}
    assert {spell(fraction, draw, latex=True) for _ in range(50)} == {r"\frac{3}{4}", r"\dfrac{3}{4}", "0.75"}


def test_an_unknown_form_is_named():
    with pytest.raises(ValueError, match="form = 'short': expected one of lowest, simple root, expanded, factored"):
        has_form(tree("x"), "short")
