"""The problem sets keep their common form, on which grading and feedback rely."""

import ast
import re

import pytest
from workbench import NAMES, namespace, problem_set

each_set = pytest.mark.parametrize("name", NAMES)


@each_set
def test_a_set_has_thirty_points_five_of_them_for_the_written_question(name):
    one = problem_set(name)
    assert one.points == 30
    assert [cell.points for cell in one.cells if cell.kind == "written"] == [5]
    assert 5 <= len(one.functions) <= 7


@each_set
def test_every_function_has_a_solution_cell_and_two_test_cells(name):
    one = problem_set(name)
    solutions = [cell.id for cell in one.cells if cell.kind == "solution"]
    assert solutions == list(one.functions)
    for function, entry in one.functions.items():
        assert (entry["public"], entry["hidden"]) == (f"{function}-public", f"{function}-hidden")


@each_set
def test_solutions_and_hidden_tests_are_marked(name):
    for cell in problem_set(name).cells:
        begins, ends = (cell.source.count(f"### {word}") for word in ("BEGIN SOLUTION", "END SOLUTION"))
        assert begins == ends and (begins > 0) == (cell.kind in ("solution", "written")), cell.id
        if cell.kind == "hidden":
            assert re.match(rf"# Hidden tests \({cell.points:g} points?\)", cell.source), cell.id


@each_set
def test_the_names_of_cases_are_plain_texts(name):
    """Feedback shows a case's name only if it stands in the test as it is."""
    for cell in problem_set(name).cells:
        if cell.kind == "hidden":
            calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
            cases = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "case"]
            assert cases, cell.id
            assert all(isinstance(node.args[0], ast.Constant) for node in cases), cell.id


@each_set
def test_the_given_cells_run_for_everybody(name):
    for typed, student in (("reader", "reader"), ("ada", "ada"), ("Zoë O'Neil", "zoë_o_neil")):
        assert namespace(name, typed, solved=False)["me"].student == student
