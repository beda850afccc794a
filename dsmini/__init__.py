"""dsmini: DeepSeek from V3 to V3.2, small enough to read and to train on a laptop CPU.

The book's chapters build this package; each part is first derived in a notebook and then imported from here.
Public names load on first use (PEP 562), so `import dsmini` is instant and the arithmetic of
`dsmini.accounting` works on a machine without PyTorch.
"""

import functools
import importlib
import tomllib
from importlib import resources

__version__ = "0.1.0"

# public name -> the module that defines it
_HOMES = {
    "ModelConfig": "dsmini.config",
    "RopeScaling": "dsmini.config",
    "PRESETS": "dsmini.config",
    "Transformer": "dsmini.model.transformer",
    "load_pretrained": "dsmini.model.checkpoint",
    "save_pretrained": "dsmini.model.checkpoint",
    "generate": "dsmini.inference.generate",
}
_SUBMODULES = ("accounting", "config", "inference", "language", "model", "plots", "probes", "reference", "training",
               "widgets", "zoo")  # fmt: skip

__all__ = [*_HOMES, *_SUBMODULES, "edition", "facts"]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"dsmini.{name}")
    raise AttributeError(f"module 'dsmini' has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(__all__))


def edition(expected):
    """Check that this package is the edition that a chapter was written for.

    expected: "major.minor", for example "0.1".
    Raises RuntimeError with the way out when book and package differ. A chapter calls it in its first cell.
    """
    installed = ".".join(__version__.split(".")[:2])
    if str(expected) != installed:
        raise RuntimeError(
            f"this chapter belongs to edition {expected} of the book, but dsmini {__version__} is installed; "
            "run `pip install -e .` in the book's folder, or download the notebook of your edition"
        )


@functools.cache
def facts():
    """The book's facts file as a dict: presets, releases, reported scores, each row with its source."""
    return tomllib.loads(resources.files("dsmini").joinpath("facts.toml").read_text(encoding="utf-8"))
