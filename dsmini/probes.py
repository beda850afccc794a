"""The reader's instruments: three questions that any attention must answer.

Leak probe: does the future move the past? Gradient census: who learns? Cache meter: what is really stored? They know
nothing of this book's classes, so they work as well on a reader's own code, and the bug museums are solved with them.
"""

import dataclasses

import torch


def leak_probe(function, inputs, position=None):
    """Largest change of the outputs before `position` when everything from `position` on is edited.

    function: (B, T, ...) -> (B, T, ...). inputs: tokens (B, T) or vectors (B, T, D). position: T // 2 by default.
    A causal function returns exactly 0.0; one with experts may return its rounding error, because how many tokens an
    expert works on at once changes the order of its sums. The future is edited by reversing it, so tokens stay in the
    vocabulary. A single layer that leaks by what comes later, in whatever order, passes (experts that choose among all
    tokens do); in a whole model it shows.
    Raises ValueError if there is no past, or if reversing the future changes nothing.
    """
    length = inputs.shape[1]
    position = length // 2 if position is None else position
    if not 0 < position < length:
        raise ValueError(f"position = {position}: expected 1 to {length - 1}, inside the sequence")
    edited = torch.cat((inputs[:, :position], inputs[:, position:].flip(1)), dim=1)
    if torch.equal(edited, inputs):
        raise ValueError("inputs: the future reads the same backwards, so the probe would prove nothing")
    with torch.no_grad():
        before, after = function(inputs)[:, :position], function(edited)[:, :position]
    return (before - after).abs().max().item()


@dataclasses.dataclass(frozen=True)
class GradientCensus:
    """Names of parameters by what `loss.backward()` left in them: a gradient, all zeros, or nothing."""

    learning: tuple
    zero: tuple
    none: tuple

    @property
    def all_learn(self):
        """Whether every parameter got a gradient that is not zero."""
        return not self.zero and not self.none

    def __str__(self):
        lines = [f"{len(self.learning)} parameters learn"]
        lines += [f"gradient is all zeros: {name}" for name in self.zero]
        lines += [f"no gradient at all:    {name}" for name in self.none]
        return "\n".join(lines)


def gradient_census(module):
    """Sort a module's parameters by their gradient; call it after `loss.backward()`. Returns a `GradientCensus`."""
    found = {"learning": [], "zero": [], "none": []}
    for name, parameter in module.named_parameters():
        if parameter.grad is None:
            found["none"].append(name)
        else:
            found["learning" if parameter.grad.any() else "zero"].append(name)
    return GradientCensus(**{kind: tuple(names) for kind, names in found.items()})


def cache_meter(cache, tokens):
    """Floating-point values that an object keeps per token, found by walking through everything it holds.

    cache: any object, list, tuple or dict with tensors somewhere inside. tokens: how many tokens (batch size times
    length) it holds room for. Counts storage, not views, each storage once: a cache cannot hide what it keeps.
    """
    sizes = {}
    _collect(cache, sizes, set())
    return sum(sizes.values()) / tokens


def _collect(item, sizes, seen):
    if id(item) in seen:
        return
    seen.add(id(item))
    if isinstance(item, torch.Tensor):
        if item.is_floating_point():
            storage = item.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes() / item.element_size()
    elif isinstance(item, dict):
        for value in item.values():
            _collect(value, sizes, seen)
    elif isinstance(item, list | tuple | set):
        for value in item:
            _collect(value, sizes, seen)
    elif hasattr(item, "__dict__") and not isinstance(item, type):
        _collect(vars(item), sizes, seen)
