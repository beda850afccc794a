"""A recipe's hash follows what decides its result and nothing else."""

import ast
import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from dsmini import zoo
from dsmini.config import PRESETS, ModelConfig, RopeScaling
from dsmini.zoo.recipe import Recipe, changed_fields, find, normal_form

# Every construct whose tree has changed, or whose text is written otherwise, from one Python to another.
SAMPLE = '''
"""Told."""
from __future__ import annotations
import math as m

@m.wraps(None)
def f(a: int, /, b=1.5, *c, d=None, **e) -> "text":
    """Told."""
    x = f"{a!r:>{b}} {d['k']} {{}}" "joined" + b"raw".decode()
    match a:
        case [1, *_] | {"k": None}:
            return lambda: (yield)
        case _:
            pass
    try:
        return [*c, -1, 2**70, 1e-9, ...], {**e, "k": not x}
    except* (ValueError, KeyError) as group:
        raise m.error from group

class A(dict, metaclass=type):
    """Told."""
    n: int = 0
    async def g(self): return [i async for i in self if (y := i)]
'''


def tree(source):
    return normal_form(ast.parse(source))


def test_normal_form_is_the_same_on_every_python():
    digest = hashlib.sha256(json.dumps(tree(SAMPLE), sort_keys=True).encode()).hexdigest()
    assert digest[:16] == "07d946f62ae95839"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1  # one", "# first\nx = (1)\n\n"),
        ('"""Doc."""\nx = "a"', "'other doc'\nx = 'a'"),
        ('def f():\n    """Doc."""\n    return 1', "def f(): return 1"),
        ('class A:\n    "Doc."\n    x: int', "class A:\n  x : int"),
        ("f(a,\n  b)", "f(a, b)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(one, other):
    assert tree(one) == tree(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = '1'", "x = 1"),
        ("x = None", "x = 'None'"),
        ("f(None)", "f()"),
        ("return_ = None", "return_: None"),
        ("def f():\n    return None", "def f():\n    return"),
        ("def f():\n    'a'\n    'b'", "def f():\n    'a'\n    'c'"),
        ("x = [1, 2]", "x = [2, 1]"),
        ("x = []", "x = ()"),
        ("f(a=1)", "f(b=1)"),
        ("a - b", "b - a"),
        ("{**a}", "{'a': a}"),
        ("import a", "import a as b"),
        ("def f(a, b): pass", "def f(a, *, b): pass"),
    ],
)
def test_code_that_differs_counts(one, other):
    assert tree(one) != tree(other)


def test_hash_does_not_see_comments_and_docstrings(empty):
    from_comments = (
        empty.tiny.hash(),
        empty.define("tiny", empty.source.replace("# a second stage", "# later")).hash(),
        empty.define("tiny", empty.source.replace("Half of the truth.", "All of it.")).hash(),
    )
    assert len(set(from_comments)) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("% 29\n\ndef windows", "% 28\n\ndef windows"),  # a constant
        ("+ step) % 29", "+ step + 1) % 29"),  # a helper
        ('"squares", model', '"cubes", model'),  # build
        ("batches=1", "batches=2"),  # evaluate
        ("seed=3", "seed=4"),
        ("bias_speed=0.01", "bias_speed=0.02"),
        ("moe_intermediate_size=8", "moe_intermediate_size=9"),
    ],
)
def test_hash_follows_the_source(empty, old, new):
    before = [empty.tiny.hash(), empty.child.hash()]
    changed = empty.define("tiny", empty.source.replace(old, new))
    assert changed.hash() != before[0]
    assert empty.child.hash() != before[1]  # the parent's hash is part of the child's


def test_hash_is_of_the_code_that_runs_and_not_of_a_file_edited_since(empty):
    path, before = Path(empty.module.__file__), empty.tiny.hash()
    path.write_text(empty.source.replace("seed=3", "seed=4"), encoding="utf-8")
    assert empty.tiny.hash() == find("tiny").hash() == before


def test_hash_follows_config_seed_and_parents_that_come_from_elsewhere(empty):
    tiny, config = empty.tiny, empty.tiny.config
    changes = [
        {"config": config.replace(rms_norm_eps=1e-5)},
        {"config": None},
        {"seed": 4},
        {"parents": ("child",)},
    ]
    hashes = [dataclasses.replace(tiny, **change).hash() for change in changes]
    assert len({tiny.hash(), *hashes}) == 1 + len(changes)


def test_field_at_its_default_is_left_out():
    config = ModelConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, rms_norm_eps=1e-6)
    assert changed_fields(config).keys() <= {"hidden_size", "num_hidden_layers", "num_attention_heads",
                                             "num_key_value_heads", "head_dim"}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_config_comes_back_from_its_changed_fields(name):
    stored = json.loads(json.dumps(changed_fields(PRESETS[name])))
    assert ModelConfig(**stored) == PRESETS[name]


def test_rope_scaling_comes_back_too():
    config = PRESETS["mini-mla"].replace(rope_scaling=RopeScaling(4.0, 64, mscale=0.7, truncate=False))
    assert ModelConfig(**json.loads(json.dumps(changed_fields(config)))) == config


def test_unknown_name_lists_what_there_is(empty):
    assert zoo.names() == ["tiny", "child"]
    for ask in (zoo.load, zoo.metrics, zoo.record, zoo.build, find):
        with pytest.raises(ValueError, match="name = 'bass': expected one of tiny, child"):
            ask("bass")


@pytest.mark.parametrize("name", ["", "Base", "a b", "../a", "a--b", "-a", "a/b"])
def test_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(ValueError, match="name = .*: expected small letters"):
        Recipe(name, print, print)


def test_parents_are_a_tuple():
    with pytest.raises(ValueError, match="parents = 'base': expected a tuple of names"):
        Recipe("child", print, print, parents="base")
