"""The exercise checker finds what it is for: a wrong solution, a check that checks nothing, a form that is not kept."""

import contextlib
import io

import nbformat
import pytest

import exercises
import notebooks

GOOD = """:::{exercise} Twice
:label: ex-twice

★ 5 minutes. Write `twice(x)`.

Check:
```python
assert twice(3) == 6
```
:::

:::{solution} ex-twice
:class: dropdown

```python
def twice(x):
    return 2 * x
```
:::
"""


def complaints(source):
    """What the checker says of one markdown cell, run in this process instead of a kernel."""
    found = exercises.exercises(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)]))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(exercises.kernel_code(found), {})
    return exercises.complaints(printed.getvalue())


def test_good_exercise_passes():
    assert complaints(GOOD) == []


def test_wrong_solution_is_found():
    assert "fails its own check" in complaints(GOOD.replace("2 * x", "3 * x"))[0]


def test_check_that_accepts_nothing_at_all_is_found():
    assert "empty answer" in complaints(GOOD.replace("assert twice(3) == 6", "twice"))[0]


def test_backtick_fences_are_read_too():
    longer = GOOD.replace(":::{", "````{").replace("\n:::\n", "\n````\n")
    assert list(exercises.exercises(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(longer)])))


@pytest.mark.parametrize("path", notebooks.chapters(), ids=lambda path: path.stem)
def test_every_exercise_states_its_cost_and_has_a_check_and_a_solution(path):
    found = exercises.exercises(nbformat.read(path, as_version=4))
    assert len(found) >= 3
    for item in found.values():
        assert exercises.DIFFICULTY.search(item.text), f"{item.label}: stars and minutes, as in '★★ 15 minutes.'"
        assert item.check and item.solution, item.label
