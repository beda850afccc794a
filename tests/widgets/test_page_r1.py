"""The clip map and the group's advantages in a browser: mouse, keyboard, numbers that are Python's."""

import pytest

from dsmini import widgets
from dsmini.accounting import policy


def said(page, widget):
    page.wait_for_timeout(400)  # the live region waits until a control rests
    return widget.locator("[aria-live=polite]").inner_text()


def numbers(texts):
    return [float(text.replace("−", "-").rstrip(" ▲▼")) for text in texts]


def state(page, name, *traits):
    return page.evaluate("([name, traits]) => { const { model } = document.querySelector(`ds-widget[name=${name}]`);"
                         " return traits.map((trait) => model.get(trait)); }", [name, traits])  # fmt: skip


# ---- the clip map -----------------------------------------------------------------------------------------------


@pytest.fixture
def clip(page):
    return page.locator(".dsw-clip")


def by_python(*point):
    rules = ("ppo", "none", "inverted")
    return [[f(*point, rule) for f in (policy.clipped_objective, policy.clipped_gradient)] for rule in rules]


def shown(clip):
    rows = clip.locator(".cm-table tbody tr").all()
    return [numbers(row.locator("td").all_inner_texts()) for row in rows]


@pytest.mark.parametrize(
    ("ratio", "advantage"), [(0.05, -1), (0.5, -1), (1, -1), (1.5, -1), (5, -1), (0.5, 2), (1.5, 2), (8, 0)]
)
def test_clip_map_shows_what_the_accounting_says(page, clip, ratio, advantage):
    page.evaluate("([r, a]) => { const { model } = document.querySelector('ds-widget[name=clip_map]');"
                  " model.set('advantage', a); model.set('ratio', r); }", [ratio, advantage])  # fmt: skip
    for row, expected in zip(shown(clip), by_python(ratio, advantage, 0.2, 0.2), strict=True):
        assert row == pytest.approx(expected, abs=0.0051)


def test_clip_map_answers_to_keys(page, clip):
    ratio = clip.get_by_role("slider", name="Ratio")
    ratio.focus()
    page.keyboard.press("Home")
    assert state(page, "clip_map", "ratio") == [0.05]
    page.keyboard.press("End")
    assert state(page, "clip_map", "ratio") == [8]
    for _ in range(60):  # three doublings down, twenty stops each
        page.keyboard.press("ArrowLeft")
    assert state(page, "clip_map", "ratio") == [1]
    clip.get_by_role("slider", name="Advantage").focus()
    page.keyboard.press("End")
    clip.get_by_role("slider", name="ε, how").focus()
    page.keyboard.press("Home")
    clip.get_by_role("slider", name="ε high").focus()
    page.keyboard.press("End")
    assert state(page, "clip_map", "advantage", "epsilon", "epsilon_high") == [2, 0.01, 10]


def test_every_stop_is_short_and_in_order(page, clip):
    clip.get_by_role("slider", name="Ratio").focus()
    page.keyboard.press("Home")
    stops = state(page, "clip_map", "ratio")
    while stops[-1] < 8:
        page.keyboard.press("ArrowRight")
        stops += state(page, "clip_map", "ratio")
    assert stops == sorted(set(stops)) and {0.05, 0.5, 0.8, 1, 1.2, 1.5, 2, 5, 8} <= set(stops)
    assert all(len(str(stop).replace(".", "").lstrip("0")) <= 3 for stop in stops)


def test_clip_map_says_what_the_update_does(page, clip):
    assert (
        said(page, clip)
        == "The token became 1.5 times as likely, though it was bad. PPO still pushes it down, with weight 1.5."
    )
    clip.get_by_role("radio", name="inverted").check()
    assert "The inverted clip has cut it: the gradient is 0, and nothing calls it back. PPO pushes it down" in said(
        page, clip
    )
    clip.get_by_role("radio", name="no clip").check()
    assert "Without a clip it is still pushed down, with weight 1.5." in said(page, clip)
    clip.get_by_role("slider", name="Advantage").focus()
    page.keyboard.press("End")
    assert "Without a clip it is pushed further up, with weight 3. PPO cuts it above 1.2." in said(page, clip)
    clip.get_by_role("radio", name="PPO").check()
    assert "and it was good. PPO has cut it: the gradient is 0." in said(page, clip)
    for _ in range(20):
        page.keyboard.press("ArrowLeft")  # the radio button before this one, and so on: it stays in the group
    clip.get_by_role("slider", name="Advantage").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert "The advantage is 0" in said(page, clip)


