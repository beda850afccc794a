"""A still figure for a page without JavaScript: the sparsity widget's chart, drawn once, in the text's own colour."""

import math

NAMES = {"dense": "dense", "indexer": "lightning indexer", "window": "window", "random": "random", "oracle": "oracle"}

_WIDTH, _HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 120, 10, 30
_DASHES = {"indexer": "none", "oracle": "9 4", "window": "2 4", "random": "8 3 2 3"}


def recall_figure(curves):
    """Recall against the number of tokens, one line for each method, as SVG text.

    curves: a dict of method -> recall of 1, 2, ... tokens. Lines differ by their dashes and carry their names.
    """
    most = len(next(iter(curves.values())))
    across = lambda k: _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log2(k) / max(1, math.log2(most))  # noqa: E731
    down = lambda share: _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)  # noqa: E731
    marks = [2**i for i in range(most.bit_length())]
    parts = [f"<path d='M{_LEFT} {_TOP}V{down(0)}H{across(most):.0f}' fill='none' stroke='currentColor'/>"]
    parts += [_text(across(k), _HEIGHT - 12, str(k), "middle") for k in marks]
    parts += [_text(_LEFT - 6, down(share) + 4, f"{share:.0%}", "end") for share in (0, 0.5, 1)]
    heights = spread({method: down(curve[-1]) for method, curve in curves.items()}, 14)
    for method, curve in curves.items():
        points = " ".join(f"{across(k):.0f},{down(curve[k - 1]):.0f}" for k in _some(most))
        look = f"fill='none' stroke='currentColor' stroke-width='2' stroke-dasharray='{_DASHES[method]}'"
        parts.append(f"<polyline points='{points}' {look}/>")
        parts.append(_text(across(most) + 6, heights[method] + 4, NAMES[method], "start"))
    told = "; ".join(f"{NAMES[method]} {curve[-1]:.0%}" for method, curve in curves.items())
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' style='max-width: 100%' role='img' aria-label='"
        f"Attention kept against tokens taken. With {most} tokens: {told}.'>{''.join(parts)}</svg>"
    )


def spread(heights, gap):
    """Heights of labels, moved down until each keeps its distance from the one above; a dict in and out."""
    placed, last = {}, -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        last = placed[name] = max(height, last + gap)
    return placed


def _some(most):
    """Numbers from 1 to `most` that are about even in the logarithm."""
    return sorted({min(most, round(2 ** (i / 3))) for i in range(3 * most.bit_length() + 1)})


def _text(x, y, text, anchor):
    return f"<text x='{x:.0f}' y='{y:.0f}' text-anchor='{anchor}' fill='currentColor' font-size='12'>{text}</text>"
