// The clip map: what one token adds to the objective, against its probability ratio, for good and for bad tokens.
import { announcer, assign, field, follow, frame, h, lifetime, radios, s, slider, uid, watchWidth } from "./common.js";
import { clippedGradient, clippedObjective } from "./policy.js";

const STATE = ["advantage", "ratio", "epsilon", "epsilon_high", "rule"];
const RULES = [["ppo", "PPO: the lesser (min)"], ["none", "no clip: ratio × A"], ["inverted", "inverted: max where A < 0"]];
const NAMES = { ppo: "PPO", inverted: "The inverted clip" };
const PRESETS = [["PPO: 0.2", 0.2, 0.2], ["DAPO: 0.2, 0.28", 0.2, 0.28], ["R1, first RL stage: 10", 10, 10]];
const [LEAST, MOST] = [0.05, 8]; // ratios
const TICKS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5];
const LEVELS = [-10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10];
const BEND = 0.5; // below this the vertical axis is about even, above it goes by doublings
const [LEFT, RIGHT, TOP, HALF, BOTTOM] = [38, 36, 10, 150, 36]; // pixels; at the sides there is room for an arrow

const minus = (text) => text.replace("-", "−");
const two = (x) => minus((Math.abs(x) < 0.005 ? 0 : x).toFixed(2));
const signed = (x) => (x > 0 ? `+${two(x)}` : two(x));
const brief = (x) => minus(String(Number(x.toPrecision(3))));

/** Stops that are even in the logarithm, twenty to a doubling, each the shortest number in its reach: ..., 1.04, 1.07, ... */
function stopsBetween(least, most) {
  const [first, last] = [least, most].map((x) => Math.round(20 * Math.log2(x)));
  return Array.from({ length: last - first + 1 }, (_, i) => {
    const exact = 2 ** ((first + i) / 20);
    return [1, 2, 3].map((digits) => Number(exact.toPrecision(digits))).find((x) => Math.abs(Math.log2(x / exact)) < 0.025);
  });
}

/** A slider over such stops. A value from Python between two of them is shown as it is. */
function evenly(label, [least, most], describe, onpick) {
  const stops = stopsBetween(least, most);
  const value = h("output", { class: "dsw-value" });
  const control = h("input", { type: "range", min: 0, max: stops.length - 1, step: 1, oninput: () => onpick(stops[control.valueAsNumber]) });
  const show = (x) => {
    const distance = stops.map((stop) => Math.abs(Math.log(stop / x)));
    control.value = distance.indexOf(Math.min(...distance));
    control.setAttribute("aria-valuetext", describe(x));
    value.textContent = describe(x);
  };
  return { node: field(label, control, value), show };
}

function render({ model, el }) {
  const life = lifetime();
  const root = frame(el, "clip", "The clip, in four quadrants", "One token of an answer. Was it good (advantage above 0) or bad? Has it become likelier since it was drawn, or rarer?");
  const hatch = uid("hatch");
  const controls = makeControls(model);
  const corners = ["good rarer", "good likelier", "bad rarer", "bad likelier"].map((name) => h("div", { class: `cm-corner cm-${name.replace(" ", " cm-")}` }));
  const box = h("div", { class: "cm-plot" });
  const table = h("div", { class: "cm-rules" });
  const said = announcer(life, { class: "dsw-live dsw-verdict" });
  root.append(controls.node, h("div", { class: "cm-pair cm-first" }, corners.slice(0, 2)), box, h("div", { class: "cm-pair" }, corners.slice(2)),
    h("div", { class: "cm-ratio" }, controls.ratio), legend(hatch), said.node, table);
  let point = null;
  const draw = () => point && box.replaceChildren(plot(widthOf(box), point, hatch));
  const show = () => {
    point = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
    controls.show(point);
    corners.forEach((corner, i) => fillCorner(corner, i < 2 ? 1 : -1, i % 2 ? 1 : -1, point));
    table.replaceChildren(ruleTable(point));
    draw();
    said.say(sentence(point));
  };
  takePointer(life, box, model);
  watchWidth(life, box, draw);
  follow(life, model, STATE, show);
  return () => life.end();
}

const widthOf = (box) => Math.max(240, Math.round(box.getBoundingClientRect().width) || 600);
const across = (width) => (ratio) => LEFT + ((width - LEFT - RIGHT) * Math.log(ratio / LEAST)) / Math.log(MOST / LEAST);
const down = (value) => TOP + HALF - (HALF * Math.asinh(value / BEND)) / Math.asinh((2 * MOST) / BEND);

