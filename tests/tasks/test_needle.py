"""Needles in a haystack: what a text holds, that it repeats, and that only the haystack knows the answers."""

import pytest
import torch

from dsmini.tasks.needle import (
    ANSWER,
    FILLERS,
    KEYS,
    LENGTHS,
    QUESTION,
    RECORD,
    VALUES,
    VOCAB_SIZE,
    draw_needles,
    needles,
    show,
)

SIZES = {16: (4, 4), 32: (8, 8), 128: (32, 32), 512: (64, 32), 1024: (64, 32)}  # length: records, questions


def test_tokens_of_a_kind_lie_side_by_side_and_all_are_used():
    assert (RECORD, QUESTION, ANSWER) == (32, 32 + 64 * 16, 32 + 64 * 16 + 64) and VOCAB_SIZE == ANSWER + 16
    batch = draw_needles(200, 512)
    assert torch.equal(torch.cat((batch.inputs, batch.targets), 1).unique(), torch.arange(VOCAB_SIZE))


@pytest.mark.parametrize("length", SIZES)
def test_text_is_a_haystack_and_then_questions_with_their_answers(length):
    inputs, targets, mask = draw_needles(3, length)
    records, questions = SIZES[length]
    assert inputs.shape == targets.shape == mask.shape == (3, length)
    assert torch.equal(inputs[:, 1:], targets[:, :-1]), "the targets are the next tokens"
    haystack = length + 1 - 2 * questions
    for row, answers in zip(inputs, targets, strict=True):
        is_record = (row >= RECORD) & (row < QUESTION)
        assert is_record[:haystack].sum() == records == is_record.sum()
        assert (row[:haystack][~is_record[:haystack]] < FILLERS).all()
        values = dict(divmod(token - RECORD, VALUES) for token in row[is_record].tolist())
        assert len(values) == records, "every key once"
        asked = (row[haystack::2] - QUESTION).tolist()
        assert len(set(asked)) == questions and (answers[haystack::2] - ANSWER).tolist() == [values[k] for k in asked]


def test_mask_keeps_the_answers_and_nothing_else():
    batch = draw_needles(3, 128)
    assert torch.equal(batch.mask, batch.targets >= ANSWER)
    assert torch.equal(batch.questions, torch.arange(128 + 1 - 64, 128, 2))
    assert (batch.inputs[:, batch.questions] >= QUESTION).all() and (batch.inputs[:, batch.questions] < ANSWER).all()


def test_a_batch_follows_from_split_seed_and_step():
    def texts(*where):
        return draw_needles(4, 64, *where).inputs

    assert torch.equal(texts(3, 5), texts(3, 5))
    assert torch.equal(needles(4, 64, seed=3)(5).inputs, texts(3, 5)) and torch.equal(texts(), texts(0, 0, "train"))
    others = [texts(*where) for where in ((3, 5), (3, 6), (5, 3), (3, 5, "test"))]
    rows = torch.cat(others)
    assert len(rows.unique(dim=0)) == len(rows)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    draw_needles(2, 64)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_place_no_key_and_no_value_is_likelier_than_another():
    """16,000 records: each count within five standard deviations of its mean."""
    inputs, targets, _ = draw_needles(500, 128)
    haystack = inputs[:, :65]
    is_record = haystack >= RECORD
    records = haystack[is_record] - RECORD
    counts = (is_record.sum(0), (records // VALUES).bincount(minlength=KEYS), (records % VALUES).bincount())
    asked = inputs[:, 65::2] - QUESTION
    for count in (*counts, asked.flatten().bincount(minlength=KEYS), asked[:, 0].bincount(minlength=KEYS)):
        mean = count.double().mean()
        assert ((count - mean).abs() <= 5 * mean.sqrt()).all()


def test_answers_before_a_question_say_nothing_about_its_own():
    """Who answers with the last answer, or always alike, is at chance: one in 16."""
    batch = draw_needles(300, 128)
    answers = batch.targets[:, batch.questions]  # (B, Q)
    for guess in (answers[:, :1].expand(-1, 31), answers[:, :-1], torch.full((300, 31), ANSWER)):
        assert abs((guess == answers[:, 1:]).double().mean() - 1 / 16) < 0.02


def test_text_can_be_read():
    tokens = torch.tensor([0, RECORD - 1, RECORD, QUESTION - 1, QUESTION + 7, ANSWER + 9])
    assert show(tokens) == ". . k0=0 k63=15 ?k7 9"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 15}, "length = 15: expected 16 to 8192 tokens"),
        ({"length": 8193}, "length = 8193: expected"),
        ({"length": 32, "split": "dev"}, "split = 'dev': expected 'train' or 'test'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_needles(2, **arguments)


@pytest.mark.parametrize("length", LENGTHS)
def test_shortest_and_longest_text_can_be_drawn(length):
    assert draw_needles(1, length).inputs.shape == (1, length)
