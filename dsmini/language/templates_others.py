"""Two chat templates beside DeepSeek's: Qwen3, the other hybrid, and gpt-oss with its channels and efforts.

Each function writes checked turns (`chat.render` makes them) as the release's own template does, byte for byte, odd
spaces and all: Qwen3-8B's tokenizer_config.json, gpt-oss-20b's chat_template.jinja (and OpenAI's harmony guide). The
decision to know: gpt-oss sees JSON schema's plain types as TypeScript; a schema with `oneOf` is refused.
"""

import json

from dsmini.language.special import END_THINK, THINK

_QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_QWEN_FORMAT = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)
_PLAIN = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}


def soft_switch(messages, thinking=True):
    """Whether Qwen3 thinks next: the latest `/think` or `/no_think` of the user or the system wins.

    The switch is plain text, which the template passes on; the model was trained to obey it, and then says an empty
    thought. thinking: what holds without a switch. With thinking=False in the template (the hard switch), none helps.
    """
    for message in reversed(messages):
        if message["role"] in ("user", "system"):
            at = {mode: message["content"].rfind(word) for mode, word in ((True, "/think"), (False, "/no_think"))}
            if max(at.values()) >= 0:
                return at[True] > at[False]
    return thinking


def qwen3(turns, options):
    """Qwen3 (April 2025). Thinking is the default; the hard switch puts an empty pair of tags before the answer.

    Thoughts are kept behind the user's last question only: for the last answer, and for calls of tools on the way.
    """
    system = turns[0].content if turns[0].role == "system" else None
    parts = []
    if options.tools:
        schemas = "".join(f"\n{_json(tool)}" for tool in options.tools)
        head = "" if system is None else f"{system}\n\n"
        parts += [f"<|im_start|>system\n{head}{_QWEN_TOOLS}{schemas}{_QWEN_FORMAT}<|im_end|>\n"]
    elif system is not None:
        parts += [f"<|im_start|>system\n{system}<|im_end|>\n"]
    last = max((i for i, turn in enumerate(turns) if _is_question(turn)), default=len(turns) - 1)
    for i, turn in enumerate(turns):
        if turn.role == "user":
            parts += [f"<|im_start|>user\n{turn.content}<|im_end|>\n"]
        elif turn.role == "assistant":
            parts += [_qwen_answer(turn, i > last, i == len(turns) - 1)]
        elif turn.role == "tool":
            parts += ["<|im_start|>user"] if turns[i - 1].role != "tool" else []
            parts += [f"\n<tool_response>\n{turn.content}\n</tool_response>"]
            parts += ["<|im_end|>\n"] if i == len(turns) - 1 or turns[i + 1].role != "tool" else []
    if options.generate:
        parts += ["<|im_start|>assistant\n", "" if options.thinking else f"{THINK}\n\n{END_THINK}\n\n"]
    return "".join(parts)


def gpt_oss(turns, options):
    """gpt-oss (August 2025): thoughts in channel `analysis`, answers in `final`, tool calls in `commentary`.

    It always thinks; how long is a word in the system message. Our system message is its developer message. A thought
    is kept at a tool call until a final answer follows; other thoughts are kept only in the last answer, without
    generation prompt: a training text. Raises ValueError for more than one tool call in a message, and for a message
    with a tool call that has both content and thought: the template has one place for them.
    """
    parts = [f"<|start|>system<|message|>{_harmony_system(options)}<|end|>"]
    instructions = turns[0].content if turns[0].role == "system" else ""
    if instructions or options.tools:
        parts += ["<|start|>developer<|message|>", f"# Instructions\n\n{instructions}\n\n" if instructions else "",
                  _harmony_tools(options.tools), "<|end|>"]  # fmt: skip
    name = None
    for i, turn in enumerate(turns):
        rest = turns[i + 1 :]
        if turn.role == "user":
            parts += [f"<|start|>user<|message|>{turn.content}<|end|>"]
        elif turn.role == "tool":
            said = json.dumps(turn.content, ensure_ascii=False)
            parts += [f"<|start|>functions.{name} to=assistant<|channel|>commentary<|message|>{said}<|end|>"]
        elif turn.calls:
            if len(turn.calls) > 1 or (turn.content and turn.thought):
                raise ValueError(f"messages[{i}]: expected one tool call, and content or reasoning_content, not both")
            answered = any(later.role == "assistant" and not later.calls for later in rest)
            thought = turn.content or turn.thought
            parts += [_analysis(thought)] if thought and not answered else []
            name = turn.calls[0].name
            arguments = json.dumps(turn.calls[0].arguments, ensure_ascii=False)
            parts += [f"<|start|>assistant to=functions.{name}<|channel|>commentary json<|message|>{arguments}<|call|>"]
        elif turn.role == "assistant":
            ends = not rest and not options.generate
            parts += [_analysis(turn.thought)] if ends and turn.thought is not None else []
            end = "<|return|>" if ends else "<|end|>"
            parts += [f"<|start|>assistant<|channel|>final<|message|>{turn.content}{end}"]
    return "".join([*parts, "<|start|>assistant" if options.generate else ""])


