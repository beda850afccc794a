"""The faces of the template explorer and of the budget explorer: texts that are the templates', refusals, fallbacks."""

import re

import pytest
from planted import planted
from traitlets import TraitError

from dsmini import widgets
from dsmini.language import chat
from dsmini.widgets import template_cases
from dsmini.widgets.template_cases import DATE, LABELS, TOOL, Setting

ROWS = [{"budget": 8, "accuracy": 0.5, "tokens": 7.75, "forced": 0.6}, {"budget": 0, "accuracy": 0.25, "tokens": 0,
        "forced": 1}, {"budget": 16, "accuracy": 1, "tokens": 9.12349, "forced": 0.0}]  # fmt: skip
EVIL = "</ds-widget><script>'"


def render(setting, question=None):
    """What the package says of a setting."""
    messages = template_cases.conversation(setting)
    if question is not None:
        assert messages[-1]["role"] == "user"
        messages[-1]["content"] = question
    return chat.render(
        messages, setting.family, thinking=setting.thinking, tools=[TOOL] if setting.tools else None,
        effort=setting.effort, add_generation_prompt=setting.add_generation_prompt,
        date=DATE if setting.family == "gpt-oss" else None,
    )  # fmt: skip


def shown(setting):
    """The explorer at a setting that the reader can reach."""
    return widgets.template_explorer(*setting[:2], setting.effort, *setting[3:])


POSSIBLE = [setting for setting in template_cases.settings()
            if setting.key in template_cases.table()["cases"][setting.family]]  # fmt: skip


# ---- the texts --------------------------------------------------------------------------------------------------


def test_every_family_is_there():
    assert set(LABELS) == set(chat.FAMILIES) and template_cases.EFFORTS == chat.EFFORTS
    assert len({(setting.family, setting.key) for setting in POSSIBLE}) == len(POSSIBLE) == 162


def test_every_text_is_render_s():
    for setting in POSSIBLE:
        assert shown(setting).text() == render(setting)


def test_a_text_is_what_it_says():
    bos, eos, user, assistant = chat.BOS, chat.EOS, chat.USER, chat.ASSISTANT
    history = f"{bos}Be brief.{user}What is 17 + 25?{assistant}</think>42.{eos}{user}And 9 more?{assistant}"
    assert widgets.template_explorer().text() == f"{history}</think>"
    assert widgets.template_explorer(thinking=True).text() == f"{history}<think>"
    kept = history.replace("42.", "17 + 20 = 37, and 5 more are 42. 42.")
    assert widgets.template_explorer(thinking=True, keep_thoughts=True).text() == f"{kept}<think>"


def test_what_the_reader_cannot_choose_is_refused_or_changes_nothing():
    for setting in template_cases.settings():
        try:
            text = render(setting)
        except ValueError:
            assert setting not in POSSIBLE
            continue
        if setting in POSSIBLE:
            continue
        # gpt-oss without an effort has its default one, and no thought is kept where none came before
        same = setting._replace(effort=setting.effort or "medium" * (setting.family == "gpt-oss") or None)
        if not (setting.thinking and setting.turns > 1):
            same = same._replace(keep_thoughts=False)
        assert same in POSSIBLE and text == render(same)


@pytest.mark.parametrize("question", ["Why?", "a</think>b <b>&amp;</b> \\ \"q\" 'r'", "/no_think é ｜ 猫"])
def test_the_reader_s_question_is_read_as_render_reads_it(question):
    for setting in POSSIBLE:
        own = shown(setting)
        own.question = question
        if template_cases.conversation(setting)[-1]["role"] == "user":
            assert own.text() == render(setting, question)
        else:
            assert own.text() == render(setting)  # the question has been answered


def test_a_thought_is_handed_over_where_its_template_looks_for_it():
    for setting in POSSIBLE:
        for message in template_cases.conversation(setting._replace(keep_thoughts=False)):
            thinks = setting.thinking and message["role"] == "assistant"
            in_content = setting.family in ("deepseek-r1", "deepseek-v3.1")
            assert message["content"].startswith("<think>") == (thinks and in_content)
            assert ("reasoning_content" in message) == (thinks and not in_content)


def test_the_page_knows_all_special_strings_of_a_family():
    table = template_cases.table()
    for family, cases in table["cases"].items():
        pieces = [table["pieces"][i] for case in cases.values() for run in case[1:] for i in table["runs"][run]]
        seen = {text for text, _, special in pieces if special}
        assert sorted([*seen, *table["unseen"].get(family, [])]) == sorted(chat.FAMILIES[family].special)