def cut(clip):
    """The cut parts of the map, as (which half, from, to) in ratios."""
    return clip.locator(".cm-map").evaluate("""map => {
      const width = map.viewBox.baseVal.width, ratio = (x) => 0.05 * 160 ** ((x - 38) / (width - 74));
      return [...map.querySelectorAll("rect.cm-cut")].map((rect) => {
        const [x, y, long] = ["x", "y", "width"].map((name) => Number(rect.getAttribute(name)));
        return [y < 100 ? "good" : "bad", ratio(x), ratio(x + long)];
      });
    }""")


def near(*expected):
    return [(half, pytest.approx(a, rel=1e-3), pytest.approx(b, rel=1e-3)) for half, a, b in expected]


def test_clip_map_hatches_what_is_cut(page, clip):
    assert [tuple(piece) for piece in cut(clip)] == near(("good", 1.2, 8), ("bad", 0.05, 0.8))
    clip.get_by_role("radio", name="inverted").check()
    clip.get_by_role("button", name="DAPO").click()
    assert [tuple(piece) for piece in cut(clip)] == near(("good", 1.28, 8), ("bad", 1.28, 8))
    clip.get_by_role("radio", name="no clip").check()
    assert cut(clip) == []
    clip.get_by_role("radio", name="PPO").check()
    clip.get_by_role("button", name="R1").click()
    assert state(page, "clip_map", "epsilon", "epsilon_high") == [10, 10]
    assert cut(clip) == [] and clip.get_by_role("button", name="R1").get_attribute("aria-pressed") == "true"
    corners = clip.locator(".cm-corner").all_inner_texts()
    assert ["cut above" in text for text in corners] == [False, True, False, False] and "below 11" in corners[1]
    assert not any("cut below" in text for text in corners)  # 1 - 10 = -9 lies below every ratio


def test_clip_map_takes_the_pointer(page, clip):
    plot = clip.locator(".cm-map")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.click(box["x"] + 38 + (box["width"] - 74) * 0.999, box["y"] + 40)
    assert state(page, "clip_map", "ratio", "advantage") == [8, 1]
    assert clip.locator(".cm-here strong").inner_text() == "Good, likelier now"
    clip.get_by_role("radio", name="no clip").check()
    assert clip.locator(".cm-arrow").count() == 1  # there is room for it at the edge
    page.mouse.move(box["x"] + 60, box["y"] + 250)
    page.mouse.down()
    page.mouse.move(box["x"] + 38, box["y"] + 250, steps=3)
    page.mouse.up()
    assert state(page, "clip_map", "ratio", "advantage") == [0.05, -1]
    assert clip.locator(".cm-here strong").inner_text() == "Bad, rarer now"


def test_clip_map_s_arrow_points_where_the_token_is_pushed(page, clip):
    ends = "line => Number(line.getAttribute('x2')) - Number(line.getAttribute('x1'))"
    assert clip.locator(".cm-arrow").evaluate(ends) < 0
    plot = clip.locator(".cm-map")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.click(box["x"] + 200, box["y"] + 40)
    assert clip.locator(".cm-arrow").evaluate(ends) > 0
    page.mouse.click(box["x"] + 200, box["y"] + 250)  # bad, and rare enough
    assert clip.locator(".cm-arrow").count() == 0 and clip.locator(".cm-idle").count() == 1


# ---- the group --------------------------------------------------------------------------------------------------


@pytest.fixture
def group(page):
    return page.locator(".dsw-group").first


@pytest.fixture
def marked(page):
    return page.locator(".dsw-group").nth(1)


def columns(group):
    """Advantages, weights and pushes as the table shows them."""
    rows = [row.locator("td").all_inner_texts() for row in group.locator(".ga-table tbody tr").all()]
    return [numbers(row[i].strip() for row in rows) for i in (1, 2, 3)]


