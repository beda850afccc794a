"""The template explorer and the budget explorer in a browser: mouse, keyboard, texts and numbers that are Python's."""

import pytest

from dsmini import widgets
from dsmini.language import chat
from dsmini.widgets import template_cases
from dsmini.widgets.template_cases import DATE, LABELS, TOOL, Setting

CHOICES = Setting._fields[1:]
POSSIBLE = [setting for setting in template_cases.settings() if template_cases.is_possible(setting)]
# Sets every trait at once, as Python does, and says what the explorer shows.
SHOW = """settings => {
  const root = document.querySelector("ds-widget[name=template_explorer]");
  return settings.map((setting) => {
    for (const [name, value] of Object.entries(setting)) root.model.set(name, value);
    const pieces = [...root.querySelectorAll(".te-piece")].map((piece) =>
      [piece.textContent, piece.dataset.name, piece.classList.contains("te-special")]);
    const whys = [...root.querySelectorAll("fieldset:has(.te-why)")].map((group) =>
      [[...group.querySelectorAll("input")].map((input) => [input.value, input.disabled, input.checked]),
       group.querySelector(".te-why").textContent]);
    return { text: root.querySelector(".te-text").textContent, pieces, whys,
             counts: [...root.querySelectorAll(".te-legend li")].map((item) => item.innerText.split("\\n").join(" ")),
             asks: !root.querySelector("input[type=text]").disabled };
  });
}"""


@pytest.fixture(scope="module")
def everything(browser, folder):
    """What the page shows of each possible setting."""
    page = browser.new_page()
    page.goto((folder / "page.html").as_uri())
    shown = page.evaluate(SHOW, [traits_of(setting) for setting in POSSIBLE])
    page.close()
    return list(zip(POSSIBLE, shown, strict=True))


@pytest.fixture
def explorer(page):
    return page.locator(".dsw-template").first


@pytest.fixture
def budget(page):
    return page.locator(".dsw-budget").nth(1)


def said(page, widget):
    page.wait_for_timeout(400)  # the live region waits until a control rests
    return widget.locator("[aria-live=polite]").inner_text()


def text_of(explorer):
    return explorer.locator(".te-text").evaluate("node => node.textContent")


def state(page, name, *traits, nth=0):
    return page.evaluate(
        "([name, nth, traits]) => traits.map((trait) => "
        "document.querySelectorAll(`ds-widget[name=${name}]`)[nth].model.get(trait))",
        [name, nth, traits],
    )


def render(setting, question=None):
    """What the package says of a setting."""
    messages = template_cases.conversation(setting)
    if question is not None:
        messages[-1]["content"] = question
    return chat.render(
        messages, setting.family, thinking=setting.thinking, tools=[TOOL] if setting.tools else None,
        effort=setting.effort, add_generation_prompt=setting.add_generation_prompt,
        date=DATE if setting.family == "gpt-oss" else None,
    )  # fmt: skip


def traits_of(setting, question=""):
    return {**setting._asdict(), "effort": setting.effort or "medium", "question": question}


# ---- the template explorer --------------------------------------------------------------------------------------


def test_the_page_shows_what_render_says(everything):
    for setting, shown in everything:
        assert shown["text"] == render(setting)
        names = {"definition": "tool description", "call": "tool call", "result": "tool result",
                 "template": "the template"}  # fmt: skip
        pieces = [[p.text, names.get(p.role, p.role), p.special] for p in template_cases.pieces(setting)]
        assert shown["pieces"] == pieces
        sizes = {name: sum(len(text) for text, own, special in pieces if own == name and not special)
                 for name in ["the template", *(names.get(role, role) for role in template_cases.ROLES)]}  # fmt: skip
        sizes = {"special token": sum(special for *_, special in pieces), **sizes}
        told = [f"{name} {size:,}" for name, size in sizes.items() if size]
        assert [line.removesuffix(" characters") for line in shown["counts"]] == told


def test_an_option_is_disabled_where_no_text_has_it_and_the_page_says_why(everything):
    for setting, shown in everything:
        for at, (options, why) in enumerate(shown["whys"], 1):
            before = [other for other in POSSIBLE if other[:at] == setting[:at]]
            open_ones = {str(other[at]).lower() for other in before}
            assert [value for value, disabled, _ in options if not disabled] == [
                value for value, *_ in options if value in open_ones
            ]
            assert [value for value, _, checked in options if checked] == [
                str(value).lower() for value in (setting[at],) if value is not None
            ]
            assert bool(why) == any(disabled for _, disabled, _ in options)
        assert len(shown["whys"]) == len(CHOICES)
        assert shown["asks"] == (template_cases.conversation(setting)[-1]["role"] == "user")


