"""The router, the tape and the tiles in a browser: mouse, keyboard, a player that stops, numbers that are Python's."""

import pytest

from dsmini import widgets
from dsmini.accounting import float8, routing, speculation
from dsmini.widgets import faces_v3


def said(page, widget):
    page.wait_for_timeout(400)  # the live region waits until a control rests
    return widget.locator("[aria-live=polite]").inner_text()


# ---- the router -------------------------------------------------------------------------------------------------


@pytest.fixture
def router(page):
    return page.locator(".dsw-router")


def place(router):
    """(batch, token) where the reader stands."""
    return tuple(int(text.split()[0]) for text in router.locator("output").all_inner_texts())


def shown_loads(router):
    return [int(text) for text in router.locator(".rt-load").all_inner_texts()]


def expected(batch, token, gamma=0.01, k=2, kept=4):
    own = widgets.router()
    data = [faces_v3.unpack_scores(text, 16) for text in own.scores]
    bias = routing.balanced_run(data, batch, gamma, k, 4, kept).biases[-1]
    choices = [routing.route(scores, bias, k, 4, kept) for scores in data[(batch - 1) % 8][:token]]
    return bias, choices[-1], routing.expert_load(choices, 16)


def test_router_shows_what_the_accounting_says(page, router):
    router.get_by_role("group", name="Groups kept").get_by_label("2").check()
    for _ in range(11):
        router.get_by_role("button", name="Next").first.click()
    router.get_by_role("slider", name="Token").focus()
    page.keyboard.press("End")
    assert place(router) == (12, 64)
    bias, choice, load = expected(12, 64, kept=2)
    assert shown_loads(router) == load
    chosen = {int(row.split()[0]): row.split()[2] for row in router.locator(".rt-chosen").all_inner_texts()}
    assert chosen == {e: f"{w:.2f}" for e, w in zip(choice.experts, choice.weights, strict=True)}
    shown = [text.strip("▲▼").replace("−", "-") for text in router.locator(".rt-bias").all_inner_texts()]
    assert [float(text) for text in shown] == pytest.approx(bias, abs=0.0051)
    groups = router.locator("caption").all_inner_texts()
    assert ["out" in text for text in groups] == [g not in choice.kept for g in range(4)]
    told = said(page, router)
    assert "The batch is complete" in told and all(f"{e} (weight" in told for e in choice.experts)
    router.get_by_role("slider", name="Token").focus()
    for _ in range(50):
        page.keyboard.press("ArrowLeft")
    assert shown_loads(router) == expected(12, 14, kept=2)[2]


def test_router_arrows_follow_the_sign_rule(page, router):
    router.get_by_role("slider", name="Token").focus()
    assert router.locator(".rt-up, .rt-down").count() == 0
    page.keyboard.press("End")
    load = expected(1, 64)[2]
    mean = sum(load) / 16
    arrows = [text.strip("+−.0123456789") for text in router.locator(".rt-bias").all_inner_texts()]
    assert arrows == ["▲" if n < mean else "▼" if n > mean else "" for n in load]


def test_router_without_bias_stands_still(page, router):
    router.get_by_role("radio", name="off").check()
    assert "With γ = 0 nothing moves" in router.locator(".dsw-verdict").inner_text()
    router.get_by_role("slider", name="Batch").focus()
    page.keyboard.press("End")
    assert set(router.locator(".rt-bias").all_inner_texts()) == {"0"}
    verdict = router.locator(".dsw-verdict").inner_text()
    router.get_by_role("radio", name="0.01").check()
    assert router.locator(".dsw-verdict").inner_text() != verdict
    assert "MaxVio over the last 8 batches is 0.19" in router.locator(".dsw-verdict").inner_text()


def test_router_offers_no_impossible_choice(page, router):
    router.get_by_role("group", name="Groups kept").get_by_label("1").check()
    experts = router.get_by_role("group", name="Experts for each token")
    assert [experts.get_by_label(str(k), exact=True).is_disabled() for k in (1, 2, 4, 8)] == [False, False, False, True]
    experts.get_by_label("4", exact=True).check()
    router.get_by_role("group", name="Groups kept").get_by_label("all").check()
    experts.get_by_label("8", exact=True).check()
    assert router.get_by_role("group", name="Groups kept").get_by_label("1").is_disabled()
    assert router.locator(".rt-chosen").count() == 8


def test_router_plays_and_stops(page, router):
    router.get_by_label("Pace").select_option("fast")
    play = router.get_by_role("button", name="Play")
    play.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => Number(document.querySelectorAll('.dsw-router output')[1].value.split(' ')[0]) > 3")
    router.get_by_role("button", name="Pause").click()
    assert router.get_by_role("button", name="Play").count() == 1
    stopped = place(router)
    page.wait_for_timeout(500)
    assert place(router) == stopped
    router.get_by_role("radio", name="a batch").check()
    router.get_by_role("button", name="Play").click()
    page.wait_for_function("() => Number(document.querySelector('.dsw-router output').value.split(' ')[0]) > 2")
    router.get_by_role("button", name="Prev").first.click()  # moving by hand stops it
    stopped = place(router)
    page.wait_for_timeout(400)
    assert place(router) == stopped and stopped[1] == 64


