"""Chance that repeats: draws that are the same on every Python and platform, and a split by a hash of the problem.

Python promises one thing about its generator: `Random(seed).random()` keeps its sequence (library reference, `random`).
`choice`, `shuffle` and `sample` carry no such promise, and `hash()` of a string changes with every process, so
everything here is built on `random()` and on SHA-256.
"""

import hashlib
import random

SPLITS = ("train", "test")
_TEST_SHARE = 10  # one problem in ten is held out


class Draw:
    """A seeded stream of draws. seeds: ints or text; the same ones give the same draws everywhere."""

    def __init__(self, *seeds):
        self._random = random.Random(_digest("/".join(str(seed) for seed in seeds)))

    def below(self, n):
        """A whole number from 0 to n - 1, all alike."""
        return int(self._random.random() * n)

    def happens(self, probability):
        """True with this probability."""
        return self._random.random() < probability

    def choice(self, options):
        """One of a sequence, all alike."""
        return options[self.below(len(options))]

    def weighted(self, weights):
        """One key of a dict, name -> weight above 0, in proportion to its weight."""
        point = self._random.random() * sum(weights.values())
        for name, weight in weights.items():
            point -= weight
            if point < 0:
                return name
        return name

    def shuffled(self, options):
        """A list of all options in a random order (Fisher and Yates)."""
        options = list(options)
        for i in range(len(options) - 1, 0, -1):
            j = self.below(i + 1)
            options[i], options[j] = options[j], options[i]
        return options


def split_of(key):
    """Where a problem belongs, "train" or "test": decided by its text alone, once and for all. One in ten is "test"."""
    return "test" if _digest(key) % _TEST_SHARE == 0 else "train"


def check_split(split):
    """Raises ValueError for anything but "train" and "test"."""
    if split not in SPLITS:
        raise ValueError(f"split = {split!r}: expected 'train' or 'test'")


def _digest(text):
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")
