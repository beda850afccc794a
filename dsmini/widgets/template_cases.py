"""What the template explorer shows: one small conversation in every setting, rendered, and who wrote which character.

The strings are those of `dsmini.language.chat.render`, never written here. The decision to know: each message is
rendered in ink of its own (`_ink`: every character moved to a private place of Unicode), so the text itself says who
wrote what, whatever a template cuts, moves or adds. What has no ink is the template's.
"""

import difflib
import functools
import itertools
from typing import NamedTuple

from dsmini.language import chat

# Every family's label, in the order of their releases.
LABELS = {"deepseek-v3": "DeepSeek-V3", "deepseek-r1": "DeepSeek-R1", "qwen3": "Qwen3", "gpt-oss": "gpt-oss",
          "deepseek-v3.1": "DeepSeek-V3.1", "deepseek-v3.2": "DeepSeek-V3.2"}  # fmt: skip
EFFORTS = ("low", "medium", "high")
ROLES = ("template", "system", "user", "thought", "answer", "definition", "call", "result")
MOST_TURNS = 3
DATE = "2025-08-05"  # gpt-oss writes the day into its prompt; this is the day of its release
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
    },
}
_SYSTEM = "Be brief."
_TURNS = (
    ("What is 17 + 25?", "17 + 20 = 37, and 5 more are 42.", "42."),
    ("And 9 more?", "42 + 9 = 51.", "51."),
    ("Is that prime?", "5 + 1 = 6, so 3 divides it: 51 = 3 x 17.", "No: 3 x 17."),
)
_CALL_THOUGHT, _RESULT, _RESULT_THOUGHT = "A sum: the tool can do that.", "42", "The tool says 42."
_INKS = ("system", "user", "thought", "answer", "name", "arguments", "result")
_FIRST_INK, _WIDTH = 0xF0000, 0x1000  # Unicode's private plane 15: places for the first 4096 characters, in each ink
_TAGGED = ("deepseek-r1", "deepseek-v3.1")  # their templates look for the thought in the content


class Setting(NamedTuple):
    """What the reader chooses: `render`'s arguments, the questions asked, and whether earlier thoughts stay."""

    family: str
    thinking: bool
    effort: str | None
    turns: int
    tools: bool
    keep_thoughts: bool
    add_generation_prompt: bool

    @property
    def key(self):
        """The setting within its family as text, a character for each choice, in the order in which they are made."""
        thinking, *flags = (str(int(flag)) for flag in (self.thinking, *self[4:]))
        return f"{thinking}{(self.effort or '-')[0]}{self.turns}{''.join(flags)}"


class Piece(NamedTuple):
    """A part of a rendered text. role: one of ROLES. special: it is one of the family's special strings."""

    text: str
    role: str
    special: bool


def settings():
    """All combinations of the choices, possible or not."""
    flags = (False, True)
    choices = (LABELS, flags, (None, *EFFORTS), range(1, MOST_TURNS + 1), flags, flags, flags)
    return [Setting(*values) for values in itertools.product(*choices)]


def is_possible(setting):
    """Whether a setting is one that the reader can reach: `render` takes it, and its switches change something.

    So a family with efforts names one (its default is one of them), and thoughts are kept only where something was
    thought before the last question.
    """
    if chat.FAMILIES[setting.family].effort and setting.effort is None:
        return False
    if setting.keep_thoughts and not (setting.thinking and setting.turns > 1):
        return False
    try:
        rendered(setting)
    except ValueError:
        return False
    return True


def first_mode(family):
    """Whether a family thinks if nobody says otherwise; None for a family that is not known."""
    return chat.FAMILIES[family].modes[0] if family in chat.FAMILIES else None


def rendered(setting, ink=lambda role, text: text):
    """The text of a setting. ink: (role, text) -> text, for all that is said. Errors are those of `render`."""
    messages, tools = conversation(setting, ink), [TOOL] if setting.tools else None
    date = DATE if setting.family == "gpt-oss" else None
    return chat.render(messages, setting.family, setting.thinking, tools, setting.effort,
                       setting.add_generation_prompt, date)  # fmt: skip


