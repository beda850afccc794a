"""The canonical runner: same input, same bytes; a failing chapter stays as it was; costs are recorded and compared."""

import base64
import io
import os
import subprocess
import sys

import nbformat
import pytest
from PIL import Image

import notebooks
from notebooks import Cost


def store(path, *cells, **facts):
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata={"dsmini": facts} if facts else {})
    nbformat.write(notebook, path)
    return path


def code(source, **metadata):
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def cost_cell():
    return nbformat.v4.new_markdown_cell("to be measured", metadata={"tags": ["cost"]})


MESSY = """import sys
import time
for i in range(3):
    sys.stderr.write(f"\\r {i + 1}/3: {33 * i}%|{'#' * i}| {i}/3 [00:0{i}<00:01, {time.time() % 9:.2f}it/s]")
sys.stderr.write("\\n")
print("kept")
print("a warning", file=sys.stderr)"""
WIDGET = "import ipywidgets\nipywidgets.IntSlider(3)"
OBJECT = "class Thing:\n    pass\nThing()"


def test_second_run_writes_the_same_bytes(tmp_path):
    path = store(tmp_path / "a.ipynb", cost_cell(), code(MESSY, collapsed=True, tags=["x"]), code(WIDGET), code(OBJECT))
    first = notebooks.run(path)
    before = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    _, messy, widget, thing = notebook.cells
    streams = {output.name: output.text for output in messy.outputs}
    assert streams == {"stdout": "kept\n", "stderr": "a warning\n"}
    assert messy.metadata == {"tags": ["x"]} and "widgets" not in notebook.metadata
    assert list(widget.outputs[0].data) == ["text/plain"] and widget.outputs[0].execution_count == 2
    assert thing.outputs[0].data["text/plain"] == "<__main__.Thing>"
    assert notebooks.recorded(notebook).cpu_seconds == pytest.approx(first.cpu_seconds, abs=0.06)
    assert 30 < first.mib < 400 and "CPU seconds" in notebook.cells[0].source
    notebooks.run(path)
    assert path.read_bytes() == before


FAILING = {
    "exception": (
        ["x = 1", "def f():\n    raise KeyError('gone')\nf()"],
        r"cell 2 \(def f\(\):\) raised KeyError: 'gone'",
    ),
    "dead kernel": (["import os\nos._exit(1)"], r"cell 1 \(import os\) killed its kernel"),
    "slow cell": (["import time", "time.sleep(30)"], r"cell 2 \(time.sleep\(30\)\) took more than 1 s"),
}


@pytest.mark.parametrize(("sources", "message"), FAILING.values(), ids=FAILING)
def test_a_failing_cell_is_named_and_the_file_stays(tmp_path, monkeypatch, sources, message):
    path = store(tmp_path / "bad.ipynb", *[code(source) for source in sources])
    before = path.read_bytes()
    monkeypatch.setattr(notebooks, "CELL_TIMEOUT", 1)
    with pytest.raises(notebooks.NotebookError, match="bad.ipynb: " + message):
        notebooks.run(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_over_budget_is_refused_and_the_file_stays(tmp_path, capsys):
    path = store(tmp_path / "fat.ipynb", code("x = bytearray(10**8)"), budget_cpu_seconds=60, budget_mib=100)
    before = path.read_bytes()
    assert notebooks.main(["run", str(path)]) == 1
    error = capsys.readouterr().err
    assert "fat.ipynb peaked at" in error and "its budget is 100" in error and "CPU-s" not in error
    assert path.read_bytes() == before


def test_kernels_run_on_one_thread_and_leave_the_environment_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    source = "import os\nprint(os.environ['OMP_NUM_THREADS'], os.path.basename(os.getcwd()))"
    path = store(tmp_path / "a.ipynb", code(source))
    notebooks.run(path)
    (output,) = nbformat.read(path, as_version=4).cells[0].outputs
    assert output.text == f"1 {tmp_path.name}\n" and os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (Cost(50.0, 900), Cost(59.0, 1070), Cost(50.0, 900)),
        (Cost(50.0, 900), Cost(61.0, 1085), Cost(61.0, 1080)),
        (Cost(50.0, 900), Cost(39.0, 715), Cost(39.0, 720)),
        (Cost(2.0, 100), Cost(2.9, 100), Cost(2.0, 100)),
    ],
)
def test_recorded_figures_move_only_when_the_cost_did(old, new, kept):
    notebook = nbformat.v4.new_notebook(metadata={"dsmini": {"cpu_seconds": old.cpu_seconds, "peak_mib": old.mib}})
    notebooks.record(notebook, new)
    assert notebooks.recorded(notebook) == kept


