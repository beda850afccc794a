"""The widgets in a browser, from a file and without network: mouse, keyboard, narrow pages, dark mode, no script."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe

from dsmini.widgets import bundle, kv_calculator

CONTROLS = "ds-widget :is(input, select, button, summary)"


def test_every_widget_runs_from_a_file(page):
    assert page.locator("ds-widget .dsw").count() == page.locator("ds-widget").count() == 16


# ---- timeline ---------------------------------------------------------------------------------------------------


def test_timeline_answers_to_clicks(page):
    timeline = page.locator(".dsw-timeline")
    timeline.get_by_role("button", name="DeepSeek-R1-0528").click()
    assert timeline.locator(".tl-name").inner_text() == "DeepSeek-R1-0528"
    assert timeline.locator("[aria-pressed=true]").count() == 1
    timeline.get_by_role("button", name="Next").click()
    assert timeline.locator(".tl-name").inner_text() == "DeepSeek-V3.1"
    timeline.get_by_role("button", name="Prev", exact=True).click()
    timeline.get_by_role("button", name="Prev", exact=True).click()
    assert timeline.locator(".tl-name").inner_text() == "DeepSeek-V3-0324"
    page.wait_for_timeout(400)
    assert "DeepSeek-V3-0324, 24 March 2025" in timeline.locator("[aria-live=polite]").inner_text()


def test_timeline_answers_to_keys(page):
    timeline = page.locator(".dsw-timeline")
    timeline.locator("input[type=range]").focus()
    page.keyboard.press("End")
    assert "V4" in timeline.locator(".tl-name").inner_text()
    page.keyboard.press("ArrowLeft")
    assert timeline.locator(".tl-name").inner_text() == "DeepSeek-V3.2-Speciale"
    mark = timeline.get_by_role("button", name="DeepSeek-V2, ")
    mark.focus()
    page.keyboard.press("Enter")
    assert timeline.locator(".tl-name").inner_text() == "DeepSeek-V2"


def test_timeline_hides_a_family_and_moves_on_from_it(page):
    timeline = page.locator(".dsw-timeline")
    timeline.get_by_role("button", name="DeepSeek-V3.1, ").click()
    box = timeline.get_by_role("checkbox", name="Hybrid")
    box.focus()
    page.keyboard.press("Space")
    assert not box.is_checked()
    assert timeline.get_by_role("button", name="DeepSeek-V3.1, ").count() == 0
    assert timeline.locator(".tl-name").inner_text() == "DeepSeek-R1-0528"  # the nearest in time
    assert "of 14" in timeline.locator("output").inner_text()
    for name in ("Base and chat", "Dedicated reasoning", "Mathematics", "After this book"):
        timeline.get_by_role("checkbox", name=name).uncheck()
    assert timeline.locator("output").inner_text() == "nothing is shown"
    box.check()
    assert timeline.locator("output").inner_text() == "4 of 4: DeepSeek-V3.2"


def test_timeline_marks_stand_in_time(page):
    place = """names => names.map(name => {
      const svg = document.querySelector(`.tl-mark[aria-label^="${name}"] .tl-icon`).getBoundingClientRect();
      return svg.left + svg.width / 2;
    })"""
    first, second, third = page.evaluate(place, ["DeepSeek-V3, ", "DeepSeek-R1 and", "DeepSeek-V3.2, "])
    # 2024-12-26 to 2025-01-20 are 25 days, to 2025-12-01 340
    assert (second - first) / (third - first) == pytest.approx(25 / 340, abs=0.005)
    boxes = page.evaluate("""() => [...document.querySelectorAll(".tl-mark")].map(mark => {
      const { left, right, top, bottom } = mark.getBoundingClientRect();
      return [left, right, top, bottom];
    })""")
    for i, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[:i]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top, "two labels overlap"


def test_timeline_links_the_chapters_that_the_page_knows(page):
    timeline = page.locator(".dsw-timeline")
    timeline.get_by_role("button", name="DeepSeek-V2, ").click()
    assert timeline.locator("dd").last.inner_text() == "chapters 2, 3"
    assert timeline.locator("dd a").count() == 0
    page.evaluate(
        """() => document.body.insertAdjacentHTML("beforeend", '<nav><a href="../a/02_mla.html">MLA</a></nav>')"""
    )
    timeline.get_by_role("button", name="Next").click()
    timeline.get_by_role("button", name="Prev", exact=True).click()
    assert timeline.locator("dd a").get_attribute("href") == "../a/02_mla.html"
    assert timeline.locator("dd").last.inner_text() == "chapters 2, 3"


# ---- KV-cache calculator ----------------------------------------------------------------------------------------


def test_calculator_answers_to_the_mouse(page):
    calculator = page.locator(".dsw-kv").first
    verdict = calculator.locator("[aria-live=polite]")
    assert verdict.inner_text().startswith("DeepSeek-V3 / R1 / V3.1 caches 8.58 GiB for 131,072 tokens, 57 times less")
    slider = calculator.get_by_role("slider", name="Context")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.86, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert calculator.locator("output").first.inner_text() == "1,024 tokens"
    assert calculator.locator(".kv-own .kv-size").inner_text() == "68.6 MiB"
    page.wait_for_timeout(400)
    assert "caches 68.6 MiB for 1,024 tokens" in verdict.inner_text()
    calculator.get_by_text("640: eight").click()
    assert calculator.get_by_label("GPU memory").input_value() == "640"


def test_calculator_answers_to_keys(page):
    calculator = page.locator(".dsw-kv").first
    calculator.get_by_role("slider", name="Batch").focus()
    page.keyboard.press("End")
    assert calculator.locator(".kv-own .kv-size").inner_text() == "2.14 TiB"
    assert "GPUs" in calculator.locator(".kv-own .kv-fit").inner_text()
    calculator.get_by_role("radio", name="bf16").focus()
    page.keyboard.press("ArrowRight")
    assert calculator.locator(".kv-own .kv-size").inner_text() == "1.07 TiB"
    calculator.get_by_role("checkbox", name="log scale").focus()
    widths = [calculator.locator(".kv-bar").nth(1).evaluate("bar => bar.offsetWidth")]
    page.keyboard.press("Space")
    page.wait_for_timeout(300)
    widths.append(calculator.locator(".kv-bar").nth(1).evaluate("bar => bar.offsetWidth"))
    assert widths[0] != widths[1]


def test_calculator_shows_what_the_accounting_says(page):
    calculator = page.locator(".dsw-kv").first
    sizes = dict(zip(calculator.locator(".kv-name strong").all_inner_texts(),
                     calculator.locator(".kv-size").all_inner_texts(), strict=True))  # fmt: skip
    assert sizes == {"MHA": "488 GiB", "GQA-8": "30.5 GiB", "MQA": "3.81 GiB", "MLA": "8.58 GiB"}
    rows = [row.split("\t") for row in calculator.locator("tbody tr").all_inner_texts()]
    assert ["Llama-3.1-405B GQA-8", "516,096 B", "63.0 GiB", "166,440"] in rows
    calculator.get_by_label("Model").select_option("deepseek-v3.2")
    for layout, size in (
        ("fp8-index", "9.56 GiB"),
        ("production", "5.87 GiB"),
        ("expanded", "610 GiB"),
        ("plain", "10.5 GiB"),
    ):
        calculator.get_by_label("Cache layout").select_option(layout)
        assert calculator.locator(".kv-own .kv-size").inner_text() == size
    calculator.get_by_label("Cache layout").select_option("fp8-index")
    calculator.get_by_label("Model").select_option("qwen3-235b-a22b")
    assert calculator.get_by_label("Cache layout").input_value() == "plain"
    assert calculator.locator(".kv-name strong").all_inner_texts() == ["MHA", "GQA-8", "GQA-4", "MQA", "MLA"]
    assert calculator.locator(".kv-own .kv-size").inner_text() == "23.5 GiB"


def test_calculator_ignores_a_number_that_is_none(page):
    calculator = page.locator(".dsw-kv").first
    memory = calculator.get_by_label("GPU memory")
    memory.fill("")
    assert "80 GiB of GPU memory" in calculator.locator(".kv-limit").inner_text()
    memory.fill("40")
    assert "40 GiB of GPU memory" in calculator.locator(".kv-limit").inner_text()


def test_copies_do_not_clash(page):
    ids = page.evaluate("() => [...document.querySelectorAll('ds-widget [id]')].map(node => node.id)")
    assert len(ids) == len(set(ids)) > 10
    first, second = page.locator(".dsw-kv").nth(0), page.locator(".dsw-kv").nth(1)
    first.get_by_role("radio", name="fp8").check()
    assert second.get_by_role("radio", name="bf16").is_checked()
    assert "4,096 tokens" in second.locator("[aria-live=polite]").inner_text()


# ---- absorption -------------------------------------------------------------------------------------------------


def test_absorption_walks_by_mouse(page):
    widget = page.locator(".dsw-absorption")
    for step in range(2, 9):
        widget.get_by_role("button", name="Next").click()
        assert widget.locator(".ab-open .ab-number").inner_text() == str(step)
    assert widget.get_by_role("button", name="Next").get_attribute("aria-disabled") == "true"
    widget.get_by_role("button", name="Next").click(force=True)  # as a reader can
    assert widget.locator(".ab-open .ab-number").inner_text() == "8"
    totals = [text.split(" of ") for text in widget.locator(".ab-value").all_inner_texts()]
    assert totals == [[now, now] for now in ("369 MFLOP", "1.17 GFLOP", "320 MiB", "4.50 MiB")]
    widget.locator(".ab-head").nth(3).click()
    assert widget.locator(".ab-price").all_inner_texts() == ["134 MFLOP, 128 MiB read", "537 MFLOP, 4.00 MiB read"]


def test_absorption_walks_by_keys(page):
    widget = page.locator(".dsw-absorption")
    widget.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    assert widget.locator(".ab-open .ab-number").inner_text() == "2"
    widget.locator(".ab-head").nth(5).focus()
    page.keyboard.press("Enter")
    assert widget.locator(".ab-open .ab-number").inner_text() == "6"
    assert page.evaluate("document.activeElement.className") == "ab-head"  # the focus stays on the step
    widget.get_by_role("slider", name="Tokens in the cache").focus()
    page.keyboard.press("End")
    assert widget.locator("output").first.inner_text() == "163,840 tokens"
    widget.get_by_role("radio", name="caches keys").focus()
    page.keyboard.press("ArrowDown")
    assert "takes 121 times less arithmetic" in widget.locator(".dsw-verdict").inner_text()


def test_absorption_takes_a_mini(page):
    widget = page.locator(".dsw-absorption")
    widget.get_by_label("Model").select_option("mini")
    assert widget.locator("output").first.inner_text() == "1,024 tokens"
    widget.get_by_role("slider", name="Tokens in the cache").focus()
    page.keyboard.press("Home")
    assert widget.locator("output").first.inner_text() == "16 tokens"


# ---- every widget -----------------------------------------------------------------------------------------------


def test_every_control_is_native_and_has_a_label(page):
    nameless = page.evaluate(
        """selector => [...document.querySelectorAll(selector)]
          .filter(control => !(control.labels?.length || control.innerText.trim()))
          .map(control => control.outerHTML)""",
        CONTROLS,
    )
    assert nameless == []
    assert page.locator("ds-widget :is([tabindex], [role=slider], [role=button], [onclick])").count() == 0


def test_tab_reaches_every_control_and_shows_the_focus(page):
    wanted = page.evaluate(
        """selector => [...document.querySelectorAll(selector)].filter(control =>
          !control.disabled && !control.hidden && (control.type !== "radio" || control.checked)).length""",
        CONTROLS,
    )
    seen = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        focus = page.evaluate("""() => {
          const style = getComputedStyle(document.activeElement);
          const inside = document.activeElement.closest("ds-widget") !== null;
          return [inside, style.outlineStyle, parseFloat(style.outlineWidth)];
        }""")
        seen.append(focus)
    assert all(inside and style == "solid" and width >= 2 for inside, style, width in seen)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('ds-widget')") is None


@pytest.mark.parametrize("width", [320, 390, 620, 700, 1200])
def test_no_width_scrolls_sideways(new_page, folder, width):
    page = new_page(viewport={"width": width, "height": 800})
    page.goto((folder / "page.html").as_uri())
    for preset in ("llama-3-70b", "deepseek-v3.2"):
        page.locator(".dsw-kv").first.get_by_label("Model").select_option(preset)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate("""() => [...document.querySelectorAll(".dsw")].flatMap(root => {
      const { left, right } = root.getBoundingClientRect();
      return [...root.querySelectorAll("*")].filter(node => {
        const box = node.getBoundingClientRect();
        return box.width > 1 && (box.right > right + 1 || box.left < left - 1);
      }).map(node => node.outerHTML.slice(0, 120));
    })""")
    assert outside == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 900])
def test_axe_finds_nothing(new_page, folder, theme, width):
    page = new_page(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    page.goto((folder / "page.html").as_uri())
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    page.locator(".dsw-absorption .ab-head").nth(3).click()
    page.locator(".dsw-kv").first.get_by_label("Model").select_option("deepseek-v2")
    page.locator(".dsw-router").get_by_role("group", name="Groups kept").get_by_label("2").check()
    report = Axe().run(page, context="ds-widget", options={"preload": False})
    assert report.violations_count == 0, report.generate_report()


def test_motion_stops_where_it_is_not_wanted(new_page, folder):
    page = new_page(reduced_motion="reduce")
    page.goto((folder / "page.html").as_uri())
    moving = page.evaluate("""() => [...document.querySelectorAll("ds-widget *")].filter(node =>
      !getComputedStyle(node).transitionDuration.split(", ").every(time => parseFloat(time) === 0)).length""")
    assert moving == 0


def test_without_javascript_the_fallback_stands(new_page, folder):
    page = new_page(java_script_enabled=False)
    page.goto((folder / "page.html").as_uri())
    text = page.locator("article").inner_text()
    assert "8.58 GiB for 131,072 tokens" in text
    assert "18 releases" in text
    assert page.locator(".dsw").count() == 0


def test_a_broken_element_keeps_its_fallback(new_page, folder, tmp_path):
    page = new_page()
    (tmp_path / "page.html").write_text(
        f'<script defer src="{(folder / "widgets.js").as_uri()}"></script>'
        '<ds-widget name="clock" props="{}"><p>half past</p></ds-widget>'
        "<ds-widget name=\"timeline\" props='{'><p>soon</p></ds-widget>"
    )
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("ds-widget").all_inner_texts() == ["half past", "soon"]
    assert len(page.complaints) == 2
    assert "no widget of this name" in page.complaints[0]
    page.complaints.clear()


def test_a_removed_widget_leaves_nothing_behind(page):
    left = page.evaluate("""async () => {
      const element = document.querySelector("ds-widget[name=kv_calculator]");
      const listeners = () => [...element.model.listeners.values()].reduce((all, set) => all + set.size, 0);
      const before = listeners();
      const parent = element.parentNode;
      parent.append(element);                       // moved: it goes on
      await new Promise((done) => setTimeout(done));
      const moved = listeners();
      element.remove();
      await new Promise((done) => setTimeout(done));
      const removed = listeners();
      element.model.set("context", 2048);
      parent.append(element);                       // back again, as it was left
      const shown = element.querySelector("output").value;
      return [before, moved, removed, listeners(), element.querySelectorAll(".dsw").length, shown];
    }""")
    assert left[0] == left[1] == left[3] > 0
    assert left[2] == 0
    assert left[4:] == [1, "2,048 tokens"]


def test_the_module_keeps_anywidgets_contract(new_page):
    """What JupyterLab does: import the module, render with Jupyter's model, change a trait from Python."""
    page = new_page(viewport={"width": 900, "height": 900})
    result = page.evaluate(
        """async ([source, values]) => {
          const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
          const { default: widget } = await import(url);
          const listeners = {}, saved = [];
          const model = {
            get: (name) => values[name],
            set: (name, value) => { values[name] = value; (listeners[`change:${name}`] || []).forEach((f) => f()); },
            on: (event, f) => (listeners[event] ||= []).push(f),
            off: (event, f) => { listeners[event] = listeners[event].filter((other) => other !== f); },
            save_changes: () => saved.push({ ...values }),
          };
          const el = document.body.appendChild(document.createElement("div"));
          const end = widget.render({ model, el });
          model.set("context", 32768);              // Python
          const shown = el.querySelector("output").value;
          const slider = el.querySelector("input[type=range]");
          slider.value = 0;                         // the reader
          slider.dispatchEvent(new Event("input"));
          end();
          return [shown, saved.at(-1).context, Object.values(listeners).flat().length];
        }""",
        [bundle.module("kv_calculator"), json.loads(json.dumps(kv_calculator().props()))],
    )
    assert result == ["32,768 tokens", 1024, 0]