def expected(rewards, own, at, scale="group", rule="sequence"):
    advantages = policy.group_advantages(rewards, scale)[at]
    lengths = [answer["tokens"] for row in own.groups for answer in row["answers"]]
    size = len(advantages)
    weights = policy.token_weights(lengths, rule, own.max_tokens)[at * size : (at + 1) * size]
    shares = [weight * sum(lengths) for weight in weights]
    return [advantages, shares, [a * w for a, w in zip(advantages, shares, strict=True)]]


def agree(shown, ours):
    return all(a == pytest.approx(b, abs=0.0051) for a, b in zip(shown, ours, strict=True))


@pytest.mark.parametrize("scale", policy.SCALES)
@pytest.mark.parametrize("rule", policy.NORMALIZATIONS)
def test_group_shows_what_the_accounting_says(group, scale, rule):
    own = widgets.group_advantages()
    group.locator(f"input[value={scale}]").check()
    group.locator(f"input[value={rule}]").check()
    for at in range(4):
        group.get_by_label("Question").select_option(str(at + 1))
        assert agree(columns(group), expected(own.rewards, own, at, scale, rule))


def test_group_answers_to_ticks(page, group):
    own = widgets.group_advantages()
    group.get_by_role("button", name="one right", exact=True).click()
    first, twelfth = (group.get_by_role("checkbox", name=f"answer {i} is right") for i in (1, 12))
    twelfth.focus()
    page.keyboard.press("Space")
    assert twelfth.is_checked() and page.evaluate("document.activeElement.type") == "checkbox"
    rewards = [[1.0] + [0.0] * 10 + [1.0], *own.rewards[1:]]
    assert agree(columns(group), expected(rewards, own, 0))
    twelfth.uncheck()
    assert columns(group)[0][:2] == [3.17, -0.29]
    first.uncheck()
    assert set(columns(group)[2]) == {0.0}
    assert "each advantage is 0" in said(page, group) and "3 of the 4 questions" in said(page, group)
    assert state(page, "group_advantages", "rewards")[0][0] == [0] * 12
    group.get_by_role("button", name="as drawn").click()
    assert state(page, "group_advantages", "rewards")[0] == own.rewards


def test_a_rare_success_is_worth_more_than_one_of_many(page, group):
    worth = {}
    for name in ("one right", "half right", "all right", "none right"):
        group.get_by_role("button", name=name, exact=True).click()
        worth[name] = columns(group)[0][0]
    assert worth == {"one right": 3.17, "half right": 0.96, "all right": 0, "none right": 0}
    group.get_by_role("radio", name="none (Dr. GRPO)").check()
    group.get_by_role("button", name="one right", exact=True).click()
    assert columns(group)[0][0] == 0.92


def test_group_says_what_length_does(page, group):
    own = widgets.group_advantages()
    wrong = [answer["tokens"] for answer in own.groups[0]["answers"] if not answer["reward"]]
    told = said(page, group)
    assert f"({min(wrong)} tokens)" in told and f"({max(wrong)})" in told
    assert f"pushed {float(f'{max(wrong) / min(wrong):.3g}'):g} times as hard" in told
    group.get_by_role("radio", name="tokens, all alike").check()
    assert "is pushed alike, so the longer one weighs more in all" in said(page, group)
    assert set(columns(group)[1]) == {1.0}


def test_group_takes_rewards_that_are_no_verdicts(page, marked):
    field = marked.get_by_role("spinbutton", name="reward of answer 2")
    field.focus()
    field.fill("-3.5")
    page.keyboard.press("Enter")
    rewards = [[0.0, -3.5, 0.2, 0.3], [0.25, 0.35, 0.45, 0.55]]
    advantages = policy.group_advantages(rewards, "group")[0]
    assert columns(marked)[0] == pytest.approx(advantages, abs=0.0051)
    field.fill("")
    page.keyboard.press("Tab")
    assert columns(marked)[0] == pytest.approx(advantages, abs=0.0051)  # no number, no change
    marked.locator("summary").click()
    marked.get_by_label("Question").select_option("2")
    assert marked.locator("li").nth(3).inner_text().endswith("sum 1 <3>")
    assert marked.locator(".ga-list .ga-shown th").inner_text() == "second"
