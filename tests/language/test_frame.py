"""The frame around a problem: what is read, what is said, and what is no answer."""

import pytest

from dsmini.language.frame import Response, answer_text, document_text, parse_response, prompt_text, response_text
from dsmini.language.tokenizer import END_THINK, EOS, THINK, TOKENIZER


def test_prompt_is_r1s_with_an_open_thought():
    text = "<｜begin▁of▁sentence｜><｜User｜>reach 9 with 1 2<｜Assistant｜><think>"
    assert prompt_text("reach 9 with 1 2") == text
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_prompt_without_thinking_ends_where_there_is_nothing_left_to_open():
    text = "<｜begin▁of▁sentence｜><｜User｜>reach 9 with 1 2<｜Assistant｜></think>"
    assert prompt_text("reach 9 with 1 2", thinking=False) == text
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert prompt_text("1 + 2", thinking=True) == prompt_text("1 + 2") != prompt_text("1 + 2", thinking=False)


def test_what_is_said_is_the_same_text_in_both_modes_but_for_where_the_thought_is_closed():
    asked, thinking, direct = "cups 2 4 a 1-2", response_text("", "1 4"), answer_text("1 4")
    assert prompt_text(asked) + thinking == (prompt_text(asked, thinking=False) + direct).replace(
        END_THINK, THINK + END_THINK
    )
    assert parse_response(direct) is None and parse_response(END_THINK + direct) == Response("", "1 4")


@pytest.mark.parametrize("thought", ["a 1-2 1 4", ""])
def test_what_a_document_says_parses_back(thought):
    text = document_text("cups 2 4 a 1-2", thought, "1 4")
    assert text.startswith(prompt_text("cups 2 4 a 1-2"))
    assert parse_response(text.removeprefix(prompt_text("cups 2 4 a 1-2"))) == Response(thought, "1 4")


@pytest.mark.parametrize(
    "text",
    [f"a 1-2 1 4{EOS}", "a 1-2 1 4</think>1 4", "", f"</think>1 4</think>1 4{EOS}", f"{THINK}</think>1 4{EOS}",
     "a</think>1<｜User｜>" + EOS],
)  # fmt: skip
def test_what_does_not_close_or_end_is_no_response(text):
    assert parse_response(text) is None


def test_text_behind_the_end_is_not_read():
    assert parse_response(f"</think>1 4{EOS}<｜User｜>cups") == Response("", "1 4")
