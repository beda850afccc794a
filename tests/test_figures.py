"""Slides come from stored outputs: every figure once, at slide size, with its description and its credit."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import figures

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
RED, WHITE = (179, 19, 59), (255, 255, 255)


def png(width, height):
    data = io.BytesIO()
    Image.new("RGB", (width, height), RED).save(data, "png")
    return base64.b64encode(data.getvalue()).decode()


def drawn(alt, *sizes):
    outputs = [nbformat.v4.new_output("display_data", {"image/png": png(*size)}) for size in sizes]
    return nbformat.v4.new_code_cell(
        "raise SystemExit", outputs=outputs, metadata={"mystnb": {"image": {"alt": alt}}} if alt else {}
    )


@pytest.fixture
def chapter(tmp_path):
    text = nbformat.v4.new_markdown_cell
    cells = [
        text("# 3. A chapter\n\nWords."),
        text("## Why `k`, at all?\n\n```python\n# not a heading\n```"),
        drawn('Left <of> "right".', (800, 400)),
        nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="1")]),
        drawn("", (100, 400), (300, 300)),
    ]
    path = tmp_path / "03_chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_figure_knows_its_chapter_its_section_and_its_description(chapter):
    first, second, third = figures.figures(chapter)
    assert [one.name for one in (first, second, third)] == [
        "03-why-k-at-all",
        "03-why-k-at-all-2",
        "03-why-k-at-all-3",
    ]
    assert first.alt == 'Left <of> "right".' and second.alt == ""
    assert first.credit == 'DeepSeek, rebuilt; chapter 3. A chapter, "Why k, at all?". CC BY 4.0'


def test_slides_are_of_one_size_and_the_figure_fills_what_the_margin_leaves(chapter, tmp_path):
    figures.export([chapter], tmp_path / "out")
    for name, box in {
        "03-why-k-at-all": (60, 90, 1860, 990),  # 800 x 400: as wide as it may be
        "03-why-k-at-all-2": (840, 60, 1080, 1020),  # 100 x 400: as high
    }.items():
        picture = Image.open(tmp_path / "out" / f"{name}.png")
        assert picture.size == figures.SLIDE
        colours = picture.convert("RGB")
        left, top, right, bottom = box
        assert colours.getpixel((left, top)) == colours.getpixel((right - 1, bottom - 1)) == RED
        assert colours.getpixel((left - 1, top)) == colours.getpixel((left, top - 1)) == WHITE
        assert colours.getpixel((right, bottom - 1)) == colours.getpixel((right - 1, bottom)) == WHITE


def test_description_and_credit_are_in_the_index_and_in_the_picture(chapter, tmp_path):
    figures.export([chapter], tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'alt="Left &lt;of&gt; &quot;right&quot;."' in page and "<of>" not in page
    assert page.count("<figure") == 3 and page.count("<h2>") == 1 and "CC BY 4.0" in page
    assert set(re.findall(r'src="(.*?)"', page)) == {path.name for path in tmp_path.glob("*.png")}
    about = Image.open(tmp_path / "03-why-k-at-all.png").text
    assert about["Description"] == 'Left <of> "right".' and "creativecommons.org" in about["Copyright"]
    assert "chapter 3" in about["Source"]


def test_a_second_export_leaves_no_figure_that_is_gone(chapter, tmp_path):
    figures.export([chapter], tmp_path / "out")
    notebook = nbformat.read(chapter, as_version=4)
    del notebook.cells[-1]
    nbformat.write(notebook, chapter)
    assert len(figures.export([chapter], tmp_path / "out")) == 1
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["03-why-k-at-all.png"]


def test_the_command_says_where_the_index_is(chapter, tmp_path, capsys):
    assert figures.main(["--to", str(tmp_path / "out"), str(chapter)]) == 0
    assert "3 figures" in capsys.readouterr().out and (tmp_path / "out" / "index.html").is_file()


def test_every_figure_of_the_book_has_a_name_of_its_own_and_a_description():
    found = [figure for path in CHAPTERS for figure in figures.figures(path)]
    assert len({figure.name for figure in found}) == len(found) > 50
    assert [figure.name for figure in found if len(figure.alt) < 40] == []
    assert {figure.name[:2] for figure in found} == {path.name[:2] for path in CHAPTERS}