@pytest.mark.parametrize("question", ["Why?", "x</think><|im_end|><｜User｜><script>a()</script>", "<|end|> é 猫"])
def test_the_reader_s_question_is_shown_as_render_reads_it(page, question):
    asked = [one for one in POSSIBLE if template_cases.conversation(one)[-1]["role"] == "user"]
    shown = page.evaluate(SHOW, [traits_of(one, question) for one in asked])
    for setting, own in zip(asked, shown, strict=True):
        text = render(setting, question)
        assert own["text"] == text
        assert [piece[0] for piece in own["pieces"] if piece[2]] == [
            piece for piece, special in chat.split_special(text, setting.family) if special
        ]


def test_the_explorer_answers_to_the_mouse(page, explorer):
    assert "A closing tag with no opening one" in said(page, explorer)
    explorer.get_by_role("radio", name="thinking", exact=True).check()
    assert text_of(explorer).endswith("<｜Assistant｜><think>")
    assert "8 special tokens, 136 characters." in said(page, explorer)
    explorer.get_by_role("radio", name="thoughts kept").check()
    assert "32 characters more" not in said(page, explorer) and "33 characters more" in said(page, explorer)
    explorer.get_by_role("radio", name="Qwen3").check()
    explorer.get_by_role("radio", name="one that adds").check()
    explorer.get_by_role("radio", name="DeepSeek-V3.1").check()
    assert state(page, "template_explorer", "thinking", "tools", "keep_thoughts") == [True, False, True]
    assert explorer.get_by_role("radio", name="one that adds").is_disabled()
    assert "DeepSeek-V3.1 takes tools only without thinking." in explorer.inner_text()
    explorer.get_by_role("radio", name="DeepSeek-V3", exact=True).check()
    assert state(page, "template_explorer", "thinking", "keep_thoughts") == [False, False]
    assert "DeepSeek-V3 never thinks." in explorer.inner_text()
    explorer.get_by_role("radio", name="the user").check()
    assert text_of(explorer).endswith("51.<｜end▁of▁sentence｜>")
    assert explorer.locator(".te-call").inner_text() == (
        'render(messages, "deepseek-v3", thinking=False, add_generation_prompt=False)'
    )
    assert explorer.get_by_label("Your own last question").is_disabled()


def test_the_explorer_answers_to_keys(page, explorer):
    explorer.get_by_role("radio", name="DeepSeek-V3.1").focus()
    seen = []
    for _ in LABELS:
        page.keyboard.press("ArrowLeft")
        seen += state(page, "template_explorer", "family")
    assert seen == ["gpt-oss", "qwen3", "deepseek-r1", "deepseek-v3", "deepseek-v3.2", "deepseek-v3.1"]
    assert page.evaluate("document.activeElement.value") == "deepseek-v3.1"
    explorer.get_by_role("radio", name="gpt-oss").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # past the mode, which has one choice
    page.keyboard.press("ArrowRight")
    assert "Reasoning: high" in text_of(explorer)
    question = explorer.get_by_label("Your own last question")
    assert question.get_attribute("placeholder") == "And 9 more?"
    assert "is read as one: try <|end|>" in explorer.inner_text()
    assert explorer.locator(".te-call").inner_text() == (
        'render(messages, "gpt-oss", effort="high", date="2025-08-05")'
    )
    question.focus()
    page.keyboard.type("Why <|end|> so?")
    assert text_of(explorer) == render(Setting("gpt-oss", True, "high", 2, False, False, True), "Why <|end|> so?")
    assert page.evaluate("document.activeElement.type") == "text"  # not drawn anew under the reader's hands
    page.evaluate("document.querySelector('ds-widget[name=template_explorer]').model.set('question', 'from Python')")
    assert question.input_value() == "from Python"
    question.fill("")
    assert text_of(explorer) == render(Setting("gpt-oss", True, "high", 2, False, False, True))


