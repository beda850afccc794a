"""The Python side: traits, what they refuse, and the HTML for the page."""

import html
import json
import re
import subprocess
import sys

import pytest
from traitlets import TraitError

import dsmini
from dsmini import accounting, widgets
from dsmini.widgets import bundle

MAKERS = [getattr(widgets, name) for name in bundle.WIDGETS]


def props_of(markup):
    return json.loads(html.unescape(re.fullmatch(r"<ds-widget name=\"\w+\" props='([^']*)'>.*", markup, re.DOTALL)[1]))


def test_no_widget_needs_torch():
    code = """
import sys
sys.modules["torch"] = None  # an import of torch raises
import dsmini.widgets, dsmini.widgets.bundle
assert "anywidget" not in sys.modules
for name in dsmini.widgets.bundle.WIDGETS:
    getattr(dsmini.widgets, name)().to_html()
dsmini.widgets.bundle.bundle()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("make", MAKERS)
def test_html_is_the_same_every_time(make):
    first, second = make(), make()
    assert first.model_id != second.model_id
    assert first.to_html() == second.to_html()
    data, _ = first._repr_mimebundle_()
    assert data["text/html"] == first.to_html()
    assert first.model_id not in data["text/html"] + data["text/plain"]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == first.model_id


@pytest.mark.parametrize("make", MAKERS)
def test_html_carries_the_traits_and_is_small(make):
    widget = make()
    assert props_of(widget.to_html()) == json.loads(json.dumps(widget.props()))
    assert list(props_of(widget.to_html())) == sorted(widget.props())
    assert len(widget.to_html()) < 20_000  # a page may hold 200 KB


def test_html_is_escaped():
    evil = "</ds-widget><script>alert('x')</script>\"&amp;"
    row = {**dsmini.facts()["releases"][0], "name": evil, "change": evil}
    markup = widgets.timeline([row]).to_html()
    assert "<script" not in markup
    assert markup.count("</ds-widget>") == 1
    assert props_of(markup)["releases"][0]["name"] == evil
    config = dsmini.PRESETS["deepseek-v3"]
    assert "<b>" not in widgets.absorption(models={"<b>": config}, preset="<b>").to_html()


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (widgets.timeline, {"selected": "DeepSeek-R1-0528", "hidden": ["math"]}),
        (
            widgets.kv_calculator,
            {"context": 32_768, "batch_size": 16, "preset": "deepseek-v2", "cache_layout": "expanded"},
        ),
        (widgets.kv_calculator, {"memory_gib": 24.0, "bytes_per_value": 1}),
        (widgets.absorption, {"context": 2048, "step": 5, "naive": "rebuilt", "preset": "deepseek-v2-lite"}),
    ],
)
def test_traits_go_both_ways(make, changes):
    widget = make()
    for name, value in changes.items():
        setattr(widget, name, value)
    assert {name: widget.get_state()[name] for name in changes} == changes  # what JupyterLab is sent
    other, seen = make(), []
    other.observe(lambda change: seen.append(change["name"]), names=list(changes))
    other.set_state(changes)  # what JupyterLab sends
    assert {name: getattr(other, name) for name in changes} == changes
    assert sorted(seen) == sorted(changes)


def test_a_layout_gives_way_to_a_model_that_cannot_have_it():
    widget = widgets.kv_calculator(preset="deepseek-v3.2", cache_layout="fp8-index")
    widget.preset = "deepseek-v3"
    assert widget.cache_layout == "plain"


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (widgets.timeline, {"selected": "V9"}, "selected = 'V9': expected one of DeepSeekMath 7B"),
        (widgets.timeline, {"releases": []}, "expected at least one row"),
        (widgets.timeline, {"releases": [{"name": "x"}]}, "release 'x' lacks date"),
        (widgets.timeline, {"releases": dsmini.facts()["releases"][:1] * 2}, "each name once"),
        (widgets.kv_calculator, {"preset": "gpt-2"}, "preset = 'gpt-2': expected one of deepseek-67b"),
        (widgets.kv_calculator, {"models": ["gpt-2"]}, r"models = \['gpt-2'\]: expected names from PRESETS"),
        (widgets.kv_calculator, {"cache_layout": "fp8-index"}, "cache_layout = 'fp8-index': expected one of plain"),
        (widgets.kv_calculator, {"context": 0}, "context"),
        (widgets.kv_calculator, {"bytes_per_value": 3}, "bytes_per_value"),
        (widgets.absorption, {"models": ["llama-3-70b"]}, r"models = \['llama-3-70b'\]: expected models with MLA"),
        (widgets.absorption, {"naive": "slow"}, "naive"),
        (widgets.absorption, {"step": 9}, "step"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises((ValueError, TraitError), match=message):
        make(**arguments)


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="tokens"):
        widgets.kv_calculator(tokens=5)


def test_the_fallback_tells_the_numbers():
    config = dsmini.PRESETS["deepseek-v3"]
    gib = accounting.kv_cache_bytes(config, 131_072) / 2**30
    assert f"{gib:.2f} GiB for 131,072 tokens" in widgets.kv_calculator().fallback()
    assert "488 GiB" in widgets.kv_calculator().fallback()
    assert "369 MFLOP and 320 MiB" in widgets.absorption().fallback()
    assert widgets.timeline().fallback().count("<li>") == len(dsmini.facts()["releases"])