def conversation(setting, ink=lambda role, text: text):
    """The messages of a setting, as its family's template reads them. With tools, one of them helps with turn 1."""
    messages = [{"role": "system", "content": ink("system", _SYSTEM)}]
    for turn, (question, thought, answer) in enumerate(_TURNS[: setting.turns], 1):
        is_last = turn == setting.turns
        messages.append({"role": "user", "content": ink("user", question)})
        if turn == 1 and setting.tools:
            arguments = {ink("arguments", name): number for name, number in (("a", 17), ("b", 25))}
            call = {"function": {"name": ink("name", TOOL["function"]["name"]), "arguments": arguments}}
            said = _said(setting, is_last, _CALL_THOUGHT, "", ink)
            messages += [{**said, "tool_calls": [call]}, {"role": "tool", "content": ink("result", _RESULT)}]
            thought = _RESULT_THOUGHT
        if not (is_last and setting.add_generation_prompt):
            messages.append(_said(setting, is_last, thought, answer, ink))
    return messages


def pieces(setting):
    """The text of a setting as a list of Piece."""
    plain, inks = _read(rendered(setting, _ink))
    if setting.tools:
        _mark_definition(inks, plain, rendered(setting._replace(tools=False)))
    found, start = [], 0
    for text, special in chat.split_special(plain, setting.family):
        own = inks[start : start + len(text)]
        start += len(text)
        if special:
            found.append(Piece(text, own[0] or "template", True))
            continue
        if inner := {ink for ink in own if ink in ("name", "arguments", "result")}:
            # Quotes and brackets around a call or a result are part of it. A name behind the call says whose result.
            called = any(piece.role == "call" for piece in found) and inner == {"name"}
            own = ["result" if called or "result" in inner else "call"] * len(own)
        groups = itertools.groupby(zip(text, own, strict=True), key=lambda pair: pair[1] or "template")
        found += [Piece("".join(character for character, _ in group), role, False) for role, group in groups]
    return _whole_call(found)


@functools.cache
def table():
    """All possible settings, for the page: a dict that is made once, and whose parts share what they have in common.

    pieces: [text, index in ROLES, 1 if special]. runs: lists of indices in pieces; a run ends behind what a user or an
    assistant said. notes: sentences. cases: family -> key of the setting -> index in notes, then indices in runs.
    unseen: family -> its special strings that none of its texts has. date: what gpt-oss's texts say.
    """
    unseen = {family: dict.fromkeys(chat.FAMILIES[family].special) for family in LABELS}
    all_pieces, all_runs, notes, cases = {}, {}, {}, {family: {} for family in LABELS}
    for setting in filter(is_possible, settings()):
        run, case = [], [notes.setdefault(_note(setting), len(notes))]
        parts = pieces(setting)
        for i, piece in enumerate(parts, 1):
            unseen[setting.family].pop(piece.text, None)
            run.append(all_pieces.setdefault(piece, len(all_pieces)))
            if piece.role in ("user", "answer") or i == len(parts):
                case.append(all_runs.setdefault(tuple(run), len(all_runs)))
                run = []
        cases[setting.family][setting.key] = case
    return {
        "pieces": [[piece.text, ROLES.index(piece.role), int(piece.special)] for piece in all_pieces],
        "runs": [list(run) for run in all_runs],
        "notes": list(notes),
        "cases": cases,
        "date": DATE,
        "unseen": {family: list(special) for family, special in unseen.items() if special},
    }


def _said(setting, is_last, thought, answer, ink):
    """An assistant's message: without a thought, or with it where the template looks for it, or where it does not.

    The last is the error of `keep_thoughts`: a client that has glued thought and answer together, as one text.
    """
    answer = ink("answer", answer)
    if not setting.thinking:
        return {"role": "assistant", "content": answer}
    if setting.keep_thoughts and not is_last:
        return {"role": "assistant", "content": ink("thought", f"{thought} ") + answer}
    if setting.family in _TAGGED:
        return {"role": "assistant", "content": f"<think>{ink('thought', thought)}</think>{answer}"}
    return {"role": "assistant", "content": answer, "reasoning_content": ink("thought", thought)}


