"""Every family's template, byte for byte as published; history rules; refusals."""

import json
import re
from importlib import resources

import pytest

from dsmini.language.chat import FAMILIES, r1_prompt, render, split_special
from dsmini.language.templates_others import soft_switch

GOLDEN = json.loads((resources.files("dsmini.reference") / "chat_templates.json").read_text(encoding="utf-8"))


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def calls(*arguments):
    return [{"function": {"name": "add", "arguments": a}} for a in arguments]


BOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}
HI, MORE = say("user", "hi"), say("user", "more")
THOUGHT = say("assistant", "yes", reasoning_content="LONG")
TAGGED = say("assistant", "<think>LONG</think>yes")
STEP = say("assistant", "", reasoning_content="LONG", tool_calls=calls('{"a": 1}'))
RESULT = say("tool", "2")
HYBRID = [name for name, family in FAMILIES.items() if len(family.modes) == 2]
WITH_TOOLS = [name for name, family in FAMILIES.items() if family.tools]


def case_name(case):
    return f"{case['family']}: {case['name']}, {case['options'].get('thinking')}"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=case_name)
def test_the_text_is_the_published_templates(case):
    date = GOLDEN["date"] if case["family"] == "gpt-oss" else None
    messages = GOLDEN["conversations"][case["name"]]
    assert render(messages, case["family"], date=date, **case["options"]) == case["text"]


def test_every_family_has_golden_strings_from_a_named_source():
    counts = {name: sum(case["family"] == name for case in GOLDEN["cases"]) for name in FAMILIES}
    assert set(GOLDEN["sources"]) == set(FAMILIES)
    assert min(counts.values()) >= 9, counts


@pytest.mark.parametrize("family", HYBRID)
def test_a_mode_changes_the_text(family):
    assert render([HI], family, thinking=True) != render([HI], family, thinking=False)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "deepseek-v3"])
def test_a_new_question_drops_the_thought_before_it(family):
    history = TAGGED if family in ("deepseek-r1", "deepseek-v3.1", "qwen3") else THOUGHT
    assert "LONG" not in render([HI, history, MORE], family)


def test_v3_keeps_what_it_is_given():
    assert "LONG" in render([HI, TAGGED, MORE], "deepseek-v3")


def test_a_tool_result_keeps_the_thought_and_a_new_question_drops_it():
    for family in ("deepseek-v3.2", "qwen3", "gpt-oss"):
        assert "LONG" in render([HI, STEP, RESULT], family)
        answered = render([HI, STEP, RESULT, say("assistant", "2", reasoning_content="so 2"), MORE], family)
        assert "LONG" not in answered and "add" in answered and "2" in answered
    assert "LONG" not in render([HI, STEP, RESULT], "deepseek-v3.1")


def test_v31_keeps_a_bare_closing_tag():
    text = render([HI, TAGGED, MORE], "deepseek-v3.1", thinking=True)
    assert text.count("</think>") == 1 and text.count("<think>") == 1 and text.endswith("<think>")
    assert render([HI, STEP, RESULT], "deepseek-v3.1").endswith("<\uff5ctool\u2581output\u2581end\uff5c>")


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_template_applied_twice_is_visible(family):
    begin = {"qwen3": "<|im_start|>", "gpt-oss": "<|start|>system"}.get(family, BOS)
    once = render([HI], family)
    twice = render([say("user", once)], family)
    assert twice.count(begin) == 2 * once.count(begin)
    pieces = split_special(once, family)
    assert "".join(piece for piece, _ in pieces) == once
    assert sum(special for _, special in split_special(twice, family)) == 2 * sum(special for _, special in pieces)


def test_split_special_finds_the_roles():
    pieces = split_special(render([HI], "deepseek-v3.1", thinking=True), "deepseek-v3.1")
    assert [special for _, special in pieces] == [True, True, False, True, True]
    assert pieces[2] == ("hi", False)


