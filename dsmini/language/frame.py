"""The frame of a conversation with a reasoning model: what the user says, a thought between think tags, an answer.

DeepSeek-R1's layout for one turn, in its own special tokens. The one decision to know: a prompt ends behind the opening
tag, as R1's users are told to enforce it (its README), so a model says whether it thinks at all: it may close at once.
DeepSeek-V3.1 has a second mode, whose prompt ends behind a closing tag: there is nothing left to open.
"""

from typing import NamedTuple

from dsmini.language.special import ASSISTANT, BOS, END_THINK, EOS, SPECIAL, THINK, USER


class Response(NamedTuple):
    """What a model said: the thought between the tags, and the answer behind them. Either may be empty text."""

    thought: str
    answer: str


def prompt_text(question, thinking=True):
    """What the model reads before it speaks: `<bos><User>question<Assistant><think>`.

    thinking=False is V3.1's other mode, and ends in `</think>` in place of `<think>` (its model card).
    """
    return f"{BOS}{USER}{question}{ASSISTANT}{THINK if thinking else END_THINK}"


def document_text(question, thought, answer):
    """A whole turn, as a training text: the prompt, then `thought</think>answer<eos>`."""
    return f"{prompt_text(question)}{response_text(thought, answer)}"


def response_text(thought, answer):
    """What a model says after `prompt_text`: `thought</think>answer<eos>`."""
    return f"{thought}{END_THINK}{answer}{EOS}"


def answer_text(answer):
    """What a model says after a prompt without thinking: `answer<eos>`."""
    return f"{answer}{EOS}"


def parse_response(text):
    """Text said after `prompt_text` -> Response, or None if it is not of the form `thought</think>answer<eos>`.

    A thought that never closes, an answer that never ends (cut off, say) and a special token anywhere else are no
    response. Text behind the end of the sentence is not read.
    """
    said, end, _ = text.partition(EOS)
    thought, close, answer = said.partition(END_THINK)
    if not end or not close or any(token in thought or token in answer for token in SPECIAL):
        return None
    return Response(thought.strip(), answer.strip())
