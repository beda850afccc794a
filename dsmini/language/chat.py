"""Chat templates: a conversation as the text that a model reads, one function for six families.

`render` checks a conversation (role and content dicts, as in the ecosystem) and gives it to a family's template. The
templates are in `templates_deepseek` and `templates_others`. R1-Zero comes before all of them: a base model knows no
roles, so it is asked in plain words (R1 report, table 1). The decision to know: a family refuses a switch that it does
not have, where a Jinja template would ignore it. R1-Zero's preamble is worded by us, with the table's content.
"""

import json
import re
from collections.abc import Callable
from datetime import date as calendar
from typing import NamedTuple

from dsmini.language import templates_deepseek, templates_others
from dsmini.language.frame import Response
from dsmini.language.special import ASSISTANT, BOS, END_THINK, EOS, THINK, TOOLS, USER

_PREAMBLE = (
    "What follows is a dialogue of User and Assistant. To every question of User, Assistant first thinks, and then "
    "says what came of it. The thought stands between <think> and </think>, the answer between <answer> and </answer>: "
    "<think> the thought </think> <answer> the answer </answer>."
)
_R1_ZERO = re.compile(r"\s*<think>(?P<thought>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer)>")
_KEYS = {"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name"}
EFFORTS = ("low", "medium", "high")


class Family(NamedTuple):
    """What a family's template can do. modes: the values of `thinking` that it knows, its own default first."""

    template: Callable
    modes: tuple
    special: tuple
    tools: bool = False
    effort: bool = False
    many_systems: bool = False


class Call(NamedTuple):
    """A tool call: the name, and the arguments as a dict and as JSON text."""

    name: str
    arguments: dict
    text: str


class Turn(NamedTuple):
    """A checked message. thought is None where the message has no `reasoning_content`."""

    role: str
    content: str
    thought: str | None = None
    calls: tuple = ()


class Options(NamedTuple):
    """How a conversation is rendered: the checked keywords of `render`."""

    thinking: bool
    tools: list
    effort: str
    generate: bool
    date: str


_DEEPSEEK = (BOS, EOS, USER, ASSISTANT, THINK, END_THINK)
_DSML = tuple(f"<{end}｜DSML｜{name}" for name in ("function_calls", "invoke", "parameter") for end in ("", "/"))
_QWEN = ("<|im_start|>", "<|im_end|>", THINK, END_THINK, "<tool_call>", "</tool_call>",
         "<tool_response>", "</tool_response>")  # fmt: skip
_HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>")
FAMILIES = {
    "deepseek-v3": Family(templates_deepseek.v3, (False,), _DEEPSEEK[:4], many_systems=True),
    "deepseek-r1": Family(templates_deepseek.r1, (True,), _DEEPSEEK, many_systems=True),
    "deepseek-v3.1": Family(templates_deepseek.v31, (False, True), (*_DEEPSEEK, *TOOLS), True, many_systems=True),
    "deepseek-v3.2": Family(templates_deepseek.v32, (True, False), (*_DEEPSEEK, *_DSML), True),
    "qwen3": Family(templates_others.qwen3, (True, False), _QWEN, True),
    "gpt-oss": Family(templates_others.gpt_oss, (True,), _HARMONY, True, effort=True),
}


def render(messages, family, thinking=None, tools=None, effort=None, add_generation_prompt=True, date=None):
    """A conversation, as the text that a model of this family reads.

    messages: dicts with "role" ("system", "user", "assistant", "tool") and "content"; an assistant's may have
    "reasoning_content" (its thought) and "tool_calls" (each {"function": {"name", "arguments"}}, the arguments a dict
    or its JSON text). V3, R1 and V3.1 read no "reasoning_content", as their templates do not.
    family: a name in FAMILIES. thinking: None for the family's own default. tools: functions in OpenAI's schema.
    effort: "low", "medium" (None) or "high", gpt-oss only. date: YYYY-MM-DD, gpt-oss only; None is today, as there.
    add_generation_prompt: True to let the model speak next; the last message is then the user's or a tool's. False
    for a text that ends with what was said: V3.2's encoder, which has no such switch, then takes an assistant's only.

    Raises ValueError, naming the message, for a conversation that is none, and for what the family does not have.
    """
    if family not in FAMILIES:
        raise ValueError(f"family = {family!r}, expected one of {', '.join(FAMILIES)}")
    has = FAMILIES[family]
    thinking = has.modes[0] if thinking is None else thinking
    if thinking not in has.modes:
        raise ValueError(f"thinking = {thinking!r}: {family} knows {' and '.join(map(str, has.modes))} only")
    if not has.effort and (effort, date) != (None, None):
        raise ValueError(f"effort = {effort!r}, date = {date!r}: {family} has neither, expected None")
    if effort not in (None, *EFFORTS):
        raise ValueError(f"effort = {effort!r}, expected one of {', '.join(EFFORTS)}")
    if tools and not has.tools:
        raise ValueError(f"tools: {family}'s template describes none, expected None")
    turns = _turns(messages, has)
    _check_end(turns, add_generation_prompt)
    date = date or calendar.today().isoformat()
    options = Options(bool(thinking), _tools(tools or []), effort or "medium", add_generation_prompt, date)
    return has.template(turns, options)