def test_router_stops_at_the_end_and_on_leaving(page, router):
    router.get_by_label("Pace").select_option("fast")
    router.get_by_role("slider", name="Batch").focus()
    page.keyboard.press("End")
    router.get_by_role("radio", name="a batch").check()
    router.get_by_role("button", name="Play").click()
    assert router.get_by_role("button", name="Play").count() == 1
    page.keyboard.press("Enter")
    router.get_by_role("slider", name="Batch").focus()
    page.keyboard.press("Home")
    router.get_by_role("button", name="Play").click()
    left = page.evaluate("""async () => {
      const element = document.querySelector("ds-widget[name=router]");
      element.remove();
      await new Promise((done) => setTimeout(done));
      const before = element.model.get("batch");
      await new Promise((done) => setTimeout(done, 400));
      return element.model.get("batch") - before;
    }""")
    assert left == 0


def test_a_calm_reader_s_router_plays_slowly(new_page, folder):
    page = new_page(reduced_motion="reduce")
    page.goto((folder / "page.html").as_uri())
    router = page.locator(".dsw-router")
    router.get_by_label("Pace").select_option("fast")
    router.get_by_role("button", name="Play").click()
    page.wait_for_timeout(700)
    assert place(router) == (1, 2)  # the first step at once, the next after a second


# ---- the tape ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tape(page):
    return page.locator(".dsw-tape")


def test_tape_walks_by_keys_and_counts(page, tape):
    steps = widgets.mtp_tape().tapes[0]["steps"]
    tape.get_by_role("slider", name="Forward pass").focus()
    for n in range(1, len(steps) + 1):
        now = steps[:n]
        kept, written = (sum(step[name] for step in now) for name in ("accepted", "count"))
        counts = tape.locator(".tp-count strong").all_inner_texts()
        assert counts[:2] == [str(n), str(written)]
        assert [float(text.strip("%")) for text in counts[2:]] == pytest.approx([written / n, 100 * kept / n], abs=0.51)
        assert float(counts[2]) == pytest.approx(written / n, abs=0.0051)
        assert tape.locator(".tp-current .tp-chip").count() == 2
        assert tape.locator(".tp-current .tp-sign").first.inner_text() == ("✓" if now[-1]["accepted"] else "✗")
        page.keyboard.press("ArrowRight")
    assert tape.locator(".tp-later").count() == 0
    assert tape.get_by_role("button", name="Next").get_attribute("aria-disabled") == "true"


def test_tape_explains_a_rejection(page, tape):
    steps = widgets.mtp_tape().tapes[0]["steps"]
    at = next(i for i, step in enumerate(steps) if not step["accepted"])
    step = steps[at]
    for _ in range(at):
        tape.get_by_role("button", name="Next").click()
    p, q = ([row[i] for row in step["top"]] for i in (1, 2))
    left = speculation.residual(p, q)
    shown = [text.split("\t")[-1] for text in tape.locator(".tp-table tbody tr").all_inner_texts()]
    assert [float(text) for text in shown] == pytest.approx(left, abs=0.0051)
    told = float(tape.locator(".tp-rule").inner_text().split("=")[-1])
    assert told == pytest.approx(step["p"] / step["q"], abs=0.0051)
    assert f"goes, “{step['token'].strip()}” stands in its place" in said(page, tape)
    assert tape.locator(".tp-table .tp-written th").inner_text() == "␣" + step["token"].strip()


def test_tape_goes_greedy(page, tape):
    tape.get_by_role("slider", name="Forward pass").focus()
    page.keyboard.press("End")
    tape.get_by_role("radio", name="greedy").check()
    steps = widgets.mtp_tape().tapes[1]["steps"]
    assert tape.locator("output").first.inner_text() == f"{len(steps)} of {len(steps)}"
    assert page.evaluate("document.querySelector('ds-widget[name=mtp_tape]').model.get('step')") == len(steps)
    tape.get_by_role("slider", name="Forward pass").focus()
    page.keyboard.press("Home")
    for step in steps:
        assert tape.locator(".tp-equal").inner_text() == ("=" if step["accepted"] else "≠")
        page.keyboard.press("ArrowRight")
    assert tape.locator(".tp-table").count() == 0


