"""The sync check sees every change of code, and only that."""

import nbformat
import pytest

import sync
from notebooks import chapters

MODULE = '''
"""A module."""
import math

SCALE = 2

def twice(x):
    """Double it."""
    # by addition
    return x + x

@staticmethod
@property
def decorated(x, *, y=1):
    return x * y

class Box:
    """A box."""

    size: int = 3

    def __init__(self, size):
        """Keep the size."""
        self.size = size

    @property
    def area(self):
        # squared
        return self.size**2
'''


@pytest.fixture
def package(tmp_path):
    (tmp_path / "dsmini" / "model").mkdir(parents=True)
    (tmp_path / "dsmini" / "model" / "boxes.py").write_text(MODULE)
    (tmp_path / "dsmini" / "model" / "__init__.py").write_text("def at_the_top():\n    return 1\n")
    return tmp_path


def store(folder, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path = folder / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


SAME = {
    "function with another docstring and comment": (
        '# dsmini.model.boxes: twice\ndef twice(x):\n    """2x."""\n\n    return x + x  # twice'
    ),
    "constant": "# dsmini.model.boxes: SCALE\nSCALE = 2",
    "decorated function": (
        "# dsmini.model.boxes: decorated\n@staticmethod\n@property\ndef decorated(x, *, y=1):\n    return x * y"
    ),
    "class": (
        "# dsmini.model.boxes: Box\nclass Box:\n    size: int = 3\n    def __init__(self, size):\n"
        "        self.size = size\n    @property\n    def area(self):\n        return self.size**2"
    ),
    "method": "# dsmini.model.boxes: Box.__init__\ndef __init__(self, size):\n    self.size = size",
    "decorated method": "# dsmini.model.boxes: Box.area\n@property\ndef area(self):\n    return self.size**2",
    "two": "# dsmini.model.boxes: SCALE, twice\nSCALE = 2\ndef twice(x):\n    return x + x",
    "package's __init__": "# dsmini.model: at_the_top\ndef at_the_top():\n    return 1",
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_same_code_agrees(package, source):
    assert sync.check(store(package, source), package) == []


CHANGED = {
    "operator": "# dsmini.model.boxes: twice\ndef twice(x):\n    return x * x",
    "default": (
        "# dsmini.model.boxes: decorated\n@staticmethod\n@property\ndef decorated(x, *, y=2):\n    return x * y"
    ),
    "lost decorator": "# dsmini.model.boxes: decorated\n@staticmethod\ndef decorated(x, *, y=1):\n    return x * y",
    "lost decorator of a method": "# dsmini.model.boxes: Box.area\ndef area(self):\n    return self.size**2",
    "line inside a class": SAME["class"].replace("**2", "**3"),
    "lost method": SAME["class"].partition("    @property")[0],
    "constant": "# dsmini.model.boxes: SCALE\nSCALE = 3",
    "order": "# dsmini.model.boxes: twice, SCALE\nSCALE = 2\ndef twice(x):\n    return x + x",
    "extra line": SAME["constant"] + "\nprint(SCALE)",
    "import in the cell": "# dsmini.model.boxes: SCALE\nimport math\nSCALE = 2",
    "docstring used as a value": "# dsmini.model.boxes: twice\ndef twice(x):\n    return 'x + x'",
}


@pytest.mark.parametrize("source", CHANGED.values(), ids=CHANGED)
def test_changed_code_is_reported_with_a_diff(package, source):
    marker = source.splitlines()[0]
    (message,) = sync.check(store(package, "x = 1", source), package)
    assert "chapter.ipynb, cell 2" in message and marker.removeprefix("# ") in message
    assert "\n-" in message or "\n+" in message


WRONG = {
    "unknown name": ("# dsmini.model.boxes: thrice\nx = 1", "dsmini.model.boxes defines no thrice"),
    "unknown method": ("# dsmini.model.boxes: Box.volume\nx = 1", "defines no Box.volume"),
    "unknown module": ("# dsmini.model.crates: Box\nx = 1", "no module dsmini.model.crates"),
    "marker below the top": ("x = 1\n# dsmini.model.boxes: twice", "stands on line 2"),
    "malformed marker": ("# dsmini.model.boxes : twice\nx = 1", "expected once"),
    "marker with a remark": ("# dsmini.model.boxes: twice (short)\nx = 1", "expected once"),
    "not Python": ("# dsmini.model.boxes: twice\n%timeit x", "not plain Python"),
}


@pytest.mark.parametrize(("source", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_markers_are_clear_errors(package, source, expected):
    (message,) = sync.check(store(package, source), package)
    assert "chapter.ipynb, cell 1" in message and expected in message


def test_write_refuses_an_unknown_name_and_leaves_the_file(package):
    path = store(package, CHANGED["operator"], WRONG["unknown name"][0])
    before = path.read_bytes()
    with pytest.raises(sync.SyncError, match="cell 2.*defines no thrice"):
        sync.rewrite(path, package)
    assert path.read_bytes() == before


def test_a_comment_that_is_no_marker_is_left_alone(package):
    assert sync.check(store(package, "# dsmini is small\nx = 1", "import dsmini"), package) == []


@pytest.mark.parametrize("source", CHANGED.values(), ids=CHANGED)
def test_write_repairs_a_changed_cell(package, source):
    path = store(package, "x = 1", source)
    (changed,) = sync.rewrite(path, package)
    assert "cell 2" in changed
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source == "x = 1" and cells[1].source.startswith(source.splitlines()[0] + "\n")
    assert sync.check(path, package) == []


def test_write_brings_the_package_s_comments_and_leaves_equal_cells_alone(package):
    path = store(package, CHANGED["lost decorator of a method"], SAME["method"])
    assert len(sync.rewrite(path, package)) == 1
    first, second = nbformat.read(path, as_version=4).cells
    expected = "# dsmini.model.boxes: Box.area\n@property\ndef area(self):\n    # squared\n    return self.size**2"
    assert (first.source, second.source) == (expected, SAME["method"])
    before = path.read_bytes()
    assert sync.rewrite(path, package) == [] and path.read_bytes() == before


def test_chapters_agree_with_the_package():
    assert "\n\n".join(message for path in chapters() for message in sync.check(path)) == ""
