"""The chat templates of DeepSeek's releases: V3, R1, V3.1 and V3.2's encoder.

Each function writes checked turns (`chat.render` makes them) as the release's own template does, byte for byte: V3's,
R1's and V3.1's in tokenizer_config.json, V3.1's card for the tools, V3.2's encoding/encoding_dsv32.py. The decision to
know: what is kept of a thought is the template's business, so every history rule stands here, in one expression each.
"""

import json

from dsmini.language.special import ASSISTANT, BOS, END_THINK, EOS, THINK, TOOLS, USER

CALLS, END_CALLS, CALL, END_CALL, SEPARATOR, OUTPUT, END_OUTPUT = TOOLS
_V31_FORMAT = (
    "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    f"{CALLS}{CALL}tool_call_name{SEPARATOR}tool_call_arguments{END_CALL}{{additional_tool_calls}}{END_CALLS}\n\n"
    "Where:\n- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces"
)
_DSML = "｜DSML｜"
_V32_FORMAT = f"""## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<{_DSML}function_calls>" block like the following as part of your reply \
to the user:
<{_DSML}function_calls>
<{_DSML}invoke name="$FUNCTION_NAME">
<{_DSML}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{_DSML}parameter>
...
</{_DSML}invoke>
<{_DSML}invoke name="$FUNCTION_NAME2">
...
</{_DSML}invoke>
</{_DSML}function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should \
use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types \
(numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. \
Here is an example:

<{_DSML}function_calls>
...
</{_DSML}function_calls>

<function_results>
...
</function_results>

{THINK}...thinking about results{END_THINK}

Here are the functions available in JSONSchema format:
<functions>
"""


def v3(turns, options):
    """V3 (December 2024): roles are tokens, nothing thinks, and an answer is kept as it is, think tags and all."""
    parts = [BOS, _system(turns)]
    for turn in turns:
        if turn.role == "user":
            parts += [USER, turn.content]
        elif turn.role == "assistant":
            parts += [ASSISTANT, turn.content, EOS]
    return "".join([*parts, ASSISTANT if options.generate else ""])


def r1(turns, options):
    """R1: of an earlier answer, only what stands behind its last closing tag; the prompt opens the next thought."""
    parts = [BOS, _system(turns)]
    for turn in turns:
        if turn.role == "user":
            parts += [USER, turn.content]
        elif turn.role == "assistant":
            parts += [ASSISTANT, turn.content.rpartition(END_THINK)[2], EOS]
    return "".join([*parts, f"{ASSISTANT}{THINK}\n" if options.generate else ""])


def v31(turns, options):
    """V3.1: one tag says the mode. History is the same in both: the thought goes, a bare closing tag stays.

    Nothing stands between a tool's output and what the model says next, and that answer is not split at a tag. The
    template itself describes no tools; the model card's description follows the system prompt, behind a blank line.
    Raises ValueError for tools in thinking mode: the card has them in the other only.
    """
    if options.tools and options.thinking:
        raise ValueError("thinking = True: deepseek-v3.1 is given tools in its non-thinking mode only, expected False")
    parts, before = [BOS, _system(turns), _v31_tools(options.tools)], ""
    for turn in turns:
        if turn.role == "user":
            parts += [USER, turn.content]
        elif turn.role == "tool":
            parts += [OUTPUT, turn.content, END_OUTPUT]
        elif turn.role == "assistant":
            parts += [ASSISTANT, END_THINK] if before == "user" else []
            if turn.calls:
                calls = [f"{CALL}{call.name}{SEPARATOR}{call.text}{END_CALL}" for call in turn.calls]
                parts += [turn.content, CALLS, *calls, END_CALLS, EOS]
            else:
                parts += [turn.content if before == "tool" else _behind_first_tag(turn.content), EOS]
        before = turn.role
    if options.generate and before == "user":
        parts += [ASSISTANT, THINK if options.thinking else END_THINK]
    return "".join(parts)


def v32(turns, options):
    """V3.2: a thought lives until the user's next message. Tool calls and results do not end it, and always stay.

    A user's message brings the assistant's opening and its tag along; behind the last result of a block stands the
    next tag. Raises ValueError, in thinking mode, for an answer to the last question that has neither thought nor
    tool calls, as the encoder does; and for no generation prompt where the encoder always writes one.
    """
    last = max(i for i, turn in enumerate(turns) if turn.role == "user")
    if not options.generate and turns[-1].role != "assistant":
        raise ValueError("add_generation_prompt = False: deepseek-v3.2 always opens the answer, expected True here")
    parts, call = [BOS], 0
    if options.tools and turns[0].role != "system":
        parts += [_v32_tools(options.tools)]
    for i, turn in enumerate(turns):
        tag = THINK if options.thinking and i >= last else END_THINK
        if turn.role == "system":
            parts += [turn.content, _v32_tools(options.tools)]
        elif turn.role == "user":
            parts += [USER, turn.content, ASSISTANT, tag]
        elif turn.role == "tool":
            parts += ["\n\n<function_results>"] if turns[i - 1].role != "tool" else []
            parts += [f"\n<result>{turn.content}</result>"]
            call -= 1
            parts += [f"\n</function_results>\n\n{tag}"] if not call else []
        else:
            if tag == THINK:
                if not turn.thought and not turn.calls:
                    raise ValueError(f"messages[{i}]: has no reasoning_content, expected a thought or tool calls")
                parts += [turn.thought or "", END_THINK]
            parts += [turn.content, _dsml(turn.calls), EOS]
            call = len(turn.calls)
    return "".join(parts)


def _system(turns):
    """All that the system says, with a blank line between two messages."""
    return "\n\n".join(turn.content for turn in turns if turn.role == "system")


def _behind_first_tag(content):
    return content.partition(END_THINK)[2] if END_THINK in content else content


def _v31_tools(tools):
    if not tools:
        return ""
    parts = ["\n\n## Tools\nYou have access to the following tools:\n\n"]
    for function in (tool["function"] for tool in tools):
        parameters = json.dumps(function.get("parameters", {}), ensure_ascii=False)
        parts += [f"### {function['name']}\nDescription: {function['description']}\n\nParameters: {parameters}\n\n"]
    return "".join([*parts, _V31_FORMAT])


def _v32_tools(tools):
    if not tools:
        return ""
    schemas = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    return f"\n\n{_V32_FORMAT}{schemas}\n</functions>\n"


def _dsml(calls):
    """Tool calls in V3.2's markup. A parameter says whether it is text; all others are JSON."""
    if not calls:
        return ""
    invokes = []
    for call in calls:
        lines = []
        for key, value in call.arguments.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            is_text = "true" if isinstance(value, str) else "false"
            lines.append(f'<{_DSML}parameter name="{key}" string="{is_text}">{text}</{_DSML}parameter>')
        invokes.append(f'<{_DSML}invoke name="{call.name}">\n' + "\n".join(lines) + f"\n</{_DSML}invoke>\n")
    return f"\n\n<{_DSML}function_calls>\n" + "".join(invokes) + f"</{_DSML}function_calls>"
