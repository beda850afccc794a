"""Recipes: how each model of the zoo is made, and the hash that ties a stored file to the recipe that made it.

A recipe is a module of its own. Its hash is taken over the module's syntax tree, its config, its seed and its parents'
hashes. The whole module counts, because a constant or a helper decides what comes out as much as `build` does;
comments, docstrings and layout do not count. Library code is not part of it: the rehearsal (see `run`) watches that.
"""

import ast
import dataclasses
import hashlib
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable

from dsmini.config import ModelConfig

# name -> the module that defines its RECIPE; parents stand before their children
RECIPES = {
    "base": "dsmini.zoo.base",
    "r1-zero": "dsmini.zoo.r1_zero",
    "r1": "dsmini.zoo.r1",
    "r1-distilled": "dsmini.zoo.r1_distilled",
    "direct": "dsmini.zoo.direct",
    "hybrid": "dsmini.zoo.hybrid",
    "needle": "dsmini.zoo.needle",
    "needle-sparse": "dsmini.zoo.needle_sparse",
    "sparse": "dsmini.zoo.sparse",
}

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What makes one model.

    build(run): trains and returns a `Transformer`; run is a `dsmini.zoo.run.Run`.
    evaluate(model): metrics for JSON, measured on the model as it is stored, rounded to bfloat16.
    config: of the model that `run.new_model()` gives; None where training starts from a parent.
    parents: names of the recipes whose models `run.load` may give.
    """

    name: str
    build: Callable
    evaluate: Callable
    config: ModelConfig | None = None
    seed: int = 0
    parents: tuple = ()

    def __post_init__(self):
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name = {self.name!r}: expected small letters and digits, with - between them")
        if isinstance(self.parents, str):
            raise ValueError(f"parents = {self.parents!r}: expected a tuple of names")
        # read now: the file may be edited while this process still runs the old code
        source = ast.parse(inspect.getsource(sys.modules[self.build.__module__]))
        object.__setattr__(self, "_source", normal_form(source))

    def hash(self):
        """SHA-256 over what the recipe says, in hexadecimal; the same on every Python."""
        says = {
            "source": self._source,
            "config": changed_fields(self.config) if self.config else None,
            "seed": self.seed,
            "parents": {name: find(name).hash() for name in self.parents},
        }
        return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()


def find(name):
    """The recipe of a name. Raises ValueError, listing what there is, for an unknown one."""
    if name not in RECIPES:
        raise ValueError(f"name = {name!r}: expected one of {', '.join(RECIPES)}")
    return importlib.import_module(RECIPES[name]).RECIPE


def changed_fields(config):
    """The fields of a dataclass that differ from their defaults, as a dict for JSON.

    Fields at their default are left out, so that a new field of ModelConfig changes no hash.
    """
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    values = dataclasses.asdict(config)
    return {name: value for name, value in values.items() if value != fields[name]}


def normal_form(node):
    """A syntax tree as lists and dicts for JSON, without docstrings.

    `ast.dump` and `ast.unparse` write the same tree differently from one Python to the next; here, a field that is
    absent or empty is left out, so that fields that later Pythons add make no difference.
    """
    if isinstance(node, list):
        return [normal_form(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _is_text(node.body[:1]):
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):  # some Pythons add an empty text to an f-string
        fields["values"] = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
    return [type(node).__name__, {name: normal_form(value) for name, value in sorted(fields.items())}]


def _is_text(body):
    """Whether a body starts with a docstring."""
    return any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for node in body
    )
