"""The book's widgets: the same code in JupyterLab and on the static page, without a kernel there.

Each widget is one ES module with anywidget's contract and a thin Python face. In JupyterLab it is an ipywidget with
traits to read, set and link; beside it, its output holds `<ds-widget>`, which the page's script brings to life and
which shows a sentence with the key numbers where no script runs. The faces load on first use; none needs PyTorch.
"""

import importlib

_HOMES = {
    "timeline": "dsmini.widgets.faces",
    "kv_calculator": "dsmini.widgets.faces",
    "absorption": "dsmini.widgets.faces",
    "router": "dsmini.widgets.faces_v3",
    "mtp_tape": "dsmini.widgets.faces_v3",
    "fp8_tiles": "dsmini.widgets.faces_v3",
    "clip_map": "dsmini.widgets.faces_r1",
    "group_advantages": "dsmini.widgets.faces_r1",
    "template_explorer": "dsmini.widgets.faces_v31",
    "budget_explorer": "dsmini.widgets.faces_v31",
    "sparsity": "dsmini.widgets.faces_v32",
    "Widget": "dsmini.widgets.base",
}

__all__ = [
    "Widget", "absorption", "budget_explorer", "clip_map", "fp8_tiles", "group_advantages", "kv_calculator",
    "mtp_tape", "router", "sparsity", "template_explorer", "timeline",
]  # fmt: skip


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dsmini.widgets' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
