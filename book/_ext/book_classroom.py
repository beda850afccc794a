"""Sphinx directives of the classroom guides: what a chapter or a problem set takes is counted, not typed.

    chapter-times    a table of all chapters: reading, running, exercises
    problem-sets     a table; each line of the content is `name | chapters | what it trains`
    course-plan      a table; each line is `week | chapters | lecture | lab | problem set | shares`, where shares are
                     the problem sets worked on in that week ("v3 1/2, rlvr"); :class: is the hours in class

Reading is an estimate from the words and lines on the page, running is what the notebook records, exercises and
problem sets are the minutes that stand in their texts.
"""

import json
import re
from fractions import Fraction
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
WORDS, LINES = 120, 15  # a minute, of a page that is worked through
BLOCK = re.compile(r"^(:{3,})\{(exercise|solution|bibliography)\}.*?^\1$", re.MULTILINE | re.DOTALL)
EXERCISE = re.compile(r"(★+) (\d+) minutes")
MINUTES = re.compile(r"(\d+) minutes")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def cells(notebook):
    for cell in notebook["cells"]:
        yield cell, "".join(cell["source"])


@cache
def chapters():
    """{number: path} of the chapters of this edition."""
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    return {
        int(name[:2]): ROOT / "chapters" / f"{name}.ipynb" for name in re.findall(r"file: chapters/(\d\d\w+)", contents)
    }


@cache
def chapter(number):
    """A chapter's title, its minutes of reading and of exercises, the number of those, its CPU seconds and memory."""
    path, words, lines, minutes = chapters()[number], 0, 0, []
    title, notebook = None, read(path)
    for cell, source in cells(notebook):
        if cell["cell_type"] == "markdown":
            title = title or source.splitlines()[0].lstrip("# ")
            words += len(BLOCK.sub("", source).split())
            minutes += [int(count) for _, count in EXERCISE.findall(source)]
        elif "hide-input" not in cell["metadata"].get("tags", []):
            lines += sum(1 for line in source.splitlines() if line.strip())
    facts = notebook["metadata"]["dsmini"]
    return {
        "title": title,
        "link": f"[{title}](../chapters/{path.name})",
        "reading": words / WORDS + lines / LINES,
        "exercises": len(minutes),
        "minutes": sum(minutes),
        "seconds": facts["cpu_seconds"],
        "mib": facts["peak_mib"],
    }


@cache
def problem_set(name):
    """A problem set's title, functions, points and minutes, from its source notebook."""
    path = ROOT / "assignments" / "source" / name / f"{name}.ipynb"
    title, functions, points, minutes = None, [], 0, 0
    for cell, source in cells(read(path)):
        about = cell["metadata"].get("nbgrader", {})
        title = title or source.splitlines()[0].lstrip("# ")
        points += about.get("points", 0) if about.get("grade") else 0
        if about.get("grade_id", "").endswith("-hidden"):
            functions.append(about["grade_id"].removesuffix("-hidden"))
        if about.get("grade_id", "").endswith("-text") and (found := MINUTES.search(source)):
            minutes += int(found[1])
    return {"title": title, "functions": functions, "points": points, "minutes": minutes}


def hours(minutes):
    """Half hours, rounded up: "2", "3 1/2"."""
    whole, half = divmod(-int(-minutes // 30), 2)
    return f"{whole or ''}{'½' if half else ''}" or "0"


def ten(minutes):
    return 10 * round(minutes / 10)


def table(head, rows):
    line = lambda row: "| " + " | ".join(str(entry) for entry in row) + " |"  # noqa: E731
    return [line(head), line(["---"] * len(head)), *(line(row) for row in rows)]


def numbers(text):
    """ "0-2, 5" as [0, 1, 2, 5]."""
    found = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def shares(text):
    """ "v3 1/2, rlvr" as {"v3": 1/2, "rlvr": 1}."""
    words = [part.split() for part in text.split(",") if part.strip()]
    return {name: Fraction(*map(int, rest[0].split("/"))) if rest else Fraction(1) for name, *rest in words}


def chapter_times():
    rows, every = [], [chapter(number) for number in chapters()]
    for about in every:
        exercises = f"{about['exercises']}, {about['minutes']} min"
        running = f"{about['seconds']:.0f} CPU-s, {about['mib']:,.0f} MiB"
        rows.append([about["link"], f"{ten(about['reading'])} min", running, exercises])
    total = {key: sum(about[key] for about in every) for key in ("reading", "exercises", "minutes", "seconds")}
    rows.append(
        [
            "all",
            f"{hours(total['reading'])} h",
            f"{total['seconds']:,.0f} CPU-s",
            f"{total['exercises']}, {hours(total['minutes'])} h",
        ]
    )
    rule = (
        f"Reading is an estimate, {WORDS} words and {LINES} lines of code a minute, without exercises; running is what "
        "the run behind the page took; exercises are their number and the minutes that stand in their texts, all stars "
        "together."
    )
    return [*table(["chapter", "reading", "running", "exercises"], rows), "", rule]


def problem_sets(lines):
    rows = []
    for line in lines:
        name, read, trains = (part.strip() for part in line.split("|"))
        about = problem_set(name)
        functions = len(about["functions"])
        rows.append([f"`{name}`", read, functions, f"{ten(about['minutes'])} min", about["points"], trains])
    return table(["set", "chapters", "functions", "time", "points", "trains"], rows)


def course_plan(lines, in_class):
    rows = []
    for line in lines:
        week, read, lecture, lab, task, worked = (part.strip() for part in line.split("|"))
        about = [chapter(number) for number in numbers(read)]
        minutes = sum(one["reading"] for one in about)
        minutes += sum(share * problem_set(name)["minutes"] for name, share in shares(worked).items())
        links = ", ".join(f"[{number}](../chapters/{chapters()[number].name})" for number in numbers(read))
        rows.append([week, links, lecture, lab, task, f"{in_class} + {hours(minutes)}"])
    return table(["week", "chapters", "lecture", "lab", "problem set", "hours"], rows)


class Table(SphinxDirective):
    has_content = True
    option_spec = {"class": directives.unchanged_required}

    def run(self):
        lines = [line for line in self.content if line.strip()]
        for path in [*chapters().values(), *sorted((ROOT / "assignments" / "source").glob("*/*.ipynb"))]:
            self.env.note_dependency(str(path))
        made = self.lines(lines)
        node = nodes.container()
        self.state.nested_parse(StringList(made, source=self.get_source_info()[0]), self.content_offset, node)
        return node.children


class ChapterTimes(Table):
    def lines(self, _):
        return chapter_times()


class ProblemSets(Table):
    def lines(self, content):
        return problem_sets(content)


class CoursePlan(Table):
    def lines(self, content):
        return course_plan(content, self.options["class"])


def setup(app):
    app.add_directive("chapter-times", ChapterTimes)
    app.add_directive("problem-sets", ProblemSets)
    app.add_directive("course-plan", CoursePlan)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
