"""The sparsity explorer in a browser: mouse, keyboard, numbers that are Python's, marks where the tokens are."""

import pytest
from lean_attention import LEAN, LEAN_WORDS

from dsmini import widgets
from dsmini.accounting import recall

NAMES = ("dense", "indexer", "window", "random", "oracle")


@pytest.fixture
def explorer(page):
    return page.locator(".dsw-sparsity").first


@pytest.fixture
def lean(page):
    return page.locator(".dsw-sparsity").nth(1)


def said(page, widget):
    page.wait_for_timeout(400)  # the live region waits until a control rests
    return widget.locator("[aria-live=polite]").inner_text()


def put(page, **traits):
    """Set traits as Python would."""
    page.evaluate("""traits => { const { model } = document.querySelector("ds-widget[name=sparsity]");
                     Object.entries(traits).forEach((trait) => model.set(...trait)); }""", traits)  # fmt: skip


def state(page, *traits):
    return page.evaluate("""traits => { const { model } = document.querySelector("ds-widget[name=sparsity]");
                            return traits.map((trait) => model.get(trait)); }""", traits)  # fmt: skip


def shown(widget, table="methods"):
    rows = widget.locator(f".sp-{table} tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def percent(share):
    return "100%" if share > 0.9995 else "< 0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


@pytest.mark.parametrize(("layer", "query", "k"), [(0, 1, 1), (0, 3, 16), (1, 8, 32)])
def test_methods_show_what_the_accounting_says(page, explorer, layer, query, k):
    own = widgets.sparsity()
    put(page, layer=layer, query=query, k=k)
    row = own.rows(layer)[query - 1]
    for (name, tokens, here, mean, found), method in zip(shown(explorer), NAMES, strict=True):
        places = recall.chosen(method, *row, k)
        assert (name, int(tokens)) == (method, len(places))
        assert here == percent(recall.recall(row[0], places))
        assert mean == percent(own.mean_recall(layer, method)[k - 1])
        assert found == f"{own.needles_found(layer, method, k)} of 8"


BARS = """map => {
  const line = map.querySelectorAll(".sp-ground").length, size = (192 / line) | 0;
  const cell = (map.viewBox.baseVal.width - 32) / size;
  const numbers = (d) => d.match(/[-.\\d]+/g).map(Number);
  const boxes = (name) => map.querySelector(name).getAttribute("d").split("M").slice(1).map(numbers);
  const place = ([x, y]) => Math.floor(y / 57) * size + Math.round((x - 30) / cell);
  const tip = numbers(map.querySelector(".sp-needle").getAttribute("d"));
  return { read: boxes(".sp-read").map(([x, y, w, high]) => [place([x, y]), high]), feet: boxes(".sp-foot").map(place),
           other: boxes(".sp-bar:not(.sp-read)").map(([x, y, w, high]) => [place([x, y]), high]),
           needle: place([tip[0] - cell / 2, tip[1]]) };
}"""


@pytest.mark.parametrize("method", NAMES)
def test_marks_stand_where_the_tokens_are(new_page, folder, method):
    page = new_page(viewport={"width": 390, "height": 800})  # 64 tokens a line: three full lines
    page.goto((folder / "page.html").as_uri())
    put(page, layer=1, query=6, k=9, method=method)
    own = widgets.sparsity()
    weights, query, orders = own.rows(1)[5]
    marks = page.locator(".sp-map").first.evaluate(BARS)
    places = recall.chosen(method, weights, query, orders, 9)
    assert [place for place, _ in marks["read"]] == marks["feet"] == places
    assert sorted(place for place, _ in marks["other"]) == sorted(set(range(query + 1)) - set(places))
    assert marks["needle"] == own.needles[5]
    heights = [height for _, height in sorted(marks["read"] + marks["other"])]
    assert heights == pytest.approx([34 * (w / max(weights)) ** 0.5 for w in weights[: query + 1]], abs=0.006)


def test_explorer_answers_to_the_mouse(page, explorer):
    for name in NAMES:
        explorer.locator(f"input[value={name}]").check()
        assert state(page, "method") == [name]
        assert explorer.locator(".sp-shown th").inner_text() == name
    explorer.get_by_role("group", name="Layer").get_by_label("1").check()
    explorer.get_by_role("button", name="Next").click()
    explorer.get_by_role("button", name="Next").click()
    explorer.get_by_role("button", name="Prev").click()
    assert state(page, "layer", "query") == [1, 2]
    assert explorer.locator("output").nth(1).inner_text() == "2 of 8: place 165"
    slider = explorer.get_by_role("slider", name="Tokens that")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert state(page, "k") == [32]


def test_explorer_answers_to_keys(page, explorer):
    explorer.get_by_role("slider", name="Query", exact=True).focus()
    page.keyboard.press("End")
    assert state(page, "query") == [8]
    explorer.get_by_role("slider", name="Tokens that").focus()
    page.keyboard.press("Home")
    assert state(page, "k") == [1]
    page.keyboard.press("ArrowRight")
    explorer.get_by_role("radio", name="lightning").focus()
    page.keyboard.press("ArrowRight")
    assert state(page, "k", "method") == [2, "window"]
    assert page.evaluate("document.activeElement.value") == "window"


def test_board_and_sentence_tell_the_query(page, explorer):
    own = widgets.sparsity()
    put(page, layer=1, query=4, k=16)
    weights, query, orders = own.rows(1)[3]
    kept = {name: percent(recall.recall(weights, recall.chosen(name, weights, query, orders, 16))) for name in NAMES}
    needle = own.needles[3]
    assert needle in recall.chosen("indexer", weights, query, orders, 16)
    assert said(page, explorer) == (
        f"The lightning indexer’s 16 tokens keep {kept['indexer']} of this query’s attention, where the heaviest "
        f"would keep {kept['oracle']}. The needle, place {needle}, is among them."
    )
    numbers = explorer.locator(".sp-count strong").all_inner_texts()
    assert numbers == [kept["indexer"], kept["oracle"], f"16 of {query + 1}", "✓ read"]
    explorer.get_by_role("radio", name="window").check()
    assert said(page, explorer) == (
        f"The latest 16 tokens keep {kept['window']} of this query’s attention; the heaviest would keep "
        f"{kept['oracle']}. The needle, {query - needle} places back, is not among them."
    )
    assert explorer.locator(".sp-count strong").all_inner_texts()[3] == "✗ missed"
    explorer.get_by_role("radio", name="oracle").check()
    assert f"in full. The needle, place {needle}, is among them." in said(page, explorer)
    explorer.get_by_role("radio", name="random").check()
    assert f"16 tokens drawn at random keep {kept['random']}" in said(page, explorer)
    explorer.get_by_role("radio", name="dense").check()
    assert said(page, explorer) == (
        f"Dense attention reads all {query + 1} tokens. The 16 heaviest tokens alone would keep {kept['oracle']}."
    )


def test_curves_are_the_means(page, explorer):
    own = widgets.sparsity()
    put(page, layer=1)
    for name in NAMES:
        d = explorer.locator(f".sp-line.sp-{name}").get_attribute("d")
        heights = [float(point.split(" ")[1]) for point in d[1:].split("L")]
        assert heights == pytest.approx([180 - 170 * share for share in own.mean_recall(1, name)], abs=0.051)
    dashes = "lines => lines.map(line => getComputedStyle(line).strokeDasharray)"
    assert len(set(explorer.locator(".sp-line").evaluate_all(dashes))) == 4  # the dense line lies alone, at the top


def test_names_of_curves_that_end_together_stay_apart(page):
    sharp = {**LEAN, "attention": [[[float(place == 4) for place in range(20)]]], "indexer": [[[4, 5, 9, 0]]]}
    page.evaluate("html => document.querySelector('article').insertAdjacentHTML('beforeend', html)",
                  widgets.sparsity(sharp).to_html())  # fmt: skip
    for at in range(3):  # in the last, four of the five end at 100%
        names = page.locator(".dsw-sparsity").nth(at).locator(".sp-name")
        heights = sorted(names.evaluate_all("names => names.map(name => Number(name.getAttribute('y')) - 4)"))
        assert heights[0] >= 10 and heights[-1] <= 180
        assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) > 13.99