def _ink(role, text):
    """Text, each character moved to where this role's are. Quotes would lose the backslash that JSON gives them."""
    if any(ord(character) >= _WIDTH or character in '"\\' for character in text):
        raise ValueError(f"text = {text!r}: expected no quotes, no backslashes, and characters below U+{_WIDTH:04X}")
    first = _FIRST_INK + _INKS.index(role) * _WIDTH
    return "".join(chr(first + ord(character)) for character in text)


def _read(text):
    """Text with ink -> the plain text, and a list of each character's ink, None for none."""
    plain, inks = [], []
    for character in text:
        ink, place = divmod(ord(character) - _FIRST_INK, _WIDTH)
        inks.append(_INKS[ink] if ink >= 0 else None)
        plain.append(chr(place) if ink >= 0 else character)
    return "".join(plain), inks


def _mark_definition(inks, text, without):
    """Before the first question, what the text has more than the one without tools describes the tools."""
    heads = [one[: one.index(_TURNS[0][0])] for one in (without, text)]
    for step, _, _, start, end in difflib.SequenceMatcher(None, *heads, autojunk=False).get_opcodes():
        if step == "insert":
            inks[start:end] = ["definition"] * (end - start)


def _whole_call(found):
    """Pieces; what stands between two pieces of a call is the call's."""
    places = [i for i, piece in enumerate(found) if piece.role == "call"]
    inside = range(places[0], places[-1]) if places else ()
    return [piece._replace(role="call") if i in inside else piece for i, piece in enumerate(found)]


def _note(setting):
    """What there is to see in a setting, in a sentence or two."""
    if setting.keep_thoughts:
        more = len(rendered(setting)) - len(rendered(setting._replace(keep_thoughts=False)))
        told = "The error: a client has glued the thoughts to their answers, where no template finds them. That is"
        return f"{told} {more} characters more, to be read again at every turn."
    mode = "thinking" if setting.thinking else "direct"
    asked = "asked" if setting.add_generation_prompt else "told"
    if setting.tools:
        asked = f"tool {asked}" if setting.turns == 1 else f"later tool {asked}"
    elif setting.turns > 1 and (mode, asked) == ("thinking", "asked"):
        asked = "later asked"
    return _NOTES[f"{setting.family} {mode} {asked}"]