# ---- who wrote what ---------------------------------------------------------------------------------------------


def check_roles(cases):
    """Each role has written what it should have, and special strings are the family's."""
    for setting in POSSIBLE:
        pieces = cases.pieces(setting)
        assert "".join(piece.text for piece in pieces) == render(setting)
        assert [(p.text, p.special) for p in pieces if p.special] == [
            pair for pair in chat.split_special(render(setting), setting.family) if pair[1]
        ]
        said = {role: "".join(p.text for p in pieces if p.role == role and not p.special) for role in cases.ROLES}
        messages = template_cases.conversation(setting)
        assert said["system"] == "Be brief."
        assert said["user"] == "".join(message["content"] for message in messages if message["role"] == "user")
        answers = ["42.", "51.", "No: 3 x 17."][: setting.turns]
        assert said["answer"] == "".join(answers[:-1] if setting.add_generation_prompt else answers)
        assert bool(said["call"]) == bool(said["result"]) == bool(said["definition"]) == setting.tools
        if setting.tools:
            assert all(said["call"].count(part) == 1 for part in ("add", '"a"', '"b"', "17", "25")), said["call"]
            assert "42" in said["result"] and "17" not in said["result"] and "Adds two" in said["definition"]
            same = render(setting._replace(tools=False))
            gained = len(render(setting).partition("What is")[0]) - len(same.partition("What is")[0])
            assert sum(len(p.text) for p in pieces if p.role == "definition") == gained
        assert not any(word in said["template"] for word in ("17", "42", "51", "brief", "add", "sum"))
        assert not said["thought"] or setting.thinking
        if setting.keep_thoughts and not setting.tools:
            assert said["thought"].startswith("17 + 20 = 37")


def test_who_wrote_what_is_known():
    check_roles(template_cases)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("+ _INKS.index(role) * _WIDTH", "+ _INKS.index(role) * 2 * _WIDTH"),
        ("if setting.tools:\n        _mark", "if False:\n        _mark"),
        ("for one in (without, text)]", "for one in (text, text)]"),
        ('called = any(piece.role == "call" for piece in found) and inner == {"name"}', "called = False"),
        ('own = ["result" if called or "result" in inner else "call"] * len(own)', "pass"),
        ('ink("thought", f"{thought} ")', 'ink("answer", f"{thought} ")'),
        ('own[0] or "template", True', 'own[0] or "template", False'),
    ],
)
def test_a_planted_mistake_about_roles_is_seen(right, wrong):
    with pytest.raises((AssertionError, IndexError)):
        check_roles(planted(template_cases, right, wrong))


def test_ink_refuses_what_a_template_would_escape():
    for text in ('say "42"', "a\\b", "猫"):
        with pytest.raises(ValueError, match="expected no quotes"):
            template_cases._ink("user", text)


# ---- what the notes claim ---------------------------------------------------------------------------------------

