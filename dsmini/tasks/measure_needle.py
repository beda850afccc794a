"""What a model finds in a haystack, and what its sparse attention looks at where it is asked.

The decision to know: recall is the share of attention mass, of all tokens that a query sees, that falls on the selected
ones; it is read at the questions. Over all queries it says little: most of them stand in filler, where any choice is as
good as another.
"""

import torch

from dsmini.model.dsa import watch_selection
from dsmini.tasks.needle import ANSWER, QUESTION, RECORD, VALUES, draw_needles


@torch.no_grad()
def find_needles(model, length=512, texts=64, seed=0, batch_size=8):
    """The share of right answers to the questions of `texts` held-out texts: the likeliest token of all is the answer.

    The texts follow from length, seed and batch_size, so every model is asked the same.
    """
    right = total = 0
    for batch in _held_out(length, texts, seed, batch_size):
        hidden = model.hidden_states(batch.inputs)[:, batch.questions]  # (B, Q, D)
        hits = model.lm_head(hidden).argmax(-1) == batch.targets[:, batch.questions]
        right, total = right + int(hits.sum()), total + hits.numel()
    return right / total


@torch.no_grad()
def recall_of_attention(model, length=512, texts=16, seed=0, batch_size=8):
    """What the questions' selected tokens hold of their attention, layer by layer: a list of dicts.

    kept: the share that the selected tokens hold, mean over all questions. best: that of the k tokens with the most
    attention, for the same k. needle: how often the record that is asked for is among the selected. (Who misses it may
    be right all the same: to find none of a key's other fifteen records is to know the sixteenth.)
    Attention is what the layer would pay if it looked at everything it sees, all heads together.
    """
    totals, batches = {}, 0
    for batch in _held_out(length, texts, seed, batch_size):
        with watch_selection(model, batch.questions) as seen:
            model.hidden_states(batch.inputs)
        answers = record_places(batch)  # (B, Q)
        for name, layer in seen.items():
            k = int(layer.selected.sum(-1).max())
            figures = (
                (layer.attention * layer.selected).sum(-1),
                layer.attention.topk(k, dim=-1).values.sum(-1),
                layer.selected.gather(-1, answers[..., None])[..., 0],
            )
            means = torch.stack([figure.double().mean() for figure in figures])
            totals[name] = totals.get(name, 0) + means
        batches += 1
    names = ("kept", "best", "needle")
    return [dict(zip(names, (means / batches).tolist(), strict=True)) for means in totals.values()]


def record_places(batch):
    """Where the record stands that each question asks for: (B, Q) int64. batch: a `Needles`."""
    keys = batch.inputs[:, batch.questions] - QUESTION
    values = batch.targets[:, batch.questions] - ANSWER
    wanted = RECORD + keys * VALUES + values  # (B, Q)
    return (batch.inputs[:, None] == wanted[..., None]).int().argmax(-1)


def _held_out(length, texts, seed, batch_size):
    if texts < 1 or texts % batch_size:
        raise ValueError(f"texts = {texts!r}: expected a multiple of batch_size = {batch_size}")
    return [draw_needles(batch_size, length, seed, step, "test") for step in range(texts // batch_size)]