def test_r1_prompt_is_a_family_of_render():
    assert r1_prompt([HI, TAGGED, MORE]) == render([HI, TAGGED, MORE], "deepseek-r1")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a"], True),
        (["a /no_think"], False),
        (["a /no_think", "b"], False),
        (["a /no_think", "b /think"], True),
        (["/think or rather /no_think"], False),
        (["a /think", "b /no_think"], False),
    ],
)
def test_the_latest_soft_switch_wins(texts, expected):
    messages = [message for text in texts for message in (say("user", text), say("assistant", "/no_think"))][:-1]
    assert soft_switch(messages) is expected
    assert soft_switch([say("user", "a")], thinking=False) is False


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages: there are none"),
        ([say("assistant", "a")], "messages[0]: role 'assistant'"),
        ([HI, MORE], "messages[1]: role 'user' with content 'more', expected text from assistant"),
        ([HI, RESULT], "messages[1]: role 'tool'"),
        ([say("user", None)], "messages[0]: role 'user' with content None"),
        ([HI, say("assistant", None), MORE], "messages[1]: role 'assistant' with content None"),
        ([HI, THOUGHT], "messages[1]: from 'assistant', expected the last one from the user or a tool"),
        ([say("system", "a")], "messages[0]: from 'system'"),
        ([say("user", "a", prefix=True)], "messages[0]: unknown key 'prefix'"),
        ([say("user", "a", reasoning_content="b")], "messages[0]: reasoning_content = 'b'"),
        ([say("user", "a", tool_calls=calls("{}"))], "messages[0]: has tool_calls"),
    ],
)
def test_conversations_that_are_none(family, messages, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        render(messages, family)


@pytest.mark.parametrize("family", WITH_TOOLS)
def test_tool_calls_that_are_none(family):
    two = say("assistant", "", tool_calls=calls("{}", "{}"))
    with pytest.raises(ValueError, match=re.escape("messages[2]: 1 of the tool calls have no result")):
        render([HI, two, RESULT], family)
    with pytest.raises(ValueError, match=re.escape("messages[3]: role 'assistant'")):
        render([HI, two, RESULT, THOUGHT, MORE], family)
    with pytest.raises(ValueError, match=re.escape("messages[3]: role 'tool'")):
        render([HI, STEP, RESULT, RESULT], family)
    for arguments in ("{", "[1]", None, 3):
        step = say("assistant", "", tool_calls=calls(arguments))
        with pytest.raises(ValueError, match=re.escape("messages[1]: tool_calls[0] = ")):
            render([HI, step, RESULT], family)
    for tools in ([3], [{"function": {"name": "add"}}], ["add"]):
        with pytest.raises(ValueError, match=re.escape("tools[0] = ")):
            render([HI], family, tools=tools)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("deepseek-v4", {}, "family = 'deepseek-v4', expected one of deepseek-v3, deepseek-r1"),
        ("deepseek-v3", {"thinking": True}, "thinking = True: deepseek-v3 knows False only"),
        ("deepseek-r1", {"thinking": False}, "thinking = False: deepseek-r1 knows True only"),
        ("gpt-oss", {"thinking": False}, "thinking = False: gpt-oss knows True only"),
        ("qwen3", {"thinking": "low"}, "thinking = 'low': qwen3 knows True and False only"),
        ("qwen3", {"effort": "low"}, "effort = 'low', date = None: qwen3 has neither"),
        ("deepseek-v3.1", {"date": "2025-08-21"}, "date = '2025-08-21': deepseek-v3.1 has neither"),
        ("gpt-oss", {"effort": "none"}, "effort = 'none', expected one of low, medium, high"),
        ("deepseek-r1", {"tools": [TOOL]}, "tools: deepseek-r1's template describes none"),
        ("deepseek-v3.1", {"tools": [TOOL], "thinking": True}, "thinking = True: deepseek-v3.1 is given tools"),
        ("deepseek-v3.2", {"add_generation_prompt": False}, "add_generation_prompt = False: deepseek-v3.2 always"),
    ],
)
def test_switches_that_a_family_lacks(family, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        render([HI], family, **options)


def test_what_only_one_family_refuses():
    with pytest.raises(ValueError, match=re.escape("messages[1]: has no reasoning_content")):
        render([HI, say("assistant", "yes")], "deepseek-v3.2", add_generation_prompt=False)
    with pytest.raises(ValueError, match=re.escape("messages[1]: expected one tool call")):
        render([HI, say("assistant", "", tool_calls=calls("{}", "{}")), RESULT, RESULT], "gpt-oss")
    with pytest.raises(ValueError, match=re.escape("messages[1]: expected one tool call, and content or")):
        render([HI, {**STEP, "content": "x"}, RESULT], "gpt-oss")
    with pytest.raises(ValueError, match=re.escape("messages[1]: role 'system'")):
        render([say("system", "a"), say("system", "b"), HI], "qwen3")
    parameters = {"properties": {"a": {"oneOf": [{"type": "string"}]}}}
    tool = {"function": {**TOOL["function"], "parameters": parameters}}
    with pytest.raises(ValueError, match=re.escape("tools: parameter 'a' has oneOf")):
        render([HI], "gpt-oss", tools=[tool])


def test_todays_date_is_gpt_oss_default():
    assert re.search(r"Current date: \d{4}-\d\d-\d\d\n", render([HI], "gpt-oss"))
