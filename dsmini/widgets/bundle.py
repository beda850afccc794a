"""Joins the widgets' ES modules into scripts that need no module loader. Standard library only.

A browser refuses `<script type="module">` on a page opened from a file, and JupyterLab hands anywidget one file
without its neighbours. So the modules keep to a small part of the language (`import { a, b } from "./name.js"`, and
`export` before a declaration or `default`), and joining them is text work: each module becomes a function that
returns its exports. Run `python -m dsmini.widgets.bundle` to print the page's script.
"""

import json
import re
from pathlib import Path

WIDGETS = (
    "absorption", "budget_explorer", "clip_map", "fp8_tiles", "group_advantages", "kv_calculator", "mtp_tape", "router",
    "sparsity", "template_explorer", "timeline",
)  # fmt: skip
STYLES = ("widgets", "widgets_v3", "widgets_r1", "widgets_v31", "widgets_v32")

_FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) (\w+))", re.MULTILINE)
_NAME = re.compile(r"^export (?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_LEFT = re.compile(r"^[ \t]*(?:import|export)\b.*", re.MULTILINE)


def bundle():
    """The static page's script: every widget, its styles and the `<ds-widget>` element, as one classic script."""
    roots = (*WIDGETS, "page")
    body = "".join(_closed(name) for name in _in_order(roots))
    table = ", ".join(f'"{name}": {_variable(name)}.default' for name in WIDGETS)
    return f'"use strict";\n(() => {{\n{body}{_variable("page")}.define({{ {table} }}, {json.dumps(css())});\n}})();\n'


def module(name):
    """One widget as a single ES module with its neighbours inside: what anywidget loads in JupyterLab."""
    if name not in WIDGETS:
        raise ValueError(f"name = {name!r}: expected one of {', '.join(WIDGETS)}")
    neighbours = "".join(_closed(other) for other in _in_order([name]) if other != name)
    source = _without_imports(_read(name))
    _reject_leftovers(name, _DEFAULT.sub("", source))
    return neighbours + source


def css():
    """The widgets' style sheets, as one."""
    return "\n".join((_FOLDER / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)


def _read(name):
    return (_FOLDER / f"{name}.js").read_text(encoding="utf-8")


def _variable(name):
    return f"${name.replace('-', '_')}"


def _in_order(roots):
    """Module names, each after the ones that it imports."""
    order = []

    def visit(name, above):
        if name in above:
            raise ValueError(f"{name}.js imports itself through {' -> '.join(above)}")
        for _, needed in _IMPORT.findall(_read(name)):
            visit(needed, (*above, name))
        if name not in order:
            order.append(name)

    for root in roots:
        visit(root, ())
    return order


def _closed(name):
    """A module as `const $name = (() => { ...; return { its exports }; })();`."""
    source = _read(name)
    exports = _NAME.findall(source)
    source = _EXPORT.sub("", _without_imports(source))
    source, defaults = _DEFAULT.subn("const $default = ", source)
    if defaults:
        exports.append("default: $default")
    _reject_leftovers(name, source)
    return f"const {_variable(name)} = (() => {{\n{source}\nreturn {{ {', '.join(exports)} }};\n}})();\n"


def _without_imports(source):
    return _IMPORT.sub(lambda found: f"const {{{found[1]}}} = {_variable(found[2])};\n", source)


def _reject_leftovers(name, source):
    if left := _LEFT.search(source):
        raise ValueError(f"{name}.js: the bundler cannot join this line: {left[0].strip()}")


if __name__ == "__main__":
    print(bundle(), end="")