def test_tape_s_theory_follows_the_slider(page, tape):
    assert "1 + a = 1.80 tokens for each pass at a = 80%" in tape.locator(".tp-note").last.inner_text()
    tape.get_by_role("slider", name="Acceptance rate").focus()
    page.keyboard.press("End")
    tape.get_by_role("group", name="Drafts in a row").get_by_label("3").check()
    assert "1 + a + a² + a³ = 4.00 tokens for each pass at a = 100%" in tape.locator(".tp-note").last.inner_text()
    assert "1.85 to 1.90" in tape.locator(".tp-note").last.inner_text()


# ---- the tiles --------------------------------------------------------------------------------------------------


@pytest.fixture
def tiles(page):
    return page.locator(".dsw-tiles")


def test_tiles_show_what_the_accounting_says(page, tiles):
    own = widgets.fp8_tiles(outlier=2**20)
    tiles.get_by_role("slider", name="The outlier").focus()
    page.keyboard.press("End")
    shown = {}
    for row in tiles.locator(".f8-row").all():
        name, error, more = (text for text in row.inner_text().split("\n") if text)
        shown[{"8 × 8 block": "block", "1 × 8 tile": "tile"}.get(name, name)] = (error, more)
    for scheme in float8.SCHEMES:
        back = float8.quantize(own.matrix(), scheme, 8).back
        error = 100 * float8.mean_relative_error(back, own.matrix())
        scales = {"tensor": "1 scale", "block": "4 scales", "tile": "32 scales"}[scheme]
        text = f"{error:.1f}%" if error < 9.95 else f"{error:.0f}%"
        assert shown[scheme] == (text, f"{float8.lost(back, own.matrix())} lost, {scales}")
    lost = float8.lost(float8.quantize(own.matrix(), "tile", 8).back, own.matrix())
    assert tiles.locator(".f8-map .f8-lost").count() == lost > 0


def test_tiles_follow_a_number_into_eight_bits(page, tiles):
    own = widgets.fp8_tiles()
    quantized = float8.quantize(own.matrix(), "tile", 8)
    x, scaled, rounded = (matrix[2][1] for matrix in (own.matrix(), quantized.scaled, quantized.rounded))
    told = tiles.locator(".dsw-sr[aria-live]").text_content()
    assert told.startswith("Row 3, column 2:") and f"E4M3 number {rounded:g}" in told.replace("−", "-")
    values = [text.replace("−", "-").replace(",", "") for text in tiles.locator(".f8-step strong").all_inner_texts()]
    assert [float(values[0]), float(values[2])] == pytest.approx([x, scaled], rel=1e-3)
    assert float(values[3]) == rounded
    bits = int(tiles.locator(".f8-bits").get_attribute("aria-label").removeprefix("bits "), 2)
    assert float8.e4m3_value(bits) == rounded


def test_tiles_are_picked_by_mouse_and_by_keys(page, tiles):
    matrix = tiles.locator(".f8-map")
    matrix.scroll_into_view_if_needed()
    box = matrix.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 31.5 / 32, box["y"] + 7.5 * 24)
    assert "row 8, column 32" in tiles.locator(".f8-lens .dsw-subtitle").inner_text()
    tiles.get_by_role("slider", name="Row").focus()
    page.keyboard.press("ArrowLeft")
    tiles.get_by_role("slider", name="Column").focus()
    page.keyboard.press("Home")
    assert "row 7, column 1" in tiles.locator(".f8-lens .dsw-subtitle").inner_text()
    here = tiles.get_by_role("button", name="Put the outlier")
    assert here.get_attribute("aria-disabled") == "false"
    before = tiles.locator(".f8-outlier").get_attribute("d")
    here.focus()
    page.keyboard.press("Enter")
    assert tiles.locator(".f8-outlier").get_attribute("d") != before
    assert here.get_attribute("aria-disabled") == "true"


def test_tiles_take_powers_of_two_and_other_groups(page, tiles):
    tiles.get_by_role("radio", name="power of two").check()
    matrix = widgets.fp8_tiles().matrix()
    quantized = float8.quantize(matrix, "tile", 8, power_of_two=True)
    scale = tiles.locator(".f8-step strong").nth(1).inner_text()
    assert scale.startswith("2⁻") and float(scale.split("= ")[1]) == pytest.approx(quantized.scales[2][1], rel=1e-3)
    error = float8.mean_relative_error(quantized.back, matrix)
    assert tiles.locator(".f8-own strong").inner_text() == f"{100 * error:.1f}%"
    widths = []
    for name in ("tensor", "block", "tile"):
        tiles.get_by_role("radio", name=name).check()
        widths.append(float(tiles.locator(".f8-group").get_attribute("width")))
        assert tiles.locator(".f8-own").inner_text().split("\n")[0].endswith(name)
    assert widths[0] == pytest.approx(4 * widths[1]) and widths[1] == widths[2]
    fill = "rect => getComputedStyle(rect).fill"
    cell = tiles.locator(".f8-map .f8-cell").nth(40)
    before = cell.evaluate(fill)
    tiles.get_by_role("radio", name="by size").check()
    assert cell.evaluate(fill) != before