LAST_THOUGHT = re.compile(r"<think>\n?[^<]+\n?</think>")
CLAIMS = {
    "A closing tag with no opening one": lambda t, s: t.endswith("</think>") and "<think>" not in t,
    "An empty pair of tags, where": lambda t, s: t.endswith("<think>\n\n</think>\n\n") and t.count("<think>") == 1,
    "The last answer has an empty pair": lambda t, s: t.count("<think>\n\n</think>") == 1 == t.count("</think>"),
    "No tag at the end": lambda t, s: t.endswith("assistant") or t.endswith("assistant\n"),
    "Earlier answers keep neither thought nor tags": lambda t, s: "think>" not in t and "37" not in t,
    "Nothing follows the tool's output": lambda t, s: t.endswith("42<｜tool▁output▁end｜>"),
    "follows the tool's output without": lambda t, s: "<｜tool▁output▁end｜>42." in t,
    "The last tag alone says the mode": lambda t, s: (
        t.removesuffix("<think>") + "</think>" == render(s._replace(thinking=False))
    ),
    "nothing else changes": lambda t, s: t.removesuffix("<think>") + "</think>" == render(s._replace(thinking=False)),
    "The last thought is gone as well": lambda t, s: "<think>" not in t and "=" not in t and "</think>" in t,
    "as it does in the thinking mode": lambda t, s: t == render(s._replace(thinking=True)),
    "No thought and no tag is left": lambda t, s: "think" not in t and "=" not in t,
    "Of an earlier answer only what stood": lambda t, s: t.count("think>") == 1 and t.endswith("<think>\n"),
    "lest R1 leave it out": lambda t, s: t.endswith("<think>\n"),
    "nothing for a thought": lambda t, s: "think" not in t,
    "A tool's result ends no thought": lambda t, s: "A sum" in t and t.endswith("</function_results>\n\n<think>"),
    "the thought before the call is still there": lambda t, s: "A sum" in t and "<tool_response>" in t,
    "stays until there is an answer": lambda t, s: "analysis<|message|>A sum" in t,
    "the thought before the call is gone": lambda t, s: "A sum" not in t and "The tool says" in t,
    "Both thoughts are there": lambda t, s: "A sum" in t and "The tool says" in t,
    "has removed both thoughts": lambda t, s: "A sum" not in t and "The tool says" not in t and "add" in t,
    "The thoughts are gone. Call and result stay": lambda t, s: "A sum" not in t and 'commentary<|message|>"42"' in t,
    "has removed the earlier thoughts": lambda t, s: "=" not in t and "</think>42." in t,
    "The last answer has its thought": lambda t, s: len(LAST_THOUGHT.findall(t)) == 1 or "</think>" in t,
    "ends in <|return|>": lambda t, s: t.endswith("<|return|>") and t.count("analysis<|message|>") == 1,
    "Answers are in the channel final": lambda t, s: "final<|message|>42." in t and "37" not in t,
    "longer than the conversation": lambda t, s: len(t) > 2 * len(render(s._replace(tools=False))),
    "The error": lambda t, s: t.count("=") > render(s._replace(keep_thoughts=False)).count("=") or s.tools,
}


def test_notes_are_true():
    table, seen = template_cases.table(), set()
    for setting in POSSIBLE:
        note, text = table["notes"][table["cases"][setting.family][setting.key][0]], render(setting)
        for claim, holds in CLAIMS.items():
            if claim in note:
                seen.add(claim)
                assert holds(text, setting), f"{setting}: {note}"
        if more := re.search(r"(\d+) characters more", note):
            assert int(more[1]) == len(text) - len(render(setting._replace(keep_thoughts=False))) > 0
    assert seen == set(CLAIMS)


def test_every_note_is_used():
    assert set(template_cases._NOTES.values()) <= set(template_cases.table()["notes"])


# ---- traits and refusals ----------------------------------------------------------------------------------------

EXPLORER = {"family": "qwen3", "thinking": True, "effort": "high", "turns": 3, "tools": True, "keep_thoughts": True,
            "add_generation_prompt": False, "question": "Why?"}  # fmt: skip
BUDGET = {"budget": 16, "curve": "b", "across": "tokens"}


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (widgets.template_explorer, EXPLORER),
        (lambda: widgets.budget_explorer({"a": ROWS, "b": ROWS}), BUDGET),
    ],
)
def test_traits_go_both_ways(make, changes):
    widget, other = make(), make()
    for name, value in changes.items():
        setattr(widget, name, value)
    assert {name: widget.get_state()[name] for name in changes} == changes
    other.set_state(changes)
    assert {name: getattr(other, name) for name in changes} == changes


def test_the_mode_is_the_family_s_own_by_default():
    for family, has in chat.FAMILIES.items():
        assert widgets.template_explorer(family).thinking is has.modes[0]


