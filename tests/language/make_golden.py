"""Renders the conversations below with the published templates: golden strings for the tests and for chapter 9.

    python tests/language/make_golden.py FOLDER      # writes dsmini/reference/chat_templates.json

FOLDER holds the files that SOURCES names, fetched by hand: no template is kept in this repository. Jinja templates are
rendered as transformers does it (sandbox, trim_blocks, lstrip_blocks, its tojson); V3.2's encoder is run.
"""

import importlib.util
import json
import pathlib
import sys

import jinja2.ext
import jinja2.sandbox

DATE = "2025-08-05"
TRL = "huggingface/trl trl/chat_templates/"
SOURCES = {
    "deepseek-v3": {
        "deepseek_v3.jinja": "huggingface/huggingface.js packages/ollama-utils/src/chat-template-automap.ts, "
        "library/deepseek-v3:671b, gguf @ 0429cdc70ad15822a7b2b42d8c8b71ca2b9bce34"
    },
    "deepseek-r1": {
        "deepseek_r1.jinja": f"{TRL}deepseekv3.jinja (deepseek-ai/DeepSeek-R1's: scripts/generate_tiny_models.py) "
        "@ b03343e3e21f321f5729277808ca1dc18c2852b2, as in trl 1.16.0 on PyPI"
    },
    "deepseek-v3.1": {
        "deepseek_v31.jinja": "ggml-org/llama.cpp models/templates/deepseek-ai-DeepSeek-V3.1.jinja "
        "@ 0374c5b6e4c19370262d93e2c3f2a98c9af9fe1f",
        "deepseek_v31_tools.txt": "the block of section ToolCall in the model card of deepseek-ai/DeepSeek-V3.1, "
        "the revision with a blank line before it; its commit is not known",
    },
    "deepseek-v3.2": {
        "encoding_dsv32.py": "sgl-project/sglang python/sglang/srt/entrypoints/openai/encoding_dsv32.py "
        "@ 008b79d2358b08adf9b6c879625030f890c8c4e2, as in sglang 0.5.23 on PyPI",
        "deepseek_v32_tools.txt": "papkdvvoetochie/aboba encoding_dsv32.py, TOOLS_SYSTEM_TEMPLATE "
        "@ 7d7804828183d80a86189c36fb8ef7617ebdad76: SGLang's wording with the blank lines that llama.cpp has too",
    },
    "qwen3": {"qwen3.jinja": f"{TRL}qwen3.jinja @ a22ae88f74ef3cf45b15b5370336b5527584d92b, as in trl 1.16.0 on PyPI"},
    "gpt-oss": {
        "gptoss.jinja": f"{TRL}gptoss.jinja @ 298ea0c70abe0087cb21f8f2d6e1a6217817de2b, as in trl 1.16.0 on PyPI"
    },
}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(*calls):
    return [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]