def test_a_needle_s_row_names_it(page, explorer):
    own = widgets.sparsity()
    rows = shown(explorer, "heaviest")
    weights, query, orders = own.rows(0)[0]
    best = sorted(range(query + 1), key=lambda place: -weights[place])[:6]
    assert [int(row[0].split()[0]) for row in rows] == best
    assert [row[1] for row in rows] == [percent(weights[place] / sum(weights)) for place in best]
    ranks = [str(orders["indexer"].index(p) + 1) if p in orders["indexer"] else "> 32" for p in best]
    assert [row[2] for row in rows] == ranks
    taken = orders["indexer"][:16]
    assert [row[3] for row in rows] == ["✓ yes" if place in taken else "✗ no" for place in best]
    assert [row[0].endswith("▼ needle") for row in rows] == [place == own.needles[0] for place in best]


def test_little_is_shown_where_there_is_little(page, lean):
    """One layer, one query, no needle: no control without a choice, no word of needles; words are shown as they are."""
    assert lean.locator("input[type=radio]").count() == 5 and lean.locator("input[type=range]").count() == 1
    assert "eedle" not in "".join(lean.locator(".sp-keys, table, .dsw-verdict").all_inner_texts())
    assert lean.locator(".sp-count strong").all_inner_texts() == ["56.8%", "56.8%", "2 of 10"]
    assert [row[1] for row in shown(lean, "heaviest")][:2] == ["word 4 and mo…", "<b>"]
    own = widgets.sparsity(LEAN, words=LEAN_WORDS, k=2)
    assert shown(lean)[1] == ["indexer", "2", percent(own.mean_recall(0, "indexer")[1])]
    lean.get_by_role("slider").fill("4")
    assert shown(lean)[2] == ["window", "4", "27.2%"]


def test_a_query_without_a_needle_stands_among_others(page):
    twice = {name: [rows[0] * 2] if name in ("attention", "indexer") else rows * 2 for name, rows in LEAN.items()}
    own = widgets.sparsity(twice, needles=[None, 4], k=1, query=2)
    page.evaluate("html => document.querySelector('article').insertAdjacentHTML('beforeend', html)", own.to_html())
    widget = page.locator(".dsw-sparsity").nth(2)
    assert widget.locator(".sp-count strong").all_inner_texts()[3] == "✗ missed"
    assert [row[4] for row in shown(widget)] == ["1 of 1", "0 of 1", "0 of 1", "0 of 1", "1 of 1"]
    assert widget.locator(".sp-map .sp-needle").count() == 1
    widget.get_by_role("button", name="Prev").click()
    assert widget.locator(".sp-count strong").all_inner_texts()[3] == "none"
    assert widget.locator(".sp-map .sp-needle").count() == 0 and "eedle" not in said(page, widget)
