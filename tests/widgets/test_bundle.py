"""The bundler: one classic script for the page, one module for each widget in JupyterLab."""

import re

import pytest

from dsmini.widgets import bundle


def module_lines(script):
    return [line for line in script.splitlines() if re.match(r"\s*(import|export)\b", line)]


def test_the_page_script_has_no_module_syntax_left():
    assert module_lines(bundle.bundle()) == []


@pytest.mark.parametrize("name", bundle.WIDGETS)
def test_a_widget_module_stands_alone(name):
    assert module_lines(bundle.module(name)) == ["export default { render };"]


def test_each_module_is_joined_once():
    assert re.findall(r"^const \$(\w+) = \(\(\)", bundle.bundle(), re.MULTILINE) == [
        "common", "formulas", "absorption_story", "absorption", "budget_explorer", "policy", "clip_map", "float8",
        "fp8_tiles", "group_advantages", "kv_calculator", "speculation", "mtp_tape", "routing", "router_charts",
        "router", "recall", "sparsity_row", "sparsity_curves", "sparsity", "template_explorer", "timeline", "page",
    ]  # fmt: skip


def test_the_script_is_the_same_every_time():
    assert bundle.bundle() == bundle.bundle()


@pytest.mark.parametrize(
    "line",
    ['import x from "./common.js";', 'import * as c from "./common.js";', "export { render };", 'import("./x.js")'],
)
def test_syntax_that_cannot_be_joined_is_refused(monkeypatch, line):
    read = bundle._read
    monkeypatch.setattr(bundle, "_read", lambda name: read(name) + (f"\n{line}\n" if name == "timeline" else ""))
    for join in (bundle.bundle, lambda: bundle.module("timeline")):
        with pytest.raises(ValueError, match="timeline.js: the bundler cannot join this line"):
            join()


def test_a_circle_is_refused(monkeypatch):
    read = bundle._read
    circle = 'import { story } from "./absorption_story.js";\n'
    monkeypatch.setattr(bundle, "_read", lambda name: (circle if name == "common" else "") + read(name))
    with pytest.raises(ValueError, match="imports itself"):
        bundle.bundle()


def test_an_unknown_widget_is_refused():
    with pytest.raises(ValueError, match="name = 'clock'"):
        bundle.module("clock")
