"""Every widget on every page: alive, labelled, driven by keyboard and by mouse, and readable without JavaScript."""

import pytest
from playwright.sync_api import TimeoutError

KEYS = {
    "range": ["End", "Home", "ArrowRight"],
    "number": ["ArrowUp", "ArrowDown"],
    "text": ["x"],
    "radio": ["ArrowRight"],
    "checkbox": ["Space"],
    "select-one": ["ArrowDown", "ArrowUp"],
    "button": ["Space", "Enter"],
    "submit": ["Space", "Enter"],
    "SUMMARY": ["Enter"],
}
TOGGLES = {"checkbox", "SUMMARY"}
# Finds the native controls and marks each with its kind and its name when it was first seen, so that a control is
# known again after the widget has drawn it anew.
CONTROLS = """widget => {
  const seen = {};
  return [...widget.querySelectorAll('input, select, button, textarea, summary')].map(control => {
    const kind = control.tagName === 'SUMMARY' ? 'SUMMARY' : control.type;
    const labels = [...(control.labels || [])].map(label => label.textContent).join(' ');
    const name = (control.getAttribute('aria-label') || labels || control.textContent).trim().replace(/\\s+/g, ' ');
    const again = (seen[kind + name] = (seen[kind + name] || 0) + 1);
    if (!control.dataset.test) control.dataset.test = `${kind} ${name} ${again}`;
    return { id: control.dataset.test, kind, name, group: control.type === 'radio' ? control.name : null,
             disabled: control.disabled };
  });
}"""
FOCUSED = """widget => {
  const control = document.activeElement;
  if (!widget.contains(control) || control === widget) return null;
  const style = getComputedStyle(control), box = control.getBoundingClientRect();
  return { id: control.dataset.test, shown: box.width > 0 && box.height > 0,
           ring: control.matches(':focus-visible') && (style.outlineStyle !== 'none' || style.boxShadow !== 'none') };
}"""
# What a reader sees of the widget: a control's own value is not part of it.
LOOK = """widget => widget.innerHTML.replace(/ data-test="[^"]*"/g, '')"""


@pytest.fixture
def widgets(page):
    """The names and elements of the page's widgets; most pages have none."""
    return [(widget.get_attribute("name"), widget) for widget in page.query_selector_all("ds-widget")]


def answers(page, widget, act):
    """Whether the widget looks different soon after an action."""
    before = widget.evaluate(LOOK)
    act()
    try:
        changed = f"([widget, before]) => ({LOOK})(widget) !== before"
        page.wait_for_function(changed, arg=[widget, before], timeout=1000, polling=50)
    except TimeoutError:
        return False
    finally:
        widget.evaluate(CONTROLS)
    return True


def silent(page, widget, try_all):
    """Controls that never changed the widget, each with two chances: one may need another's change first."""
    controls = widget.evaluate(CONTROLS)
    assert controls, "a widget without controls"
    waiting = {control["id"]: control for control in controls if not control["disabled"]}
    for _ in range(2):
        answered = [waiting[identity] for identity in try_all(page, widget, waiting)]
        groups = {control["group"] for control in answered} - {None}  # one radio button speaks for its group
        done = {control["id"] for control in answered}
        waiting = {i: control for i, control in waiting.items() if i not in done and control["group"] not in groups}
    return sorted(waiting)


def by_keyboard(page, widget, waiting):
    """Tab through the widget and press each control's keys; yields those it answered to."""
    widget.evaluate("widget => { widget.setAttribute('tabindex', '-1'); widget.focus(); }")
    page.keyboard.press("Tab")
    while focused := widget.evaluate(FOCUSED):
        control = waiting.get(focused["id"])
        if control:
            assert focused["shown"] and focused["ring"], f"no visible focus on {focused['id']}"
            for key in KEYS[control["kind"]]:
                if answers(page, widget, lambda key=key: page.keyboard.press(key)):
                    yield control["id"]
                    break
            if control["kind"] in TOGGLES:
                page.keyboard.press(key)
            assert widget.evaluate(FOCUSED), f"{focused['id']} lost the focus when used"
        page.keyboard.press("Tab")


def by_mouse(page, widget, waiting):
    """Click each control (a select, whose list the system draws, is set through the browser); yields as above."""
    for identity, control in waiting.items():
        for place in (0.9, 0.1):
            element = widget.query_selector(f"[data-test='{identity}']")
            if element is None or not element.is_visible():
                break
            if answers(page, widget, lambda e=element, c=control, p=place: use(page, e, c["kind"], p)):
                yield identity
                if control["kind"] in TOGGLES:
                    use(page, element, control["kind"], place)
                break


def use(page, element, kind, place):
    if kind == "select-one":
        others = element.evaluate("s => [...s.options].map(o => o.index).filter(i => i !== s.selectedIndex)")
        element.select_option(index=others[int(place * len(others))])
    elif kind == "text":
        element.fill(f"to type {place}")
    elif kind == "number":
        element.fill(element.get_attribute("max" if place > 0.5 else "min") or str(int(10 * place)))
        element.press("Tab")
    else:
        element.scroll_into_view_if_needed()
        box = element.bounding_box()
        page.mouse.click(box["x"] + place * box["width"], box["y"] + box["height"] / 2)


def test_every_control_has_a_name(widgets):
    nameless = [control["id"] for _, widget in widgets for control in widget.evaluate(CONTROLS) if not control["name"]]
    assert nameless == []


def test_every_control_answers_the_keyboard(page, widgets):
    assert {name: silent(page, widget, by_keyboard) for name, widget in widgets} == {name: [] for name, _ in widgets}


def test_every_control_answers_the_mouse(page, widgets):
    assert {name: silent(page, widget, by_mouse) for name, widget in widgets} == {name: [] for name, _ in widgets}


def test_widgets_raised_nothing(page):
    assert page.log.trouble == []


def test_fallback_is_shown_without_javascript(browser, address, name, widgets):
    if not widgets:
        return
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{name}.html")
    for widget in page.query_selector_all("ds-widget"):
        assert widget.is_visible() and len(widget.inner_text().strip()) >= 20
    context.close()


PLANTED = {
    "a button that does nothing": "<button>Idle</button>",
    "a slider that only moves itself": "<label>x <input type='range' max='9'></label>",
    "a control behind the keyboard's back": "<button tabindex='-1' onclick='this.parentNode.append(1)'>Hidden</button>",
}


@pytest.mark.parametrize("html", PLANTED.values(), ids=PLANTED)
def test_a_planted_dead_control_is_found(open_page, html):
    page = open_page("about:blank")
    live = "<button onclick='this.nextSibling.textContent += 1'>Count</button><output>0</output>"
    page.set_content(f"<ds-widget>{live}{html}</ds-widget>")
    (found,) = silent(page, page.query_selector("ds-widget"), by_keyboard)
    assert "Count" not in found
    page.close()