def split_special(text, family):
    """Rendered text -> its pieces in order, each (piece, whether it is one of the family's special strings)."""
    special = FAMILIES[family].special
    either = "|".join(re.escape(piece) for piece in sorted(special, key=len, reverse=True))
    return [(piece, piece in special) for piece in re.split(f"({either})", text) if piece]


def r1_prompt(messages):
    """R1's chat template: messages -> the text that R1 reads before it speaks; ends with the opened thought.

    An earlier answer's thought, up to its closing tag, is dropped. The tag and the new line at the end are what R1's
    README tells users to enforce, lest the model skip its thought. Raises ValueError as `render` does.
    """
    return render(messages, "deepseek-r1")


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


def _turns(messages, has):
    """Messages, checked one by one and in their order, as a list of Turn."""
    if not messages:
        raise ValueError("messages: there are none, expected at least one from the user")
    turns, expected, results = [], ("system", "user"), 0
    for i, message in enumerate(messages):
        turn = _turn(f"messages[{i}]", message, expected, has)
        turns.append(turn)
        results = len(turn.calls) if turn.role == "assistant" else results - 1
        if turn.role == "system":
            expected = ("system", "user") if has.many_systems else ("user",)
        elif turn.role == "user":
            expected = ("assistant",)
        elif results > 0:
            expected = ("tool",)
        else:
            expected = ("user",) if turn.role == "assistant" else ("assistant",)
    if turns[-1].role == "tool" and results:
        raise ValueError(f"messages[{i}]: {results} of the tool calls have no result, expected one for each")
    return turns


def _turn(name, message, expected, has):
    """One message as a Turn; name is how an error calls it."""
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if calls and role == "assistant" and content is None:
        content = ""
    if role not in expected or not isinstance(content, str):
        found = f"role {role!r} with content {message.get('content')!r}"
        raise ValueError(f"{name}: {found}, expected text from {' or '.join(expected)}")
    unknown = sorted(set(message) - _KEYS)
    if unknown:
        raise ValueError(f"{name}: unknown key {unknown[0]!r}, expected some of {', '.join(sorted(_KEYS))}")
    thought = message.get("reasoning_content")
    if thought is not None and (role != "assistant" or not isinstance(thought, str)):
        raise ValueError(f"{name}: reasoning_content = {thought!r}, expected text, in an assistant's message only")
    if calls and (role != "assistant" or not has.tools):
        raise ValueError(f"{name}: has tool_calls, expected them from an assistant of a family with tools only")
    return Turn(role, content, thought, tuple(_call(f"{name}: tool_calls[{j}]", c) for j, c in enumerate(calls or ())))


def _call(name, call):
    """One entry of tool_calls as a Call."""
    function = call.get("function") if isinstance(call, dict) else None
    tool, arguments = (function.get("name"), function.get("arguments")) if isinstance(function, dict) else (None, None)
    text = json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments
    try:
        parsed = json.loads(text)
    except (TypeError, ValueError):
        parsed = None
    if not isinstance(tool, str) or not isinstance(parsed, dict):
        raise ValueError(f"{name} = {call!r}, expected a function with a name, and a JSON object as its arguments")
    return Call(tool, parsed, text)


def _tools(tools):
    """Tools, each with a function that has a name and a description."""
    for i, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not all(isinstance(function.get(k), str) for k in ("name", "description")):
            raise ValueError(f"tools[{i}] = {tool!r}, expected a function with a name and a description")
    return tools


def _check_end(turns, generate):
    """The last message leaves room for the model, if it is to speak; and somebody has asked something."""
    last, i = turns[-1].role, len(turns) - 1
    if last == "system" or (generate and last == "assistant"):
        raise ValueError(f"messages[{i}]: from {last!r}, expected the last one from the user or a tool")
