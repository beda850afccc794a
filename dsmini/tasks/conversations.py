"""Conversations of several turns, and what their history does to the next answer.

DeepSeek-V3.1 reads an earlier answer as `</think>answer`: without its thought, but with the tag that closed it (model
card, "multi-turn"). The other rules in `HISTORIES` are mistakes that real front ends make. The decision to know: a
history is made of what the model itself said, right or wrong, so an error in one turn is there in the next.
"""

import dataclasses
from statistics import mean

import torch

from dsmini.inference.generate import generate
from dsmini.language.frame import Response, parse_response
from dsmini.language.tokenizer import ASSISTANT, BOS, END_THINK, EOS, THINK, TOKENIZER, USER
from dsmini.tasks.modes import is_right, is_thinking, leaks, turn_text


def _kept(thinking, thought, answer):
    return f"{THINK}{thought}{END_THINK}{answer}" if thinking else f"{END_THINK}{answer}"


# rule -> how an earlier answer stands in the text: from the mode, the thought and the answer
HISTORIES = {
    "V3.1": lambda thinking, thought, answer: f"{END_THINK}{answer}",
    "thoughts kept": _kept,
    "empty pair": lambda thinking, thought, answer: f"{THINK}{END_THINK}{answer}",
    "no tag": lambda thinking, thought, answer: answer,
}


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what was asked, what the model read and said, and whether that is right.

    asked: an `Asked`. prompt: the whole text before the model speaks. text: what it said, behind an opened thought.
    """

    asked: object
    prompt: str
    text: str

    @property
    def response(self):
        """Thought and answer; what never closes is a thought without an answer."""
        return parse_response(self.text) or Response(self.text.removesuffix(EOS).replace(END_THINK, " "), "")

    @property
    def right(self):
        response = parse_response(self.text)
        return response is not None and is_right(self.asked, response.answer)


def history_text(turns, rule="V3.1"):
    """Earlier turns as the text that stands before the next question, by a rule of `HISTORIES`."""
    if rule not in HISTORIES:
        raise ValueError(f"rule = {rule!r}: expected one of {', '.join(HISTORIES)}")
    told = [
        f"{USER}{turn.asked.prompt}{ASSISTANT}{HISTORIES[rule](turn.asked.thinking, *turn.response)}{EOS}"
        for turn in turns
    ]
    return BOS + "".join(told)


def converse(model, questions, rule="V3.1", temperature=1.0, max_new_tokens=200, seed=0):
    """Lead conversations turn by turn: a list of them, each a list of `Turn`.

    questions: for each conversation a list of `Asked`, all lists of one length. rule: of the history. Raises
    ValueError for another rule and for conversations of different lengths.
    """
    if len({len(asked) for asked in questions}) != 1:
        raise ValueError(f"questions: of {sorted({len(asked) for asked in questions})} turns, expected as many for all")
    generator, conversations = torch.Generator().manual_seed(seed), [[] for _ in questions]
    for turn in range(len(questions[0])):
        asked = [conversation[turn] for conversation in questions]
        prompts = [
            f"{history_text(turns, rule)}{USER}{problem.prompt}{ASSISTANT}{THINK if problem.thinking else END_THINK}"
            for turns, problem in zip(conversations, asked, strict=True)
        ]
        said = generate(model, [TOKENIZER.encode(prompt) for prompt in prompts], max_new_tokens, temperature,
                        generator=generator, stop=TOKENIZER.id(EOS)).tokens  # fmt: skip
        for turns, problem, prompt, tokens in zip(conversations, asked, prompts, said, strict=True):
            turns.append(Turn(problem, prompt, turn_text(problem, TOKENIZER.decode(tokens))))
    return conversations


def by_turn(conversations):
    """What each turn of many conversations costs and brings: a list of dicts of floats.

    read: mean tokens of the prompt; said: of the answer; accuracy; leaks: the share in the wrong mode.
    """
    rows = []
    for turns in zip(*conversations, strict=True):
        rows.append({
            "read": mean(len(TOKENIZER.encode(turn.prompt)) for turn in turns),
            "said": mean(len(TOKENIZER.encode(turn.text)) - (not is_thinking(turn.asked)) for turn in turns),
            "accuracy": mean(turn.right for turn in turns),
            "leaks": mean(leaks(turn.asked, turn.text) for turn in turns),
        })  # fmt: skip
    return rows
