"""Bytes and symbols: in, out, and back."""

import hashlib
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsmini.language.tokenizer import (
    ASSISTANT,
    BOS,
    END_THINK,
    EOS,
    PAD,
    THINK,
    TOKENIZER,
    TOOLS,
    USER,
    ByteTokenizer,
    SymbolTokenizer,
)

tokenizer = ByteTokenizer()


@given(st.text())
def test_decode_inverts_encode(text):
    tokens = tokenizer.encode(text)
    assert tokens.dtype == torch.int64 and tokens.dim() == 1
    assert tokenizer.decode(tokens) == tokenizer.decode(tokens.tolist()) == text


def test_tokens_are_the_bytes_of_utf8():
    assert tokenizer.encode("aé").tolist() == [97, 195, 169]
    assert tokenizer.vocab_size == 256


def test_bytes_that_are_no_text_are_replaced():
    assert tokenizer.decode(torch.tensor([104, 105, 255, 33])) == "hi\N{REPLACEMENT CHARACTER}!"


@pytest.mark.parametrize(("tokens", "bad"), [([65, 256], 256), ([-1], -1), (torch.tensor([3, 999, 1000]), 999)])
def test_token_that_is_no_byte_is_named(tokens, bad):
    with pytest.raises(ValueError, match=f"tokens: found {bad}, expected 0 <= token < 256"):
        tokenizer.decode(tokens)


symbols = st.lists(st.integers(0, SymbolTokenizer.vocab_size - 1))


@given(symbols)
def test_every_sequence_of_symbols_comes_back_exactly(ids):
    tokens = TOKENIZER.encode(TOKENIZER.decode(ids))
    assert tokens.dtype == torch.int64 and tokens.dim() == 1
    assert tokens.tolist() == ids
    assert TOKENIZER.decode(tokens) == TOKENIZER.decode(ids)


def test_text_of_the_tasks_comes_back_exactly():
    text = f"{BOS}{USER}cups 2 4 a 1-2 b 3-5{ASSISTANT}{THINK}a 1-2 1 4 b 3-5 1 4{END_THINK}1 4{EOS}"
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert len(TOKENIZER.encode(text)) == 23


def test_white_space_only_sets_words_apart():
    assert TOKENIZER.encode(f"  3 *\n\t7 {EOS} ").tolist() == TOKENIZER.encode(f"3 * 7{EOS}").tolist()
    assert TOKENIZER.encode("12").tolist() != TOKENIZER.encode("1 2").tolist()


def test_ids_never_change():
    """Later chapters and every shipped model rely on them."""
    known = {BOS: 0, EOS: 1, PAD: 2, USER: 3, ASSISTANT: 4, THINK: 5, END_THINK: 6, TOOLS[0]: 7, TOOLS[-1]: 13,
             "0": 14, "63": 77, "+": 78, "=": 82, "a": 83, "l": 94, "1-2": 95, "4-5": 104, "cups": 105, "reach": 106,
             "with": 107, "wait": 108, "yes": 109, "no": 110, "one": 111, "five": 115,
             "<｜place▁holder▁no▁0｜>": 116}  # fmt: skip
    assert {symbol: TOKENIZER.id(symbol) for symbol in known} == known
    everything = "\n".join(TOKENIZER.decode([i]) for i in range(TOKENIZER.vocab_size))
    assert hashlib.sha256(everything.encode()).hexdigest()[:16] == "d2e6fabe3803de41"


def test_special_tokens_are_spelled_as_deepseek_does():
    """With the full-width bar U+FF5C and the low block U+2581, which look like others."""
    assert BOS == "<\uff5cbegin\u2581of\u2581sentence\uff5c>" and EOS == "<\uff5cend\u2581of\u2581sentence\uff5c>"
    assert (USER, ASSISTANT) == ("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>")
    assert TOOLS[2] == "<\uff5ctool\u2581call\u2581begin\uff5c>" and len(set(TOOLS)) == 7


@pytest.mark.parametrize(
    ("text", "symbol", "place"),
    [("3 * seven", "seven", 4), ("64", "64", 0), (f"1{EOS}x2{THINK}", "x2", 1 + len(EOS)),
     ("1 <|User|>", "<|User|>", 2)],
)  # fmt: skip
def test_unknown_symbol_is_named_with_its_place(text, symbol, place):
    with pytest.raises(ValueError, match=re.escape(f"text: unknown symbol {symbol!r} at character {place}")):
        TOKENIZER.encode(text)


@pytest.mark.parametrize(("tokens", "bad"), [([5, 128], 128), (torch.tensor([-1]), -1)])
def test_token_that_is_no_symbol_is_named(tokens, bad):
    with pytest.raises(ValueError, match=f"tokens: found {bad}, expected 0 <= token < 128"):
        TOKENIZER.decode(tokens)


def test_new_words_take_spare_ids_and_change_nothing_else():
    larger = SymbolTokenizer(("search", "open"))
    assert (larger.id("search"), larger.id("open"), larger.vocab_size) == (116, 117, 128)
    assert larger.decode([107, 116, 117, 118]) == "with search open<｜place▁holder▁no▁2｜>"
    assert larger.encode("with search open").tolist() == [107, 116, 117]
    assert all(larger.decode([i]) == TOKENIZER.decode([i]) for i in range(116))


@pytest.mark.parametrize("words", [("cups",), ("two words",), ("",), ("new", "new"), ("<x>",)])
def test_words_that_cannot_be_added_are_named(words):
    with pytest.raises(ValueError, match=re.escape(f"words: found {words[-1]!r}")):
        SymbolTokenizer(words)


def test_more_words_than_spare_ids_are_refused():
    with pytest.raises(ValueError, match="13 of them, expected at most the 12 spare ids"):
        SymbolTokenizer([f"word{i}" for i in range(13)])


def test_unknown_symbol_has_no_id():
    with pytest.raises(ValueError, match="symbol = 'cup': not in the vocabulary"):
        TOKENIZER.id("cup")
