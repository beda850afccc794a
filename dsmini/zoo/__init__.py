"""The models that the book trains, ready to be loaded: a recipe each, and what it made.

Each result ships with the package as a small safetensors file beside its record; `make zoo` trains them all again. A
file that is missing, damaged or older than its recipe is noticed, and the model is trained anew into the user's cache
folder (DSMINI_HOME).
"""

from dsmini.zoo import make as _make
from dsmini.zoo import recipe as _recipe
from dsmini.zoo import store as _store


def names():
    """What there is, a list of names; parents stand before the models that start from them."""
    return list(_recipe.RECIPES)


def load(name):
    """A fresh model: a `Transformer` in float32 and eval mode.

    Raises ValueError, listing what there is, for an unknown name. Trains the model if its file is not fit to be used.
    """
    data, _ = _make.result(_recipe.find(name))
    return _store.decode(data)


def record(name):
    """How a model was made and what it can do, a dict.

    name, recipe (its hash), seed, config, parents (name -> SHA-256 of their files), versions, cpu_seconds; metrics,
    see `metrics`; stages, a list of dicts: name, steps, loads, and losses, or curves (name -> floats) of reinforcement
    learning, all thinned to every n-th step; first_losses: those of a rehearsal (of reinforcement learning, the
    entropies), stage -> 5 floats; bytes and sha256 of its file. Raises as `load`.
    """
    return _make.result(_recipe.find(name))[1]


def metrics(name):
    """What a model can do, a dict, measured after its weights were rounded to bfloat16. Raises as `load`."""
    return record(name)["metrics"]


def build(name):
    """Train a model again and replace the file that ships with the package, as `make zoo` does; returns its record."""
    return _make.build(_recipe.find(name))
