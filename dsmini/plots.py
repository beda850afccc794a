"""The book's figures: one style, and the few plots that several chapters share.

Figures are drawn on a white card, which reads on a light and on a dark page alike. Colours are Okabe and Ito's, told
apart by colour-blind readers; a curve also has its own marker or dash, so colour never carries meaning alone.
"""

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.ticker import LogLocator, NullLocator

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#B3123B", "#8C4F9E", "#5A5A5A"

# The attentions keep their colour and marker in every chapter.
ATTENTION_STYLE = {
    "mha": {"color": BLUE, "marker": "o", "label": "MHA"},
    "gqa": {"color": GREEN, "marker": "s", "label": "GQA"},
    "mqa": {"color": ORANGE, "marker": "^", "label": "MQA"},
    "mla": {"color": PURPLE, "marker": "D", "label": "MLA"},
}


def use_book_style():
    """Set matplotlib's defaults to the book's style. Call it once, in a chapter's first cell."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.2, 3.6),
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E3E3E3",
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE, RED, GREY]),
            "lines.linewidth": 2,
            "legend.frameon": False,
            "svg.hashsalt": "dsmini",
        }
    )


def smooth(values, window=10):
    """Running mean of a noisy curve: each point is the mean of up to `window` values ending there."""
    means, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    return means


def loss_curves(curves, window=10):
    """Draw {name: losses} as smoothed curves on one pair of axes; names of attentions get their own style.

    Returns the axes; call plt.show() after adding what the figure needs.
    """
    _, axes = plt.subplots()
    for name, losses in curves.items():
        style = {key: value for key, value in ATTENTION_STYLE.get(name, {"label": name}).items() if key != "marker"}
        axes.plot(range(1, len(losses) + 1), smooth(losses, window), **style)
    axes.set(xlabel="step", ylabel="training loss (nats per byte)")
    axes.legend()
    return axes


def plain_log(*axes, base=10, subs=(1, 2, 5)):
    """Label logarithmic axes (`axes.xaxis`, `axes.yaxis`) with plain numbers at subs * base^n: 1 2 5 10 20, ..."""
    for axis in axes:
        axis.set_major_locator(LogLocator(base, subs))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
