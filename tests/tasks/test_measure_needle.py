"""Measuring a haystack: right answers are counted, and recall is the attention that the selected tokens hold."""

import pytest
import torch
from tiny import CONFIGS, make_model
from torch import nn

from dsmini.model.dsa import watch_selection
from dsmini.model.selectors import oracle, selecting
from dsmini.tasks.measure_needle import find_needles, recall_of_attention, record_places
from dsmini.tasks.needle import ANSWER, QUESTION, RECORD, VALUES, VOCAB_SIZE, draw_needles


class Reader(nn.Module):
    """Reads the haystack, and is right about the keys below `knows`."""

    def __init__(self, knows):
        super().__init__()
        self.knows, self.lm_head = knows, nn.Identity()

    def hidden_states(self, inputs):
        logits = torch.zeros(*inputs.shape, VOCAB_SIZE)
        for row, tokens in enumerate(inputs.tolist()):
            values = dict(divmod(t - RECORD, VALUES) for t in tokens if RECORD <= t < QUESTION)
            for place, token in enumerate(tokens):
                if QUESTION <= token < ANSWER:
                    key = token - QUESTION
                    answer = values[key] if key < self.knows else (values[key] + 1) % VALUES
                    logits[row, place, ANSWER + answer] = 1
        return logits


def test_right_answers_are_counted():
    assert find_needles(Reader(64), 64, 16) == 1.0 and find_needles(Reader(0), 64, 16) == 0.0
    batches = [draw_needles(8, 64, 0, step, "test") for step in range(2)]
    asked = torch.cat([batch.inputs[:, batch.questions] - QUESTION for batch in batches])
    assert find_needles(Reader(20), 64, 16) == pytest.approx((asked < 20).double().mean().item(), abs=1e-12)


def test_places_of_the_records_are_those_that_are_asked_for():
    batch = draw_needles(5, 64)
    found = batch.inputs.gather(1, record_places(batch)) - RECORD
    assert torch.equal(found // VALUES, batch.inputs[:, batch.questions] - QUESTION)
    assert torch.equal(found % VALUES, batch.targets[:, batch.questions] - ANSWER)


@pytest.fixture(scope="module")
def model():
    return make_model(CONFIGS["sparse mla"].replace(vocab_size=VOCAB_SIZE))  # topk 4


def test_recall_is_the_mass_that_the_selected_hold_at_the_questions(model):
    batch = draw_needles(8, 32, 3, 0, "test")
    with watch_selection(model) as seen:
        model(batch.inputs)
    found = recall_of_attention(model, 32, texts=8, seed=3)
    assert len(found) == 2
    for layer, figures in zip(seen.values(), found, strict=True):
        rows = batch.mask[..., None] & layer.selected
        kept = (layer.attention * rows).sum() / batch.mask.sum()
        best = layer.attention.sort(-1, descending=True).values[..., :4].sum(-1)[batch.mask].mean()
        needle = layer.selected[:, batch.questions].gather(-1, record_places(batch)[..., None]).double().mean()
        expected = {"kept": kept.item(), "best": best.item(), "needle": needle.item()}
        assert figures == pytest.approx(expected, abs=1e-12)
        assert 0 < figures["kept"] < figures["best"] < 1


def test_oracle_keeps_the_best(model):
    with selecting(model, oracle):
        for figures in recall_of_attention(model, 32, texts=16):
            assert figures["kept"] == pytest.approx(figures["best"], abs=1e-12)


def test_everything_is_kept_where_nothing_is_left_out(model):
    with selecting(model, topk=32):
        for figures in recall_of_attention(model, 32, texts=8):
            assert figures == pytest.approx({"kept": 1.0, "best": 1.0, "needle": 1.0}, abs=1e-12)


def test_measuring_needs_whole_batches(model):
    with pytest.raises(ValueError, match="texts = 12: expected a multiple of batch_size = 8"):
        find_needles(model, 32, texts=12)
