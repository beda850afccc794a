"""What a student gets back: a page of its own, without scripts, links or hidden tests.

Everything a student wrote is shown as text. Of a hidden test the page has the points and the kind of failure.
"""

import dataclasses
import html

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
  border-bottom: 1px solid #ccc; } td.points { white-space: nowrap; text-align: right; }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.lost { color: #8f1d1d; } .won { color: #14591d; } h1, li, p { overflow-wrap: anywhere; }
td ul { margin: 0; padding-left: 1.1rem; }
@media (max-width: 36rem) { table { table-layout: fixed; font-size: .875rem; } th, td { padding: .35rem .2rem; }
  th:first-child { width: 34%; } th:nth-child(2) { width: 4rem; } td { overflow-wrap: anywhere; }
  td code { font-size: .8rem; } }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #161616; } pre { background: #262626; }
  .lost { color: #ff9c9c; } .won { color: #8fe09a; } }
"""
UNANSWERED = "not answered yet"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclasses.dataclass
class Part:
    """A function's result. points: None where a person has to decide. reasons: pairs (of which tests, why)."""

    name: str
    points: float | None
    most: float
    reasons: list
    code: str = ""


@dataclasses.dataclass
class Result:
    """Of one student and problem set."""

    student: str
    problem_set: str
    parts: list
    notes: list
    faults: list = dataclasses.field(default_factory=list)  # of the student's own cells: (source, why)
    comment: str = ""
    odd: list = dataclasses.field(default_factory=list)  # for the instructor's table, not for the page

    @property
    def total(self):
        return sum(part.points or 0 for part in self.parts)

    @property
    def most(self):
        return sum(part.most for part in self.parts)


def number(points):
    return f"{points:g}"


def page(result):
    """The page of a `Result`."""
    title = f"{result.problem_set}: {result.student}"
    open_parts = [part.name for part in result.parts if part.points is None]
    rest = f" <small>({', '.join(open_parts)}: not graded yet)</small>" if open_parts else ""
    body = [f"<h1>{html.escape(title)}</h1>"]
    body.append(f"<p><strong>{number(result.total)} of {number(result.most)} points</strong>{rest}</p>")
    if result.notes:
        body.append("<h2>About the notebook</h2>" + _list(result.notes))
    body.append("<h2>Points</h2><table><thead><tr><th>Part</th><th>Points</th><th>What the tests say</th></tr></thead>")
    body.append("<tbody>" + "".join(map(_row, result.parts)) + "</tbody></table>")
    if result.comment:
        body.append(f"<h2>Comment</h2><pre>{html.escape(result.comment)}</pre>")
    if result.faults:
        body.append("<h2>Cells of yours that failed</h2>")
        body += [f"<pre>{html.escape(source[:3000])}</pre><p class='lost'>{html.escape(why)}</p>"
                 for source, why in result.faults]  # fmt: skip
    body.append("<h2>What you handed in</h2>")
    body += [f"<h3>{html.escape(part.name)}</h3><pre>{html.escape(part.code)}</pre>"
             for part in result.parts if part.code]  # fmt: skip
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _list(texts):
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"


def _row(part):
    most = number(part.most)
    points = f"to come ({most})" if part.points is None else f"{number(part.points)} of {most}"
    full = part.points is not None and part.points >= part.most
    if len(part.reasons) > 1 and all(why.endswith(UNANSWERED) for _, why in part.reasons):
        said = UNANSWERED
    elif part.reasons:
        said = _list([f"{which}: {why}" for which, why in part.reasons])
    else:
        said = "<span class='won'>all passed</span>" if full else ""
    name = html.escape(part.name)
    return f"<tr><td><code>{name}</code></td><td class='points'>{points}</td><td>{said}</td></tr>"
