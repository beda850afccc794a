"""Needles in a haystack: records of a key and a value scattered among filler, and questions for some of the keys.

The multi-key needle of long-context benchmarks (RULER, Hsieh et al. 2024), with many questions at once (associative
recall; Arora et al. 2023), made small. A text is a haystack and then questions, each with its answer behind it:
`. . k7=3 . k2=9 . . . k5=0 . ?k2 9 ?k7 3`. A record is one token that holds key and value, so that one look is enough,
if it goes to the right place. Nothing recent helps, and no place is likelier than another.

The decision to know: a batch is drawn from (split, seed, step) and nothing else, by tensor operations, for a text of a
thousand tokens is too long to write in Python. The splits are streams of their own, and of 16^64 and more texts no two
are alike, so nothing of one is ever met in the other.
"""

from typing import NamedTuple

import torch

from dsmini.tasks.draw import Draw, check_split

FILLERS, KEYS, VALUES = 32, 64, 16
# where each kind of token begins; record `RECORD + key * VALUES + value`
RECORD = FILLERS
QUESTION = RECORD + KEYS * VALUES
ANSWER = QUESTION + KEYS
VOCAB_SIZE = ANSWER + VALUES
LENGTHS = (16, 8192)  # shortest and longest text


class Needles(NamedTuple):
    """A batch, (B, T) each: what is read, the next token at every place (int64), and where that is an answer (bool)."""

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor

    @property
    def questions(self):
        """The places of the questions, the same in every row: (Q,) int64."""
        return self.mask[0].nonzero()[:, 0]


def draw_needles(batch_size, length, seed=0, step=0, split="train"):
    """`batch_size` texts of `length` tokens (and the last answer), a `Needles`; `step` is the number of the batch.

    Up to 64 records (a quarter of a short text's tokens), every key once, at places that are all alike; up to 32
    questions for different ones of them. Raises ValueError for a length out of range and another split.
    """
    check_split(split)
    if not LENGTHS[0] <= length <= LENGTHS[1]:
        raise ValueError(f"length = {length!r}: expected {LENGTHS[0]} to {LENGTHS[1]} tokens")
    records, questions = min(KEYS, length // 4), min(KEYS // 2, length // 4)
    haystack = length + 1 - 2 * questions
    generator = torch.Generator().manual_seed(Draw("needle", split, seed, step).below(2**53))
    keys = _orders(batch_size, KEYS, generator)[:, :records]  # (B, R)
    values = torch.randint(VALUES, (batch_size, records), generator=generator)
    places = _orders(batch_size, haystack, generator)[:, :records]
    text = torch.randint(FILLERS, (batch_size, length + 1), generator=generator)
    text.scatter_(1, places, RECORD + keys * VALUES + values)
    text[:, haystack::2] = QUESTION + keys[:, :questions]  # which records come first is chance already
    text[:, haystack + 1 :: 2] = ANSWER + values[:, :questions]
    asked = torch.zeros(length, dtype=torch.bool)
    asked[haystack::2] = True
    return Needles(text[:, :-1], text[:, 1:], asked.expand(batch_size, -1))


def needles(batch_size, length, seed=0, split="train"):
    """Training data without end: a function, step -> `Needles`."""
    return lambda step: draw_needles(batch_size, length, seed, step, split)


def show(tokens):
    """Tokens as text: `.` for filler, `k7=3` a record, `?k7` a question, `3` an answer."""
    return " ".join(map(_word, tokens.tolist()))


def _word(token):
    if token < RECORD:
        return "."
    if token < QUESTION:
        return "k{}={}".format(*divmod(token - RECORD, VALUES))
    return f"?k{token - QUESTION}" if token < ANSWER else str(token - ANSWER)


def _orders(batch_size, n, generator):
    """Random orders of 0 to n - 1: (B, n) int64. Drawn in float64, so that no two draws are equal."""
    return torch.rand(batch_size, n, generator=generator, dtype=torch.float64).argsort(-1)
