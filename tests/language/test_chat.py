"""How R1-Zero and R1 are asked, and how R1-Zero's answers are read."""

import re

import pytest

from dsmini.language.chat import parse_r1_zero, r1_prompt, r1_zero_prompt

BAR, LOW = "\uff5c", "\u2581"
BOS, EOS = f"<{BAR}begin{LOW}of{LOW}sentence{BAR}>", f"<{BAR}end{LOW}of{LOW}sentence{BAR}>"
USER, ASSISTANT = f"<{BAR}User{BAR}>", f"<{BAR}Assistant{BAR}>"


def turn(role, content):
    return {"role": role, "content": content}


def test_r1_zero_is_asked_in_plain_words():
    prompt = r1_zero_prompt("What is 2 + 3?")
    assert prompt.endswith("User: What is 2 + 3? Assistant:")
    assert all(tag in prompt for tag in ("<think>", "</think>", "<answer>", "</answer>"))
    assert BAR not in prompt  # a base model knows no roles


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>2 + 3 = 5</think><answer>5</answer>", ("2 + 3 = 5", "5")),
        (" <think>\na\nb\n</think>\n<answer> 5 </answer>\n", ("a\nb", "5")),
        ("<think></think><answer></answer>", ("", "")),
        ("<answer>5</answer>", None),
        ("<think>5</think>", None),
        ("<think>a</think>5<answer>5</answer>", None),
        ("<think>a</think><answer>5</answer> so 6", None),
        ("<think>a<think>b</think><answer>5</answer>", None),
        ("<think>a</think><answer>4</answer><answer>5</answer>", None),
        ("<answer>5</answer><think>a</think>", None),
        ("<think>a</think><answer>5", None),
    ],
)
def test_r1_zero_answers_are_read_strictly(text, expected):
    assert parse_r1_zero(text) == expected


def test_r1_first_turn():
    assert r1_prompt([turn("user", "hi")]) == f"{BOS}{USER}hi{ASSISTANT}<think>\n"
    assert r1_prompt([turn("system", "be brief"), turn("user", "hi")]) == f"{BOS}be brief{USER}hi{ASSISTANT}<think>\n"


def test_r1_forgets_earlier_thoughts():
    messages = [turn("user", "a"), turn("assistant", "<think>\nhm\n</think>\n\nb"), turn("user", "c")]
    assert r1_prompt(messages) == f"{BOS}{USER}a{ASSISTANT}\n\nb{EOS}{USER}c{ASSISTANT}<think>\n"
    messages[1] = turn("assistant", "b")
    assert r1_prompt(messages) == f"{BOS}{USER}a{ASSISTANT}b{EOS}{USER}c{ASSISTANT}<think>\n"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages: there are none"),
        ([turn("assistant", "a")], "messages[0]: role 'assistant' with content 'a', expected text from system or us"),
        ([turn("user", "a"), turn("user", "b")], "messages[1]: role 'user' with content 'b', expected text from ass"),
        ([turn("user", "a"), turn("system", "b")], "messages[1]: role 'system'"),
        ([turn("user", None)], "messages[0]: role 'user' with content None"),
        ([turn("user", "a"), turn("assistant", "b")], "messages[1]: from 'assistant', expected the last one from the"),
        ([turn("system", "a")], "messages[0]: from 'system', expected the last one from the user"),
        ([{"content": "a"}], "messages[0]: role None"),
    ],
)
def test_conversations_that_are_none(messages, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        r1_prompt(messages)
