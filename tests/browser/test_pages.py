"""Every page in a real browser: quiet, accessible in light and dark, and no wider than a phone."""

import json
from contextlib import contextmanager

import pytest
from axe_playwright_python.base import AXE_SCRIPT

PHONE = {"width": 390, "height": 844}
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
# A chapter has thousands of code tokens, and axe measures the contrast of each. Text that looks the same (colour, size,
# weight, what is painted behind it) is measured once: these are the elements, for each look the one with most text.
LOOKS = """() => {
  const behind = e => {
    const style = getComputedStyle(e);
    const painted = style.backgroundImage !== 'none' || style.backgroundColor !== 'rgba(0, 0, 0, 0)';
    const own = painted ? style.backgroundColor + style.backgroundImage : '';
    return own + (style.opacity !== '1' ? style.opacity : '') + (e.parentElement ? behind(e.parentElement) : '');
  };
  const looks = new Map();
  for (const e of document.querySelectorAll('article.bd-article *')) {
    const text = [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.data.trim()).join('');
    if (!text || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const look = [e.tagName === 'A', style.color, style.fontSize, style.fontWeight, behind(e)].join();
    if (!(looks.get(look)?.text.length >= text.length)) looks.set(look, { e, text });
  }
  return [...looks.values()].map(look => look.e);
}"""


def violations(page, colours):
    """axe-core's complaints about the article, one line each: about colours, or about all the rest."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    options = {"resultTypes": ["violations"], "preload": False}
    if colours:
        where, options["runOnly"] = f"{{include: ({LOOKS})()}}", {"type": "rule", "values": COLOUR_RULES}
    else:
        where, options["rules"] = "'article.bd-article'", {rule: {"enabled": False} for rule in COLOUR_RULES}
    found = page.evaluate(f"axe.run({where}, {json.dumps(options)}).then(r => r.violations)")
    return [f"{rule['id']}: {node['html'][:150]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


@contextmanager
def dark(page):
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    page.wait_for_timeout(250)  # colours may fade
    try:
        yield
    finally:
        page.emulate_media(color_scheme="light")
        page.wait_for_function("document.documentElement.dataset.theme === 'light'")


def too_wide(page):
    """Elements that reach beyond the right edge and are not inside a box that scrolls."""
    return page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          const scrolls = e => e && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
          return [...document.querySelectorAll('article.bd-article *')]
            .filter(e => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement))
            .map(e => e.outerHTML.slice(0, 150)).slice(0, 5);
        }"""
    )


def test_page_is_quiet(page):
    assert page.log.trouble == []


def test_images_arrived(page):
    broken = page.eval_on_selector_all(
        "article.bd-article img", "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    )
    assert broken == []


def test_phone_width_has_no_sideways_scroll(page):
    before = page.viewport_size
    page.set_viewport_size(PHONE)
    try:
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], too_wide(page)
        page.evaluate("window.scrollTo(1000, 0)")
        assert page.evaluate("window.scrollX") == 0
    finally:
        page.set_viewport_size(before)


def test_accessible(page):
    assert violations(page, colours=False) == []


def test_readable_in_light_mode(page):
    assert violations(page, colours=True) == []


def test_readable_in_dark_mode(page):
    with dark(page):
        assert violations(page, colours=True) == []


def test_page_stayed_quiet(page):
    """Last in this file: changing mode and width raised nothing either."""
    assert page.log.trouble == []


PLANTED = {
    "contrast": ("<p>dark</p><p style='color:#999;background:#fff'>pale</p>", True),
    "contrast on another background": ("<p>here</p><div style='background:#333'><p>there</p></div>", True),
    "contrast of one token": (
        "<pre><span>def</span> <span style='color:#aaa'>name</span> <span>end</span></pre>",
        True,
    ),
    "label": ("<input type='range'>", False),
    "alt": ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>", False),
}


@pytest.mark.parametrize(("html", "colours"), PLANTED.values(), ids=PLANTED)
def test_axe_finds_planted_errors(open_page, html, colours):
    page = open_page("about:blank")
    page.set_content(f"<main><article class='bd-article'>{html}</article></main>")
    assert len(violations(page, colours)) == 1
    page.close()