/** A click or a drag in the picture sets the ratio; the half that it is in sets the sign of the advantage. */
function takePointer(life, box, model) {
  const place = (event) => {
    const { left, top, width } = box.getBoundingClientRect();
    const part = (event.clientX - left - LEFT) / (width - LEFT - RIGHT);
    const ratio = LEAST * (MOST / LEAST) ** Math.min(1, Math.max(0, part));
    const stops = stopsBetween(LEAST, MOST);
    const size = Math.abs(model.get("advantage")) || 1;
    model.set("advantage", event.clientY - top < TOP + HALF ? size : -size);
    assign(model, "ratio", stops.reduce((best, stop) => (Math.abs(Math.log(stop / ratio)) < Math.abs(Math.log(best / ratio)) ? stop : best)));
  };
  const moved = (event) => event.buttons === 1 && event.pointerType === "mouse" && place(event);
  box.addEventListener("click", place);
  box.addEventListener("pointermove", moved);
  life.add(() => (box.removeEventListener("click", place), box.removeEventListener("pointermove", moved)));
}

// ---- controls -----------------------------------------------------------------------------------------------------------

function makeControls(model) {
  const advantage = slider("Advantage A", { min: -2, max: 2, step: 0.1 }, signed, (x) => assign(model, "advantage", Math.round(10 * x) / 10));
  const ratio = evenly("Ratio π / π_old", [LEAST, MOST], brief, (x) => assign(model, "ratio", x));
  const low = evenly("ε, how far below 1", [0.01, 10], (x) => `${brief(x)}: from ${brief(1 - x)}`, (x) => assign(model, "epsilon", x));
  const high = evenly("ε high, how far above 1", [0.01, 10], (x) => `${brief(x)}: to ${brief(1 + x)}`, (x) => assign(model, "epsilon_high", x));
  const rule = radios("Of ratio × A and its clipped value, take", RULES, (name) => assign(model, "rule", name));
  const chips = PRESETS.map(([text, epsilon, top]) => h("button", { type: "button", class: "dsw-chip", onclick: () => {
    model.set("epsilon", epsilon);
    assign(model, "epsilon_high", top);
  } }, text));
  const presets = h("div", { class: "dsw-field", role: "group", "aria-label": "Presets of ε" }, h("span", { class: "dsw-label" }, "ε as in"), h("div", { class: "dsw-chips" }, chips));
  const node = h("div", { class: "dsw-controls" }, h("div", { class: "dsw-span" }, rule.node), advantage.node, presets, low.node, high.node);
  const show = (now) => {
    advantage.show(now.advantage);
    ratio.show(now.ratio);
    low.show(now.epsilon);
    high.show(now.epsilon_high);
    rule.show(now.rule);
    chips.forEach((chip, i) => chip.setAttribute("aria-pressed", now.epsilon === PRESETS[i][1] && now.epsilon_high === PRESETS[i][2]));
  };
  return { node, ratio: ratio.node, show };
}

// ---- the picture ----------------------------------------------------------------------------------------------------------

/** Where a rule cuts the gradient of a token of this sign: [from, to] in ratios, or null. */
function cutRange(sign, { epsilon, epsilon_high: high, rule }) {
  const [below, above] = [[0, 1 - epsilon], [1 + high, Infinity]];
  if (rule === "none") return null;
  const range = sign > 0 || rule === "inverted" ? above : below;
  return range[1] <= 0 ? null : range;
}