def _json(value):
    return json.dumps(value, ensure_ascii=False)


def _is_question(turn):
    """A user's message, unless it is a tool's result in the user's clothes."""
    fake = turn.content.startswith("<tool_response>") and turn.content.endswith("</tool_response>")
    return turn.role == "user" and not fake


def _qwen_answer(turn, is_behind, is_last):
    """An assistant's message: with its thought if it stands behind the last question."""
    thought, content = turn.thought, turn.content
    if thought is None:
        thought = ""
        if END_THINK in content:
            thought = content.split(END_THINK)[0].rstrip("\n").split(THINK)[-1].lstrip("\n")
            content = content.split(END_THINK)[-1].lstrip("\n")
    text = content
    if is_behind and (is_last or thought):
        newline = "\n"
        text = f"{THINK}\n{thought.strip(newline)}\n{END_THINK}\n\n{content.lstrip(newline)}"
    for i, call in enumerate(turn.calls):
        text += "\n" if i or content else ""
        text += f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.text}}}\n</tool_call>'
    return f"<|im_start|>assistant\n{text}<|im_end|>\n"


def _analysis(thought):
    return f"<|start|>assistant<|channel|>analysis<|message|>{thought}<|end|>"


def _harmony_system(options):
    tools = "\nCalls to these tools must go to the commentary channel: 'functions'." if options.tools else ""
    return (
        "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
        f"Current date: {options.date}\n\nReasoning: {options.effort}\n\n"
        f"# Valid channels: analysis, commentary, final. Channel must be included for every message.{tools}"
    )


def _harmony_tools(tools):
    """The functions as TypeScript, in a namespace."""
    if not tools:
        return ""
    parts = ["# Tools\n\n## functions\n\nnamespace functions {\n\n"]
    for function in (tool["function"] for tool in tools):
        parts += [f"// {function['description']}\ntype {function['name']} = "]
        parameters = function.get("parameters") or {}
        required, properties = parameters.get("required") or [], parameters.get("properties") or {}
        lines = [_parameter(name, spec, required) for name, spec in properties.items()]
        parts += ["(_: {\n", *lines, "}) => any;\n\n"] if lines else ["() => any;\n\n"]
    return "".join([*parts, "} // namespace functions"])


def _parameter(name, spec, required):
    about = f"// {spec['description']}\n" if spec.get("description") else ""
    text = f"{about}{name}{'' if name in required else '?'}: {_typescript(name, spec)}"
    if "default" in spec:
        text += f", // default: {spec['default'] if spec.get('enum') else _json(spec['default'])}"
    return f"{text},\n"


def _typescript(name, spec):
    """JSON schema's type, as the template writes it. Raises ValueError for `oneOf`."""
    if spec.get("oneOf"):
        raise ValueError(f"tools: parameter {name!r} has oneOf, expected plain types")
    kind, null = spec.get("type"), " | null" if spec.get("nullable") else ""
    if isinstance(kind, list):
        return " | ".join(kind)
    if kind == "array":
        return f"{_items(name, spec['items']) if spec.get('items') else 'any'}[]{null}"
    if kind == "string":
        return '"' + '" | "'.join(spec["enum"]) + '"' if spec.get("enum") else f"string{null}"
    if kind == "object" and spec.get("properties"):
        required = spec.get("required") or []
        fields = [f"{key}{'' if key in required else '?'}: \n                {_typescript(key, value)}"
                  for key, value in spec["properties"].items()]  # fmt: skip
        return "{\n" + ", ".join(fields) + "}"
    return "object" if kind == "object" else _PLAIN.get(kind, "any")


def _items(name, items):
    """The type of an array's items; a long one becomes `any`."""
    kind = items.get("type")
    text = _PLAIN[kind] if isinstance(kind, str) and kind in _PLAIN else _typescript(name, items)
    return "any" if text == "object | object" or len(text) > 50 else text