def test_who_speaks_is_told_without_colour(page, explorer):
    explorer.get_by_role("radio", name="Qwen3").check()
    explorer.get_by_role("radio", name="thinking", exact=True).check()
    explorer.get_by_role("radio", name="the user").check()
    labels = explorer.locator(".te-first").evaluate_all(
        "all => all.map(piece => [getComputedStyle(piece, '::before').content, piece.title])"
    )
    spoken = ["system", "user", "answer", "user", "thought", "answer"]
    assert labels == [[f'"{name}"', name] for name in spoken]
    titles = "all => all.map((piece) => piece.title)"
    assert set(explorer.locator(".te-piece.te-special").evaluate_all(titles)) == {"special token"}
    explorer.get_by_role("radio", name="DeepSeek-V3.2").check()
    explorer.get_by_role("radio", name="one that adds").check()
    names = explorer.locator(".te-first").evaluate_all(titles)
    assert names.count("tool description") == names.count("tool call") == names.count("tool result") == 1


def test_two_explorers_do_not_share_their_choices(page, explorer):
    other = page.locator(".dsw-template").nth(1)
    before = text_of(other)
    explorer.get_by_role("radio", name="gpt-oss").check()
    assert text_of(other) == before
    assert before == render(Setting("qwen3", True, None, 3, True, True, True))


# ---- the budget explorer ----------------------------------------------------------------------------------------


def board(budget):
    return budget.locator(".be-board strong").all_inner_texts()


def expected(rows, n):
    row = next(row for row in rows if row["budget"] == n)
    return [f"{row['accuracy']:.0%}", f"{row['tokens']:.1f}".removesuffix(".0"), f"{row['forced']:.0%}"]


def test_budgets_show_the_measured_rows(page, budget, measured):
    slider = budget.get_by_role("slider", name="Budget of the thought")
    for label, rows in measured.items():
        budget.get_by_role("radio", name=label).check()
        slider.focus()
        page.keyboard.press("Home")
        for n in (0, 8, 16, 32):
            assert state(page, "budget_explorer", "budget", "curve", nth=1) == [n, label]
            assert board(budget) == expected(rows, n)
            assert slider.get_attribute("aria-valuetext") == f"{n} tokens"
            page.keyboard.press("ArrowRight")


def test_efforts_are_budgets_with_names(page, budget, measured):
    names = budget.get_by_role("group", name="Effort").get_by_role("button")
    assert names.all_inner_texts() == ["low: 8", "high: 32"]
    names.nth(1).click()
    assert names.nth(1).get_attribute("aria-pressed") == "true" and board(budget) == expected(measured["1 swaps"], 32)
    assert "1 swaps: effort high, a budget of 32 tokens gives 76% for 25.6 spent on average. No budget does bett" in (
        said(page, budget)
    )
    names.nth(0).focus()
    page.keyboard.press("Enter")
    told = said(page, budget)
    assert "That is 42 points below the best, at a budget of 32." in told
    assert "For comparison: not thinking, 30% for 2; sure, 99% for 30." in told


def places(budget, selector):
    centres = "all => all.map((one) => [one.cx, one.cy].map((place) => place.baseVal.value))"
    return budget.locator(f".be-plot {selector}").evaluate_all(centres)


@pytest.mark.parametrize("across", ["budget", "tokens"])
def test_the_curve_is_drawn_where_it_was_measured(page, budget, across, measured):
    budget.locator(f"input[value={across}]").check()
    points, (dot,) = places(budget, ".be-point"), places(budget, ".be-dot")
    width = budget.locator(".be-chart").evaluate("chart => chart.viewBox.baseVal.width")
    rows = measured["1 swaps"]
    most = max(row[across] for row in rows) if across == "budget" else 30  # tokens of the second mark
    for (x, y), row in zip(points, rows, strict=True):
        assert x == pytest.approx(44 + (width - 68) * row[across] / most, abs=0.1)
        assert y == pytest.approx(16 + 210 * (1 - row["accuracy"]), abs=0.1)
    assert dot == points[2]
    assert budget.locator(".be-plot .be-mark").count() == 2 and budget.locator(".be-plot .be-other").count() == 1


def test_a_single_curve_has_nothing_to_choose(page):
    plain = page.locator(".dsw-budget").first
    assert plain.locator("fieldset").count() == 1  # the axis
    assert plain.get_by_role("button").count() == 0
    assert said(page, plain).startswith("An invented model: a budget of 32 tokens gives 70%")
    assert widgets.budget_explorer().fallback().count("<li>") == 1
