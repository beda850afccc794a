"""Bytes in, bytes out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsmini.language.tokenizer import ByteTokenizer

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