_V32_CARD = "The description, which an encoder in Python writes, is longer than the conversation."
_NOTES = {
    "deepseek-v3 direct asked": "A token for each role, and nothing for a thought: V3 has none.",
    "deepseek-v3 direct told": "Each answer ends with a token of its own. That is how the model learns to stop.",
    "deepseek-r1 thinking asked": "The prompt opens the thought, with tag and new line, lest R1 leave it out.",
    "deepseek-r1 thinking later asked": "Of an earlier answer only what stood behind </think> is left: no thought, no "
    "tag. The next thought is opened.",
    "deepseek-r1 thinking told": "No thought and no tag is left, not even of the last answer.",
    "qwen3 direct asked": "An empty pair of tags, where V3.1 has one closing tag.",
    "qwen3 direct told": "The last answer has an empty pair of tags. Earlier ones have none.",
    "qwen3 direct tool asked": "The result comes under the user's name: this text has no role for tools. An empty pair "
    "of tags closes the thought.",
    "qwen3 direct tool told": "The answer has an empty pair of tags; the call before it has none.",
    "qwen3 direct later tool asked": "Call and result stay. An empty pair of tags closes the next thought.",
    "qwen3 direct later tool told": "The last answer has an empty pair of tags. Earlier ones have none.",
    "qwen3 thinking asked": "No tag at the end: Qwen3 opens its thought itself.",
    "qwen3 thinking later asked": "Earlier answers keep neither thought nor tags. Qwen3 opens the next one itself.",
    "qwen3 thinking told": "The last answer has its thought between two tags. Earlier ones have neither.",
    "qwen3 thinking tool asked": "The result comes under the user's name, yet it is no new question: the thought "
    "before the call is still there.",
    "qwen3 thinking tool told": "Both thoughts are there, before the call and behind the result: no new question came.",
    "qwen3 thinking later tool asked": "The new question has removed both thoughts. The call and its result stay.",
    "qwen3 thinking later tool told": "The last answer has its thought. Of turn 1, call and result stay.",
    "gpt-oss thinking asked": "The effort is a word in the system message. No tag at the end: the model names its "
    "channel itself.",
    "gpt-oss thinking later asked": "Answers are in the channel final. The thoughts, in analysis, are gone.",
    "gpt-oss thinking told": "The last answer keeps its thought, in the channel analysis, and ends in <|return|>.",
    "gpt-oss thinking tool asked": "A channel for each purpose: analysis to think, commentary to call. The thought "
    "stays until there is an answer.",
    "gpt-oss thinking tool told": "An answer has come, so the thought before the call is gone. The answer's own stays.",
    "gpt-oss thinking later tool asked": "The thoughts are gone. Call and result stay, in the channel commentary.",
    "gpt-oss thinking later tool told": "Only the last answer has its thought. Of turn 1, call and result stay.",
    "deepseek-v3.1 direct asked": "A closing tag with no opening one: the thought is over before it has begun.",
    "deepseek-v3.1 direct told": "Every answer stands behind a bare </think>, as it does in the thinking mode.",
    "deepseek-v3.1 direct tool asked": "Nothing follows the tool's output, neither role nor tag: V3.1 just goes on.",
    "deepseek-v3.1 direct tool told": "The answer follows the tool's output without a role or a tag.",
    "deepseek-v3.1 direct later tool asked": "The template itself describes no tools: that text is from the model "
    "card. The call and its result stay.",
    "deepseek-v3.1 direct later tool told": "The answer from a tool has no tag. The others stand behind a bare "
    "</think>.",
    "deepseek-v3.1 thinking asked": "One tag says the mode. Without thinking it is </think>, and nothing else changes.",
    "deepseek-v3.1 thinking later asked": "The last tag alone says the mode. Earlier answers have lost their thoughts "
    "and keep a bare </think>.",
    "deepseek-v3.1 thinking told": "The last thought is gone as well: the template cuts every answer at </think>.",
    "deepseek-v3.2 direct asked": "As in V3.1: a closing tag with no opening one, here and in front of every answer.",
    "deepseek-v3.2 direct told": "Every answer stands behind a bare </think>, as in V3.1.",
    "deepseek-v3.2 direct tool asked": f"Behind the result stands the tag again: answer at once. {_V32_CARD}",
    "deepseek-v3.2 direct tool told": f"A bare </think> before the call, and one behind the result. {_V32_CARD}",
    "deepseek-v3.2 direct later tool asked": f"The call and its result stay. {_V32_CARD}",
    "deepseek-v3.2 direct later tool told": f"The call and its result stay. {_V32_CARD}",
    "deepseek-v3.2 thinking asked": "One tag says the mode, as in V3.1. Without thinking it is </think>.",
    "deepseek-v3.2 thinking later asked": "The new question has removed the earlier thoughts. A bare </think> is left.",
    "deepseek-v3.2 thinking told": "The last answer has its thought: no new question has come. Earlier ones keep a "
    "bare </think>.",
    "deepseek-v3.2 thinking tool asked": "A tool's result ends no thought: the one before the call is still there, and "
    "behind the result the next one is opened.",
    "deepseek-v3.2 thinking tool told": "Both thoughts are there, before the call and behind the result: no new "
    "question has come.",
    "deepseek-v3.2 thinking later tool asked": "The new question has removed both thoughts. The call and its result "
    "stay.",
    "deepseek-v3.2 thinking later tool told": "The last answer has its thought. Of turn 1, call and result stay.",
}  # fmt: skip