def test_every_limit_has_its_sentence():
    assert notebooks.over_recorded("ch", Cost(20.0, 1250), Cost(10.0, 1000)) == []
    (seconds,) = notebooks.over_recorded("ch", Cost(20.1, 1000), Cost(10.0, 1000))
    assert seconds == "ch used 20.1 CPU-s, recorded are 10.0 CPU-s, 1000 MiB; the limit is 20.0"
    (memory,) = notebooks.over_recorded("ch", Cost(10.0, 1251), Cost(10.0, 1000))
    assert memory.startswith("ch peaked at 1251 MiB") and memory.endswith("1250")
    assert "no recorded cost" in notebooks.over_recorded("ch", Cost(1.0, 1), None)[0]
    assert notebooks.over_total([Cost(240.0, 1), Cost(240.0, 1)]) == []
    assert "1021 CPU-s" in notebooks.over_total([Cost(240.0, 1), Cost(781.0, 1)])[0]


def test_progress_bars_end_as_nothing_and_other_lines_stay():
    bar = "\r  0%|          | 0/10 [00:00<?, ?it/s]\r100%|##########| 10/10 [00:01<00:00,  9.5it/s]\n"
    assert notebooks.tidy_text("before\n" + bar + "after\n") == "before\nafter\n"
    assert notebooks.tidy_text("step 1\rstep 2\nwindows\r\n") == "step 2\nwindows\n"
    assert notebooks.tidy_text("93.3% of the cache | a table\n") == "93.3% of the cache | a table\n"


def test_figures_are_stored_with_a_palette_and_look_the_same():
    picture = Image.new("RGBA", (60, 40), "white")
    for x in range(60):
        picture.putpixel((x, x // 2), (0, 114, 178, 255))
    data = io.BytesIO()
    picture.save(data, "png")
    encoded = base64.b64encode(data.getvalue()).decode()
    compact = notebooks.compact_png(encoded)
    again = Image.open(io.BytesIO(base64.b64decode(compact)))
    assert again.mode == "P" and again.convert("RGBA").tobytes() == picture.tobytes()
    assert notebooks.compact_png(compact) == compact, "a second run changes nothing"


def test_nbval_run_compares_the_cost_with_the_recorded_one(tmp_path):
    """The command of `make chapters`, on two notebooks; the record of one claims a twenty-fifth of a second."""
    paths = [store(tmp_path / name, code(MESSY), code(OBJECT)) for name in ("honest.ipynb", "costly.ipynb")]
    for path in paths:
        notebooks.run(path)
    notebook = nbformat.read(paths[1], as_version=4)
    notebook.metadata.dsmini.cpu_seconds = 0.04
    nbformat.write(notebook, paths[1])

    here = notebooks.ROOT / "tests" / "notebooks"
    options = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", here / "sanitize.cfg", "-k", "Cell and ipynb"]
    command = [sys.executable, "-m", "pytest", here / "test_sync.py", *paths, *options]
    result = subprocess.run(command, cwd=notebooks.ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and "4 passed" in result.stdout, result.stdout
    assert "costly.ipynb used" in result.stdout and "the limit is 0.1" in result.stdout
    assert "honest.ipynb used" not in result.stdout and "together" not in result.stdout