def test_a_change_takes_along_what_it_makes_impossible():
    own = widgets.template_explorer("qwen3", turns=2, tools=True, keep_thoughts=True)
    own.turns = 1
    assert (own.tools, own.keep_thoughts) == (True, False)
    own.family = "deepseek-v3.1"
    assert (own.thinking, own.tools) == (True, False)  # V3.1 takes tools without thinking only
    own.family = "deepseek-v3"
    assert own.thinking is False
    own.family = "gpt-oss"
    assert own.thinking is True and own.text() == render(Setting("gpt-oss", True, "medium", 1, False, False, True))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (widgets.template_explorer, {"family": "llama"}, "family"),
        (widgets.template_explorer, {"family": "deepseek-v3", "thinking": True}, "thinking = True: deepseek-v3 does"),
        (widgets.template_explorer, {"family": "deepseek-r1", "thinking": False}, "thinking = False"),
        (widgets.template_explorer, {"family": "gpt-oss", "thinking": False}, "thinking = False"),
        (widgets.template_explorer, {"family": "deepseek-r1", "tools": True}, "tools = True: deepseek-r1 does not"),
        (widgets.template_explorer, {"thinking": True, "tools": True}, "tools = True: deepseek-v3.1 does not have it"),
        (widgets.template_explorer, {"keep_thoughts": True}, "keep_thoughts = True"),
        (widgets.template_explorer, {"thinking": True, "turns": 1, "keep_thoughts": True}, "keep_thoughts = True"),
        (widgets.template_explorer, {"turns": 4}, "turns"),
        (widgets.template_explorer, {"effort": "extreme"}, "effort"),
        (widgets.template_explorer, {"question": "a\nb"}, "expected one line of at most 120"),
        (widgets.template_explorer, {"question": "a" * 121}, "expected one line"),
        (widgets.budget_explorer, {"curves": {}}, "curves: 0 of them, expected 1 to 8"),
        (widgets.budget_explorer, {"curves": ROWS[:1]}, "curves\\['accuracy'\\]: 1 budgets, expected 2 to 64"),
        (widgets.budget_explorer, {"curves": [*ROWS, ROWS[0]]}, "expected different whole numbers"),
        (widgets.budget_explorer, {"curves": [*ROWS, {"budget": 3}]}, "curves\\['accuracy'\\]\\[3\\] lacks accuracy"),
        (widgets.budget_explorer, {"curves": [*ROWS, {**ROWS[0], "accuracy": 1.2}]}, "accuracy = 1.2"),
        (widgets.budget_explorer, {"curves": [*ROWS, {**ROWS[0], "tokens": float("inf")}]}, "tokens = inf"),
        (widgets.budget_explorer, {"curves": {"a": ROWS, "b": ROWS[:2]}}, "curves\\['b'\\]: not at the budgets"),
        (widgets.budget_explorer, {"curves": ROWS, "marks": [{"tokens": 1}]}, "marks\\[0\\] lacks accuracy, label"),
        (widgets.budget_explorer, {"curves": ROWS, "efforts": {"low": 9}}, "efforts, low = 9: expected one of 0, 8"),
        (widgets.budget_explorer, {"curves": ROWS, "budget": 9}, "budget, budget = 9: expected one of 0, 8, 16"),
        (widgets.budget_explorer, {"curves": ROWS, "curve": "b"}, "curve = 'b': expected one of accuracy"),
        (widgets.budget_explorer, {"curves": ROWS, "across": "steps"}, "across"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises((ValueError, TraitError), match=message):
        make(**arguments)


def test_a_refused_choice_leaves_the_widget_as_it_was():
    own = widgets.template_explorer("deepseek-v3.1", thinking=True)
    before = own.text()
    with pytest.raises(TraitError):
        own.tools = True
    assert own.text() == before and own.tools is False


# ---- budgets, and the page without a script ---------------------------------------------------------------------


def test_rows_are_sorted_and_rounded():
    own = widgets.budget_explorer(ROWS, marks=({"label": "direct", "tokens": 3, "accuracy": 1 / 3, "more": 1},))
    assert [row["budget"] for row in own.curves[0]["rows"]] == [0, 8, 16] and own.budget == 8
    assert own.curves[0]["rows"][2] == {"budget": 16, "accuracy": 1.0, "tokens": 9.1235, "forced": 0.0}
    assert own.marks == [{"label": "direct", "tokens": 3.0, "accuracy": 0.3333}]


def test_the_fallback_tells_the_story():
    told = widgets.template_explorer("deepseek-v3.2", turns=1).fallback()
    assert "DeepSeek-V3.1, not thinking: <code>&lt;｜Assistant｜&gt;&lt;/think&gt;</code>" in told
    assert "assistant↵&lt;think&gt;↵↵&lt;/think&gt;↵↵</code>" in told  # Qwen3's empty pair
    assert "<p>DeepSeek-V3.2, the whole of a conversation:" in told
    told = widgets.budget_explorer(ROWS, [{"label": EVIL, "tokens": 3, "accuracy": 0.3}], {"low": 8}).fallback()
    assert "accuracy: 25% at 0, 50% at 8, 100% at 16" in told and "30%, with 3 tokens of thought" in told
    assert "low = 8 tokens" in told


def test_text_is_escaped():
    for own in (widgets.template_explorer(question=EVIL), widgets.budget_explorer({EVIL: ROWS})):
        assert "<script" not in own.to_html() and own.to_html().count("</ds-widget>") == 1
