"""What students get holds no solution, no hidden test and nobody's id, and runs until their own work begins."""

import json
import zipfile

import example
import nbformat
import pytest
from workbench import NAMES, graded_as

import release
import sets
from dsmini.check import Wrong


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("release")
    return out, release.release(out)


def test_every_set_is_a_notebook_and_a_zip(built):
    out, zips = built
    assert [path.name for path in zips] == [f"{name}.zip" for name in NAMES]
    for path in zips:
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == [f"{path.stem}/{path.stem}.ipynb"]
            assert archive.read(archive.namelist()[0]) == (out / path.stem / f"{path.stem}.ipynb").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks(built, name):
    out, _ = built
    notebook = nbformat.read(out / name / f"{name}.ipynb", 4)
    assert release.leaks(notebook, sets.load(name)) == []
    text = (out / name / f"{name}.ipynb").read_text(encoding="utf-8")
    assert "with case(" not in text
    nbformat.validate(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_a_release_runs_until_the_first_unanswered_exercise(built, name):
    out, _ = built
    names, unanswered = {"__name__": "__main__"}, []
    notebook = nbformat.read(out / name / f"{name}.ipynb", 4)
    with graded_as("ada"):
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            try:
                exec(compile(cell.source, "<release>", "exec"), names)
            except (NotImplementedError, Wrong) as error:
                assert isinstance(error, NotImplementedError) or error.kind == "not answered yet"
                unanswered.append(cell.metadata.nbgrader.grade_id)
    assert unanswered == [f"{function}-public" for function in sets.load(name).functions]


def test_without_an_id_a_release_says_so(built):
    out, _ = built
    for name in NAMES:
        cells = json.loads((out / name / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        lines = [line for cell in cells for line in sets.text_of(cell["source"]).split("\n") if "me = variant(" in line]
        assert lines == [f'me = variant("{name}", student="your-id")']
        with pytest.raises(ValueError, match="your-id"):
            exec("from dsmini.check import variant\n" + lines[0], {})


def test_planted_leaks_are_found(example_folder):
    problem_set = sets.load("example", example_folder / "source")
    path = example_folder / "release" / "example" / "example.ipynb"
    assert release.leaks(nbformat.read(path, 4), problem_set) == []
    plants = {
        "its end in first_peak": "return values.index(max(values))",
        "its end in scaled-hidden": "close(scaled(x, -0.75), torch.tensor([-0.75 * value for value in x.tolist()]))",
        "the mark": "### END HIDDEN TESTS",
    }  # fmt: skip
    for complaint, text in plants.items():
        notebook = nbformat.read(path, 4)
        notebook.cells[3].source += "\n" + text
        assert any(complaint in found for found in release.leaks(notebook, problem_set)), complaint
    notebook = nbformat.read(path, 4)
    notebook.cells[1].source = example.IMPORTS
    assert release.leaks(notebook, problem_set) == ["an id that is not the placeholder"]


def test_the_same_sources_give_the_same_zip(example_folder, tmp_path):
    [again] = release.release(tmp_path, source=example_folder / "source")
    assert again.read_bytes() == (example_folder / "release" / "example.zip").read_bytes()
