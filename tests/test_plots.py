"""The book's figures: smoothing is a running mean, curves carry names and styles."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsmini import plots


@pytest.fixture(autouse=True)
def fresh_matplotlib():
    matplotlib.use("Agg")  # here, not in the environment: the chapters' kernels would inherit it and show nothing
    with plt.rc_context():
        yield
    plt.close("all")


@given(st.lists(st.integers(-100, 100), max_size=30), st.integers(1, 12))
def test_smooth_is_the_mean_of_the_last_values(values, window):
    slow = [sum(values[max(0, i + 1 - window) : i + 1]) / min(i + 1, window) for i in range(len(values))]
    assert plots.smooth(values, window) == pytest.approx(slow)


def test_loss_curves_draws_every_curve_under_its_name():
    axes = plots.loss_curves({"mla": [3.0, 2.0, 1.0], "mine": [3.0, 2.5, 2.0]}, window=2)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["MLA", "mine"]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    assert list(axes.lines[0].get_ydata()) == [3.0, 2.5, 1.5]
    assert axes.lines[0].get_color() == plots.ATTENTION_STYLE["mla"]["color"]
    assert "nats" in axes.get_ylabel() and axes.get_xlabel() == "step"


def test_attentions_differ_in_colour_and_in_marker():
    for key in ("color", "marker", "label"):
        assert len({style[key] for style in plots.ATTENTION_STYLE.values()}) == 4


def test_book_style_is_applied():
    plots.use_book_style()
    cycle = [style["color"] for style in plt.rcParams["axes.prop_cycle"]]
    assert cycle[0] == plots.BLUE and len(set(cycle)) == 6
    assert not plt.rcParams["axes.spines.top"]
