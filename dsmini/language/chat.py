"""The layouts in which DeepSeek's reasoning models are asked, as text: R1-Zero's, for a base model, and R1's.

R1-Zero: R1 report, table 1: a preamble in plain words, because a base model knows no roles; thought and answer each
stand in tags. R1: its tokenizer's chat template; roles are special tokens, and earlier thoughts are dropped. The
decision to know: the preamble is worded by us, with the table's content. `frame` is R1's layout for the book's tasks.
"""

import re

from dsmini.language.frame import Response
from dsmini.language.tokenizer import ASSISTANT, BOS, END_THINK, EOS, THINK, USER

_PREAMBLE = (
    "What follows is a dialogue of User and Assistant. To every question of User, Assistant first thinks, and then "
    "says what came of it. The thought stands between <think> and </think>, the answer between <answer> and </answer>: "
    "<think> the thought </think> <answer> the answer </answer>."
)
_R1_ZERO = re.compile(r"\s*<think>(?P<thought>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer)>")


def r1_zero_prompt(question):
    """What R1-Zero's base model reads: the preamble, the question, and the beginning of Assistant's turn."""
    return f"{_PREAMBLE} User: {question} Assistant:"


def parse_r1_zero(text):
    """Text said after `r1_zero_prompt` -> Response, or None.

    Exactly one thought in its tags, then exactly one answer in its own, and nothing else but white space: what the
    format reward asks for (R1 report, section 2.2).
    """
    match = _R1_ZERO.fullmatch(text)
    if match is None or len(_TAGS.findall(text)) != 4:
        return None
    return Response(match["thought"].strip(), match["answer"].strip())


def r1_prompt(messages):
    """R1's chat template: messages -> the text that R1 reads before it speaks; ends with the opened thought.

    messages: dicts with "role" ("system", only as the first; "user"; "assistant") and "content"; the user's is last.
    An earlier answer's thought, up to its closing tag, is dropped. The tag and the new line at the end are what R1's
    README tells users to enforce, lest the model skip its thought.
    Raises ValueError, naming the message, for other roles, an order that is none, and content that is not text.
    """
    if not messages:
        raise ValueError("messages: there are none, expected at least one from the user")
    parts = [BOS]
    expected = ("system", "user")
    for i, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in expected or not isinstance(content, str):
            found = f"role {role!r} with content {content!r}"
            raise ValueError(f"messages[{i}]: {found}, expected text from {' or '.join(expected)}")
        if role == "system":
            parts.append(content)
        elif role == "user":
            parts += [USER, content]
        else:
            parts += [ASSISTANT, content.rpartition(END_THINK)[2], EOS]
        expected = ("assistant",) if role == "user" else ("user",)
    if message["role"] != "user":
        raise ValueError(f"messages[{i}]: from {message['role']!r}, expected the last one from the user")
    return "".join([*parts, ASSISTANT, THINK, "\n"])
