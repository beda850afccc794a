"""Every chapter follows the book's recipe: short cells, all of them run, figures described, outputs that travel."""

import ast
import re
from statistics import median

import nbformat
import pytest

from notebooks import budget, cell_name, chapters, cost_line, recorded, short
from sync import parse_marker

MAX_LINES, MAX_CLASS_LINES, MAX_MEDIAN_LINES = 35, 80, 6
MIN_ALT = 20
TRACE_OF_A_MACHINE = re.compile(
    r"(?<![\w.:/-])/(?:home|root|Users|tmp|usr|opt|work|private|var|mnt|srv)/[\w.-]+"  # a path on Unix
    r"|\b[A-Za-z]:\\{1,2}\w+"  # a path on Windows
    r"|\b0x[0-9a-f]{6,}\b"  # an object's address
)
FILE_NAME = re.compile(r"[\w./-]+\.(png|svg|jpe?g)", re.IGNORECASE)

CHAPTERS = [pytest.param(nbformat.read(path, as_version=4), id=path.stem) for path in chapters()]
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS)


def code_cells(chapter):
    return [(cell_name(chapter, i), cell) for i, cell in enumerate(chapter.cells) if cell.cell_type == "code"]


def lines(cell):
    return len([line for line in cell.source.splitlines() if line.strip()])


def holds_marked_class(cell):
    marker = parse_marker(cell.source)
    return marker is not None and any(isinstance(node, ast.ClassDef) for node in ast.parse(cell.source).body)


def texts(output):
    """Every text that an output shows."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return output.traceback
    return [text for kind, text in output.data.items() if kind.startswith("text/")]


def long_cells(chapter):
    found = []
    for name, cell in code_cells(chapter):
        limit = MAX_CLASS_LINES if holds_marked_class(cell) else MAX_LINES
        if lines(cell) > limit:
            found.append(f"{name}: {lines(cell)} lines, at most {limit}")
    return found


def figures_without_alt(chapter):
    found = []
    for name, cell in code_cells(chapter):
        has_figure = any("image/png" in output.get("data", {}) for output in cell.outputs)
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if has_figure and (len(alt.strip()) < MIN_ALT or FILE_NAME.fullmatch(alt.strip())):
            found.append(f"{name}: alt text {alt!r}")
    return found


def machine_traces(chapter):
    return [
        f"{name}: {match.group()}"
        for name, cell in code_cells(chapter)
        for output in cell.outputs
        for text in texts(output)
        if (match := TRACE_OF_A_MACHINE.search(text))
    ]


def test_there_are_chapters():
    assert len(CHAPTERS) >= 1


@every_chapter
def test_cells_are_short(chapter):
    assert long_cells(chapter) == []
    assert median(lines(cell) for _, cell in code_cells(chapter)) <= MAX_MEDIAN_LINES


@every_chapter
def test_every_cell_ran_in_order_without_error(chapter):
    counts = [cell.execution_count for _, cell in code_cells(chapter)]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"
    kinds = [output.output_type for _, cell in code_cells(chapter) for output in cell.outputs]
    assert "error" not in kinds


@every_chapter
def test_every_figure_is_described(chapter):
    assert figures_without_alt(chapter) == []


@every_chapter
def test_outputs_name_no_machine(chapter):
    assert machine_traces(chapter) == []


@every_chapter
def test_no_widget_state_is_stored(chapter):
    assert "widgets" not in chapter.metadata
    assert "application/vnd.jupyter.widget-view+json" not in nbformat.writes(chapter)


@every_chapter
def test_first_cell_checks_the_edition(chapter):
    first = code_cells(chapter)[0][1].source
    assert "import dsmini" in first and "dsmini.edition(" in first


@every_chapter
def test_cost_line_shows_the_recorded_figures(chapter):
    costs = [cell.source for cell in chapter.cells if "cost" in cell.metadata.get("tags", [])]
    assert costs == [cost_line(recorded(chapter), budget(chapter))], "run `make notebooks`"
    assert recorded(chapter).cpu_seconds <= budget(chapter).cpu_seconds
    assert recorded(chapter).mib <= budget(chapter).mib


# The recipe's own checks find what they look for.


def notebook(source, outputs=(), **metadata):
    cell = nbformat.v4.new_code_cell(source, execution_count=1, outputs=list(outputs), metadata=metadata)
    return nbformat.v4.new_notebook(cells=[cell])


def test_long_cells_are_found():
    assert long_cells(notebook("x = 1\n" * 35)) == []
    assert len(long_cells(notebook("x = 1\n" * 36))) == 1
    marked = "# dsmini.model.mla: LatentAttention\nclass LatentAttention:\n" + "    x = 1\n" * 60
    assert long_cells(notebook(marked)) == []
    assert len(long_cells(notebook(marked.replace("# dsmini.model.mla: LatentAttention", "# a class")))) == 1


@pytest.mark.parametrize("alt", ["", "a plot", "../../_images/0123456789abcdef0123456789.png"])
def test_missing_alt_text_is_found(alt):
    figure = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
    assert len(figures_without_alt(notebook("plot()", [figure], mystnb={"image": {"alt": alt}}))) == 1
    good = "Loss falls from 5.5 to 2.1 in 300 steps; all four curves overlap."
    assert figures_without_alt(notebook("plot()", [figure], mystnb={"image": {"alt": good}})) == []


@pytest.mark.parametrize("text", ["/home/ada/book/x.py:3", "C:\\Users\\ada", "<object at 0x7f00deadbeef>"])
def test_traces_of_a_machine_are_found(text):
    stream = nbformat.v4.new_output("stream", text=f"see {text}\n")
    assert len(machine_traces(notebook("x", [stream]))) == 1
    harmless = nbformat.v4.new_output("stream", text="400x300, 0x3f, 3/4, https://example.org/home/page, a/usr/b\n")
    assert machine_traces(notebook("x", [harmless])) == []


def test_short_names_a_chapter_from_the_root():
    assert short(chapters()[0]).startswith("chapters/")
