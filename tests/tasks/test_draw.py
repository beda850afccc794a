"""Chance that repeats, and a split that nobody can shift."""

import subprocess
import sys
from collections import Counter

import pytest

from dsmini.tasks.draw import Draw, check_split, split_of


def test_draws_are_the_same_on_every_python():
    """Written down once; a Python or a platform on which they differ cannot repeat a recipe."""
    draw = Draw("a", 1)
    assert [draw.below(100) for _ in range(5)] == [77, 69, 44, 34, 45]
    assert "".join(draw.shuffled("abcdef")) == "afbcde"
    assert "".join(draw.weighted({"x": 1, "y": 3}) for _ in range(6)) == "yyyyxy"


def test_draws_depend_on_all_seeds_and_on_nothing_else():
    def stream(*seeds):
        draw = Draw(*seeds)
        return [draw.below(1000) for _ in range(4)]

    assert stream(1, 2) == stream(1, 2) == stream("1", "2")
    assert len({tuple(stream(*seeds)) for seeds in [(1, 2), (2, 1), (12,), (1,), ("1/3",)]}) == 5


def test_draws_are_fair():
    draw = Draw(0)
    faces = Counter(draw.below(6) for _ in range(6000))
    assert set(faces) == set(range(6)) and min(faces.values()) > 880
    kinds = Counter(draw.weighted({"rare": 0.1, "common": 0.9}) for _ in range(5000))
    assert 400 < kinds["rare"] < 600
    assert 1100 < sum(draw.happens(0.25) for _ in range(5000)) < 1400
    orders = Counter("".join(draw.shuffled("abc")) for _ in range(6000))
    assert len(orders) == 6 and min(orders.values()) > 880


def test_split_is_the_same_in_another_process():
    """Python's own hash() is not: it changes with every process."""
    keys = [f"cups {i}" for i in range(60)]
    code = f"from dsmini.tasks.draw import split_of; print(*(split_of(k) for k in {keys!r}))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert there == [split_of(key) for key in keys]


def test_one_key_in_ten_is_held_out():
    assert 900 < sum(split_of(f"problem {i}") == "test" for i in range(10_000)) < 1100


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="split = 'dev': expected 'train' or 'test'"):
        check_split("dev")