function plot(width, point, hatch) {
  const { advantage, ratio, epsilon, epsilon_high: high, rule } = point;
  const x = across(width);
  const [middle, height] = [down(0), TOP + 2 * HALF + BOTTOM];
  const bounds = [1 - epsilon, 1 + high].filter((r) => r > LEAST && r < MOST);
  const gradient = clippedGradient(ratio, advantage, epsilon, high, rule);
  const objective = clippedObjective(ratio, advantage, epsilon, high, rule);
  const words = `Objective and gradient against the ratio. At ratio ${brief(ratio)} and advantage ${signed(advantage)} the objective is ${two(objective)} and the gradient ${two(gradient)}.`;
  return s("svg", { class: "cm-map", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    s("defs", {}, s("pattern", { id: `${hatch}-map`, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("rect", { class: "cm-hatch", width: 2, height: 7 }))),
    LEVELS.map((level) => [s("line", { class: "cm-grid", x1: LEFT, x2: width - RIGHT, y1: down(level), y2: down(level) }),
      s("text", { class: "cm-tick cm-end", x: LEFT - 6, y: down(level) + 4 }, minus(String(level)))]).flat(),
    TICKS.map((tick) => s("text", { class: "cm-tick cm-middle", x: x(tick), y: height - 20 }, String(tick))),
    s("text", { class: "cm-tick cm-middle", x: x(1), y: height - 4 }, "ratio"),
    s("text", { class: "cm-tick cm-end", x: x(1) - 30, y: height - 4 }, width < 420 ? "← rarer" : "← rarer than when drawn"),
    s("text", { class: "cm-tick", x: x(1) + 30, y: height - 4 }, width < 420 ? "likelier →" : "likelier than when drawn →"),
    [1, -1].map((sign) => half(sign, point, x, width, `${hatch}-map`)).flat(3),
    bounds.map((r) => s("line", { class: "cm-bound", x1: x(r), x2: x(r), y1: TOP, y2: TOP + 2 * HALF })),
    s("line", { class: "cm-axis", x1: x(1), x2: x(1), y1: TOP, y2: TOP + 2 * HALF }),
    s("line", { class: "cm-axis", x1: LEFT, x2: width - RIGHT, y1: middle, y2: middle }),
    advantage !== 0 && token(x(ratio), down(objective), gradient, width, advantage));
}

/** One half of the map: the gradient as an area, the objective as a line, and what is cut. */
function half(sign, { advantage, epsilon, epsilon_high: high, rule }, x, width, hatch) {
  const size = Math.abs(advantage);
  const cut = cutRange(sign, { epsilon, epsilon_high: high, rule });
  const inside = (r) => Math.min(MOST, Math.max(LEAST, r));
  const [from, to] = cut ? cut.map(inside) : [LEAST, LEAST];
  const pieces = [[LEAST, from], [to, MOST]].filter(([a, b]) => b > a);
  const along = (a, b) => Array.from({ length: 61 }, (_, i) => a * (b / a) ** (i / 60));
  const points = (ratios, value) => ratios.map((r) => `${x(r).toFixed(1)} ${down(value(r)).toFixed(1)}`).join("L");
  const free = (r) => sign * size * r;
  const objective = (r) => clippedObjective(r, sign * size, epsilon, high, rule);
  const [top, kind] = [sign > 0 ? TOP : TOP + HALF, `${sign > 0 ? "cm-up" : "cm-down"} ${sign * advantage > 0 ? "cm-own" : "cm-other"}`];
  const knees = [1 - epsilon, 1 + high].filter((r) => r > LEAST && r < MOST);
  const ratios = [...along(LEAST, MOST), ...knees].sort((a, b) => a - b);
  return [
    to > from && [s("rect", { class: "cm-cut", x: x(from), y: top, width: x(to) - x(from), height: HALF }),
      s("rect", { x: x(from), y: top, width: x(to) - x(from), height: HALF, fill: `url(#${hatch})` })],
    pieces.map(([a, b]) => s("path", { class: `cm-area ${kind}`, d: `M${x(a)} ${down(0)}L${points(along(a, b), free)}L${x(b)} ${down(0)}Z` })),
    s("path", { class: `cm-line ${kind}`, d: `M${points(ratios, objective)}` }),
    to > from && x(to) - x(from) > 74 && s("text", { class: "cm-word", x: (x(from) + x(to)) / 2, y: sign > 0 ? TOP + 20 : TOP + 2 * HALF - 12 }, "cut"),
  ];
}

/** The token of the moment, and an arrow: which way, and how hard, its probability is pushed. */
function token(x, y, gradient, width, advantage) {
  const colour = advantage > 0 ? "cm-up" : "cm-down";
  const reach = Math.sign(gradient) * (14 + 22 * Math.asinh(Math.abs(gradient) / BEND));
  const tip = Math.min(width - 3, Math.max(3, x + reach));
  const head = Math.sign(reach) * 9;
  const arrow = gradient !== 0 && Math.abs(tip - x) > 10 && [
    s("line", { class: `cm-arrow ${colour}`, x1: x, x2: tip - head, y1: y, y2: y }),
    s("path", { class: `cm-head ${colour}`, d: `M${tip} ${y}l${-head} -6v12z` })];
  return [s("line", { class: "cm-drop", x1: x, x2: x, y1: y, y2: down(0) }), arrow,
    s("circle", { class: `cm-dot ${gradient === 0 ? "cm-idle" : colour}`, cx: x, cy: y, r: 7 })].flat();
}

function legend(hatch) {
  const stripes = s("pattern", { id: hatch, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("rect", { class: "cm-hatch", width: 2, height: 7 }));
  const swatch = (...parts) => s("svg", { width: 26, height: 14, "aria-hidden": "true" }, parts);
  const box = (name) => s("rect", { class: name, y: 1, width: 26, height: 12 });
  return h("p", { class: "cm-legend" },
    s("svg", { class: "cm-defs", width: 0, height: 0, "aria-hidden": "true" }, s("defs", {}, stripes)),
    h("span", {}, swatch(s("line", { class: "cm-line cm-key", x1: 0, x2: 26, y1: 7, y2: 7 })), "objective"),
    h("span", {}, swatch(box("cm-area cm-up cm-own")), "gradient, up"),
    h("span", {}, swatch(box("cm-area cm-down cm-own")), "gradient, down"),
    h("span", {}, swatch(box("cm-cut"), s("rect", { y: 1, width: 26, height: 12, fill: `url(#${hatch})` })), "cut: the gradient is 0"),
    h("span", {}, swatch(s("line", { class: "cm-bound", x1: 13, x2: 13, y1: 0, y2: 14 })), "1 − ε, 1 + ε high"));
}

// ---- words ----------------------------------------------------------------------------------------------------------------

/** Fills the caption of one quadrant. sign: of the advantage; side: 1 where the token has become likelier. */
function fillCorner(node, sign, side, point) {
  const cut = cutRange(sign, point);
  const [way, arrow] = sign > 0 ? ["pushed up", "▲"] : ["pushed down", "▼"];
  const bound = cut && (side > 0 ? cut[0] : cut[1]);
  const here = cut && (side > 0 ? cut[1] === Infinity : cut[0] === 0);
  const [near, far] = side > 0 ? ["below", "above"] : ["above", "below"];
  const text = here ? `${way} ${near} ${brief(bound)}, ✂ cut ${far}` : `${way}, whatever the ratio`;
  const own = point.advantage * sign > 0 && (point.ratio - 1) * side > 0;
  node.classList.toggle("cm-here", own);
  node.replaceChildren(h("strong", {}, `${sign > 0 ? "Good" : "Bad"}, ${side > 0 ? "likelier" : "rarer"} now`), h("span", {}, `${arrow} ${text}`));
}

function ruleTable({ advantage, ratio, epsilon, epsilon_high: high, rule }) {
  const heads = ["at this point", "objective", "gradient"].map((text) => h("th", { scope: "col" }, text));
  const rows = RULES.map(([name, text]) => {
    const gradient = clippedGradient(ratio, advantage, epsilon, high, name);
    const effect = gradient > 0 ? " ▲" : gradient < 0 ? " ▼" : "";
    return h("tr", { class: name === rule ? "cm-shown" : "" }, h("th", { scope: "row" }, text),
      h("td", {}, two(clippedObjective(ratio, advantage, epsilon, high, name))), h("td", {}, two(gradient), h("span", { "aria-hidden": "true" }, effect)));
  });
  return h("table", { class: "cm-table" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
}

function sentence({ advantage, ratio, epsilon, epsilon_high: high, rule }) {
  if (advantage === 0) return "The advantage is 0: whatever the ratio, nothing pushes this token.";
  const way = advantage > 0 ? "up" : "down";
  const quality = advantage > 0 ? "good" : "bad";
  const against = advantage > 0 ? ratio < 1 : ratio > 1; // it has gone the wrong way so far
  const now = ratio === 1 ? "is as likely as when it was drawn" : ratio > 1 ? `became ${brief(ratio)} times as likely` : `fell to ${brief(ratio)} of its probability`;
  const start = ratio === 1 ? `The token was ${quality} and ${now}` : `The token ${now}${against ? ", though it was" : ", and it was"} ${quality}`;
  const [own, ppo] = [rule, "ppo"].map((name) => clippedGradient(ratio, advantage, epsilon, high, name));
  const weight = brief(Math.abs(ratio * advantage));
  const cut = `${start}. ${NAMES[rule]} has cut it: the gradient is 0`;
  if (own === 0) return ppo === 0 ? `${cut}. It has moved far enough for one batch.` : `${cut}, and nothing calls it back. PPO pushes it ${way}, with weight ${weight}.`;
  const [still, further] = [against ? "still " : "", ppo === 0 ? "further " : ""];
  const push = rule === "none" ? `Without a clip it is ${still}pushed ${further}${way}` : `${NAMES[rule]} ${still}pushes it ${further}${way}`;
  const bound = advantage > 0 ? `above ${brief(1 + high)}` : `below ${brief(1 - epsilon)}`;
  return `${start}. ${push}, with weight ${weight}.${ppo === 0 ? ` PPO cuts it ${bound}.` : ""}`;
}

export default { render };
