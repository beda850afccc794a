"""The picture of the book: the line from V3 to V3.2, and the chapters that rebuild each stop.

`python book/_tools/line.py` writes book/_assets/line-light.svg and line-dark.svg. Dates come from dsmini's facts
file; a test holds the committed pictures equal to what this script makes.
"""

import re
from datetime import date
from pathlib import Path

import dsmini

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "book" / "_assets"
# The chapters of this edition; the others get a dashed frame.
CONTENTS = (ROOT / "_toc.yml").read_text(encoding="utf-8")
READY = {int(number) for number in re.findall(r"file: chapters/(\d\d)_", CONTENTS)}

# stop, its release in the facts file, what the chapters build, their numbers
STOPS = [
    ("V3", "DeepSeek-V3", ["latent attention, experts,", "two tokens at once, 8-bit numbers"], range(1, 6)),
    ("R1", "DeepSeek-R1 and R1-Zero", ["rewards that check themselves,", "GRPO, distillation"], range(6, 9)),
    ("V3.1", "DeepSeek-V3.1", ["one model, two modes:", "thinking or not, by the template"], range(9, 10)),
    ("V3.2", "DeepSeek-V3.2", ["sparse attention, self-verification,", "steadier RL, tools"], range(10, 16)),
]

INKS = {
    "light": {"text": "#1f2933", "faint": "#52606d", "line": "#2f6fb5", "fill": "#2f6fb5", "on": "#ffffff"},
    "dark": {"text": "#eef2f6", "faint": "#b3bfcc", "line": "#7fb2ea", "fill": "#7fb2ea", "on": "#10161d"},
}

WIDTH, TOP, STEP, AXIS = 500, 40, 132, 118


def picture(mode):
    """The SVG as a string. mode: "light" or "dark", the page that it stands on."""
    ink = INKS[mode]
    dates = {row["name"]: date.fromisoformat(row["date"]) for row in dsmini.facts()["releases"]}
    bottom = TOP + STEP * (len(STOPS) - 1)
    parts = [
        f'<line x1="{AXIS}" y1="{TOP}" x2="{AXIS}" y2="{bottom}" stroke="{ink["line"]}" stroke-width="6"/>',
        *(stop(TOP + STEP * i, ink, dates[row[1]], row) for i, row in enumerate(STOPS)),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 80}" width="{WIDTH}" '
        f'height="{bottom + 80}" role="img" font-family="system-ui, sans-serif">'
    )
    title = "<title>The line from DeepSeek-V3 to V3.2 and the chapters that rebuild it</title>"
    return "\n".join([head, title, *parts, "</svg>", ""])


def stop(y, ink, day, row):
    """One station of the line: date, name, what is built there, one chip a chapter."""
    name, _, lines, chapters = row
    right = AXIS + 36
    parts = [
        f'<circle cx="{AXIS}" cy="{y}" r="13" fill="{ink["on"]}" stroke="{ink["line"]}" stroke-width="6"/>',
        text(AXIS - 28, y + 6, day.strftime("%b %Y"), ink["faint"], 17, "end"),
        text(right, y + 8, name, ink["text"], 26, weight=700),
        *(text(right, y + 36 + 23 * i, line, ink["faint"], 18) for i, line in enumerate(lines)),
        *(chip(right + 84 + 42 * i, y - 15, number, ink) for i, number in enumerate(chapters)),
    ]
    return "\n".join(parts)


def chip(x, y, number, ink):
    """A chapter's number: filled if the chapter is there, framed if it is coming."""
    ready = number in READY
    style = f'fill="{ink["fill"]}"' if ready else f'fill="none" stroke="{ink["faint"]}" stroke-dasharray="3 3"'
    box = f'<rect x="{x}" y="{y}" width="34" height="28" rx="8" {style}/>'
    return box + text(x + 17, y + 20, str(number), ink["on"] if ready else ink["faint"], 16, "middle", 600)


def text(x, y, words, colour, size, anchor="start", weight=400):
    return (
        f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{words}</text>'
    )


if __name__ == "__main__":
    for mode in INKS:
        (ASSETS / f"line-{mode}.svg").write_text(picture(mode), encoding="utf-8")
