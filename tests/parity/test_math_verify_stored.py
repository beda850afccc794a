"""The stored verdicts of math-verify are what the installed one says today, and ours are the same."""

import json
from collections import Counter

import make_math_verify
from test_math_verify import gold, theirs

from dsmini.tasks.maths import Maths, is_equal

STORED = json.loads(make_math_verify.PATH.read_text(encoding="utf-8"))


def problem_of(row):
    return Maths(row["kind"], row["subject"], tuple(row["solutions"]))


def test_script_makes_the_stored_rows_again():
    assert make_math_verify.rows() == STORED["rows"]


def test_installed_library_gives_the_stored_verdicts():
    assert STORED["made_by"].startswith("math-verify ")
    for row in STORED["rows"]:
        assert theirs(gold(problem_of(row)), row["answer"]) == row["verdict"], row


def test_our_verdicts_are_the_stored_ones():
    for row in STORED["rows"]:
        assert is_equal(problem_of(row), row["answer"]) == row["verdict"], row


def test_stored_rows_are_worth_comparing_with():
    verdicts = Counter((row["style"], row["verdict"]) for row in STORED["rows"])
    assert len(STORED["rows"]) > 150 and {row["kind"] for row in STORED["rows"]} > {"surd", "factor", "root"}
    assert verdicts["respelled", True] == verdicts["sign", False] == make_math_verify.COUNT
    assert verdicts["copy", True] > 5