def tool(name, description, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


ADD = tool("add", "Adds two numbers.", a={"type": "number", "description": "First, in °C"}, b={"type": "integer"})
FIND = tool("find", "Looks a word up.", word={"type": "string"}, tags={"type": "array", "items": {"type": "string"}})
PLAIN = {"type": "function", "function": {"name": "now", "description": "The time.",
                                          "parameters": {"type": "object", "properties": {}}}}  # fmt: skip
ZOO = tool(
    "zoo", "Every type.", unit={"type": "string", "enum": ["c", "f"], "default": "c"}, ok={"type": "boolean"},
    place={"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "string"}}, "required": ["x"]},
    free={"type": "object"}, rows={"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    any={}, either={"type": ["string", "number"]}, maybe={"type": "string", "nullable": True, "default": None},
    many={"type": "array"}, n={"type": "integer", "default": 3, "description": "How many"},
)  # fmt: skip
SYSTEM, HI, MORE = say("system", "Be brief."), say("user", "2 + 3?"), say("user", "And 4 more?")
TAGGED = say("assistant", "<think>\nHm: 2 + 3.\n</think>\n\n5")
TWICE = say("assistant", "<think>a</think>b</think>c")
THOUGHT = say("assistant", "5", reasoning_content="Hm: 2 + 3.")
CALL = say("assistant", "", reasoning_content="I add.", tool_calls=call(("add", '{"a": 2, "b": 3}')))
PLAINLY, MUTE = say("assistant", "5"), say("assistant", "", tool_calls=call(("add", '{"a": 2, "b": 3}')))
RESULT, NINE = say("tool", "5"), say("assistant", "9", reasoning_content="So 9.")
TWO = say("assistant", "Both.", reasoning_content="Two calls.",
          tool_calls=call(("add", '{"a": 2, "b": 3}'), ("find", '{"word": "été", "tags": ["x", "y"]}')))  # fmt: skip
AGAIN = say("assistant", "", reasoning_content="Once more.", tool_calls=call(("add", '{"a": 5, "b": 4}')))
DICT = say("assistant", "", reasoning_content="As a dict.", tool_calls=call(("find", {"word": "été", "tags": []})))


def conversations():
    """Name -> (messages, whether the model speaks next)."""
    return {
        "first turn": ([HI], True),
        "system": ([SYSTEM, HI], True),
        "tags in the history": ([HI, TAGGED, MORE], True),
        "two closing tags": ([HI, TWICE, MORE], True),
        "thoughts in the history": ([HI, THOUGHT, MORE], True),
        "three rounds": ([SYSTEM, HI, THOUGHT, MORE, NINE, HI], True),
        "ends with an answer": ([HI, THOUGHT], False),
        "ends with tags": ([HI, TAGGED], False),
        "ends without a thought": ([HI, PLAINLY], False),
        "ends with an answer, history": ([SYSTEM, HI, THOUGHT, MORE, NINE], False),
    }


def tool_conversations():
    return {
        "after a result": ([HI, CALL, RESULT], True),
        "answered": ([SYSTEM, HI, CALL, RESULT, NINE], False),
        "new question after a result": ([SYSTEM, HI, CALL, RESULT, NINE, MORE], True),
        "two steps": ([HI, CALL, RESULT, AGAIN, say("tool", 'a "9"\n')], True),
        "history, then a step": ([HI, THOUGHT, MORE, CALL, RESULT], True),
        "ends with a call": ([HI, CALL], False),
        "a call without a thought": ([HI, MUTE, RESULT], True),
        "tags behind a result": ([HI, CALL, RESULT, TAGGED, MORE], True),
    }


def cases():
    """Yields (family, name, messages, options of `render`)."""
    modes = {"deepseek-v3": [False], "deepseek-r1": [True], "gpt-oss": [True]}
    for family in SOURCES:
        for thinking in modes.get(family, [True, False]):
            has_tools = family not in ("deepseek-v3", "deepseek-r1")
            for name, (messages, speaks) in {**conversations(), **(tool_conversations() if has_tools else {})}.items():
                if family == "deepseek-v3.2" and thinking and name in ("ends with tags", "ends without a thought"):
                    continue  # its encoder refuses them
                yield family, name, messages, {"thinking": thinking, "add_generation_prompt": speaks}
    several = [SYSTEM, say("system", "Use digits."), HI]
    for family in ("deepseek-v3", "deepseek-r1", "deepseek-v3.1"):
        yield family, "two system messages", several, {"add_generation_prompt": True}
    for family in ("deepseek-v3.1", "deepseek-v3.2", "qwen3"):
        for thinking in [False] if family == "deepseek-v3.1" else [True, False]:
            options = {"thinking": thinking, "tools": [ADD, FIND], "add_generation_prompt": True}
            yield family, "tools described", [SYSTEM, HI], options
            yield family, "two calls at once", [SYSTEM, HI, TWO, RESULT, say("tool", "une saison")], options
            yield family, "two calls, asked anew", [HI, TWO, RESULT, say("tool", "une saison"), NINE, MORE], options
            yield family, "tools without a system", [HI], options
    yield "qwen3", "arguments as a dict", [HI, DICT, RESULT], {"add_generation_prompt": True}
    yield "qwen3", "soft switch", [say("user", "2 + 3? /no_think"), THOUGHT, say("user", "4? /think")], {}
    yield "qwen3", "result as a user", [HI, CALL, RESULT, NINE, say("user", "<tool_response>5</tool_response>")], {}
    for effort in ("low", "medium", "high"):
        yield "gpt-oss", f"effort {effort}", [SYSTEM, HI], {"effort": effort}
    yield "gpt-oss", "tools described", [SYSTEM, HI], {"tools": [ADD, FIND, PLAIN]}
    yield "gpt-oss", "every type", [HI, DICT, RESULT], {"tools": [ZOO], "effort": "high"}
    yield "gpt-oss", "content at a call", [HI, {**CALL, "content": "I add.", "reasoning_content": ""}, RESULT], {}


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    made.globals["strftime_now"] = lambda pattern: DATE
    return made


def jinja(folder, file, messages, **names):
    template = environment().from_string((folder / file).read_text(encoding="utf-8"))
    return template.render(messages=messages, bos_token="<\uff5cbegin\u2581of\u2581sentence\uff5c>", **names)


def card_tools(folder, tools):
    """V3.1's card: its block with its one section written once for each tool."""
    block = (folder / "deepseek_v31_tools.txt").read_text(encoding="utf-8").rstrip("\n")
    head, rest = block.split("### ", 1)
    section, tail = rest.split("IMPORTANT", 1)
    parts = [head]
    for function in (tool["function"] for tool in tools):
        text = section.replace("{tool_name1}", function["name"]).replace("{description}", function["description"])
        parameters = json.dumps(function["parameters"], ensure_ascii=False)
        parts.append("### " + text.replace("{json.dumps(parameters)}", parameters))
    return "".join([*parts, "IMPORTANT", tail])


def encoded(folder, messages, thinking, tools):
    """V3.2: DeepSeek's encoder; tools go into the system message. Where there is none, it is made, as SGLang does."""
    spec = importlib.util.spec_from_file_location("encoding_dsv32", folder / "encoding_dsv32.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.TOOLS_SYSTEM_TEMPLATE = (folder / "deepseek_v32_tools.txt").read_text(encoding="utf-8")
    if tools and messages[0]["role"] != "system":
        messages = [say("system", ""), *messages]
    if tools:
        messages = [{**messages[0], "tools": tools}, *messages[1:]]
    return module.encode_messages(messages, "thinking" if thinking else "chat")


def harmony(message):
    """As gpt-oss's template wants a message: the thought under its own name, a call's arguments as a dict."""
    made = {key: value for key, value in message.items() if key != "reasoning_content"}
    if "reasoning_content" in message:
        made["thinking"] = message["reasoning_content"]
    for one in made.get("tool_calls", []):
        arguments = one["function"]["arguments"]
        if isinstance(arguments, str):
            one["function"]["arguments"] = json.loads(arguments)
    return made


def golden(folder, family, messages, thinking=None, tools=None, effort=None, add_generation_prompt=True):
    messages = json.loads(json.dumps(messages))
    if family == "deepseek-v3.2":
        return encoded(folder, messages, thinking, tools)
    names = {"add_generation_prompt": add_generation_prompt}
    if family == "deepseek-v3.1":
        if tools:
            system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
            messages.insert(0, say("system", f"{system}\n\n{card_tools(folder, tools)}"))
        names |= {} if thinking is None else {"thinking": thinking}
    if family == "qwen3":
        names |= {"tools": tools} | ({} if thinking is None else {"enable_thinking": thinking})
    if family == "gpt-oss":
        messages = [harmony(message) for message in messages]
        names |= {"tools": tools} | ({"reasoning_effort": effort} if effort else {})
    return jinja(folder, next(iter(SOURCES[family])), messages, **names)


def main(folder):
    said, made = {}, []
    for family, name, messages, options in cases():
        text = golden(folder, family, messages, **options)
        if said.setdefault(name, messages) != messages:
            raise SystemExit(f"two conversations are called {name!r}")
        made.append({"family": family, "name": name, "options": options, "text": text})
    parts = {"date": DATE, "sources": SOURCES, "conversations": said, "cases": made}
    lines = [f"{json.dumps(key)}: {_lines(part)}" for key, part in parts.items()]
    out = pathlib.Path(__file__).parents[2] / "dsmini" / "reference" / "chat_templates.json"
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(made)} cases -> {out}")


def _lines(part):
    """JSON with one entry a line."""
    if isinstance(part, dict):
        entries = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in part.items()]
        return "{\n" + ",\n".join(entries) + "\n}"
    if isinstance(part, list):
        return "[\n" + ",\n".join(json.dumps(value, ensure_ascii=False) for value in part) + "\n]"
    return json.dumps(part)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
