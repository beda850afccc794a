// The explorer of thinking budgets: a measured curve, where it stands at a budget, and what that costs.
import { announcer, assign, follow, frame, h, lifetime, radios, s, slider, watchWidth } from "./common.js";

const STATE = ["budget", "curve", "across"];
const AXES = [["budget", "the budget"], ["tokens", "tokens really spent"]];
const [LEFT, RIGHT, TOP, BOTTOM, HEIGHT] = [44, 24, 16, 44, 270]; // pixels

const percent = (x) => `${Math.round(100 * x)}%`;
const brief = (x) => String(Number(x.toFixed(1)));
const tokens = (n) => `${brief(n)} ${n === 1 ? "token" : "tokens"}`;

function render({ model, el }) {
  const life = lifetime();
  const [curves, marks, efforts] = ["curves", "marks", "efforts"].map((name) => model.get(name));
  const root = frame(el, "budget", "How long may it think?", "A thought is closed by force when its budget is spent. Move the budget and see what is lost.");
  const controls = makeControls(model, curves, efforts);
  const board = h("div", { class: "be-board" });
  const box = h("div", { class: "be-plot" });
  const said = announcer(life, { class: "dsw-live dsw-verdict" });
  root.append(controls.node, board, box, legend(curves, marks, efforts), said.node);
  let now = null;
  const draw = () => now && box.replaceChildren(plot(Math.max(240, Math.round(box.getBoundingClientRect().width) || 600), now, curves, marks, efforts));
  watchWidth(life, box, draw);
  follow(life, model, STATE, () => {
    const own = curves.find((curve) => curve.label === model.get("curve")).rows;
    now = { own, row: own.find((row) => row.budget === model.get("budget")), label: model.get("curve"), across: model.get("across") };
    controls.show(now);
    board.replaceChildren(...drawBoard(now.row));
    draw();
    said.say(sentence(now, marks, efforts));
  });
  return () => life.end();
}

function makeControls(model, curves, efforts) {
  const budgets = curves[0].rows.map((row) => row.budget);
  const budget = slider("Budget of the thought", { min: 0, max: budgets.length - 1, step: 1 }, (i) => tokens(budgets[i]), (i) => assign(model, "budget", budgets[i]));
  const levels = Object.entries(efforts).sort((a, b) => a[1] - b[1]);
  const chips = levels.map(([name, n]) => h("button", { type: "button", class: "dsw-chip", onclick: () => assign(model, "budget", n) }, `${name}: ${n}`));
  const named = h("div", { class: "dsw-field", role: "group", "aria-label": "Effort" }, h("span", { class: "dsw-label" }, "Effort"), h("div", { class: "dsw-chips" }, chips));
  const curve = radios("Curve", curves.map(({ label }) => [label, label]), (label) => assign(model, "curve", label));
  const across = radios("Across", AXES, (name) => assign(model, "across", name));
  const node = h("div", { class: "dsw-controls" }, curves.length > 1 && h("div", { class: "dsw-span" }, curve.node), h("div", { class: chips.length ? "" : "dsw-span" }, budget.node), chips.length > 0 && named, h("div", { class: "dsw-span" }, across.node));
  const show = (now) => {
    budget.show(budgets.indexOf(now.row.budget));
    chips.forEach((chip, i) => chip.setAttribute("aria-pressed", levels[i][1] === now.row.budget));
    curve.show(now.label);
    across.show(now.across);
  };
  return { node, show };
}

function drawBoard(row) {
  const cell = (value, text) => h("div", { class: "be-count" }, h("strong", {}, value), h("span", {}, text));
  return [cell(percent(row.accuracy), "of the answers are right"), cell(brief(row.tokens), "tokens of thought, on average"), cell(percent(row.forced), "of the thoughts closed by force")];
}

function plot(width, { own, row, label, across }, curves, marks, efforts) {
  const spent = (one) => one[across];
  const most = Math.max(...curves.flatMap((curve) => curve.rows.map(spent)), ...marks.map((mark) => mark.tokens), 1);
  const x = (n) => LEFT + ((width - LEFT - RIGHT) * n) / most;
  const y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
  const path = (rows) => `M${rows.map((one) => `${x(spent(one)).toFixed(1)} ${y(one.accuracy).toFixed(1)}`).join("L")}`;
  const at = (n) => own.find((one) => one.budget === n);
  const words = `Accuracy against ${across === "budget" ? "the budget" : "the tokens spent"}. At a budget of ${tokens(row.budget)}: ${percent(row.accuracy)}.`;
  return s("svg", { class: "be-chart", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": words },
    [0, 0.25, 0.5, 0.75, 1].map((share) => [s("line", { class: "be-grid", x1: LEFT, x2: width - RIGHT, y1: y(share), y2: y(share) }), s("text", { class: "be-tick be-last", x: LEFT - 7, y: y(share) + 4 }, percent(share))]).flat(),
    ticks(most, width).map((n) => s("text", { class: "be-tick be-middle", x: x(n), y: HEIGHT - 24 }, String(n))),
    s("text", { class: "be-tick be-middle", x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 5 }, across === "budget" ? "budget, tokens" : "tokens of thought, mean"),
    Object.values(efforts).map((n) => s("line", { class: "be-level", x1: x(spent(at(n))), x2: x(spent(at(n))), y1: y(0), y2: y(at(n).accuracy) })),
    curves.filter((curve) => curve.label !== label).map((curve) => s("path", { class: "be-other", d: path(curve.rows) })),
    s("path", { class: "be-line", d: path(own) }),
    own.map((one) => s("circle", { class: "be-point", cx: x(spent(one)), cy: y(one.accuracy), r: 3 })),
    marks.map((mark) => s("path", { class: "be-mark", d: `M${x(mark.tokens)} ${y(mark.accuracy) - 7}l7 7l-7 7l-7 -7z` })),
    marks.map((mark) => {
      const [below, left] = [mark.accuracy <= between(own, across, mark.tokens) + 0.02, mark.tokens > 0.6 * most]; // of the curve; of its mark
      return s("text", { class: `be-word${left ? " be-last" : ""}`, x: x(mark.tokens) + (below ? 11 : -7) * (left ? -1 : 1), y: y(mark.accuracy) + (below ? 16 : -12) }, mark.label);
    }),
    s("line", { class: "be-now", x1: x(spent(row)), x2: x(spent(row)), y1: y(0), y2: y(row.accuracy) }),
    s("circle", { class: "be-dot", cx: x(spent(row)), cy: y(row.accuracy), r: 7 }));
}

/** The curve's accuracy at n, on a straight line between two of its points. */
function between(rows, across, n) {
  const after = rows.find((row) => row[across] >= n) || rows.at(-1);
  const before = rows[Math.max(0, rows.indexOf(after) - 1)];
  const part = after[across] > before[across] ? (n - before[across]) / (after[across] - before[across]) : 1;
  return before.accuracy + Math.min(1, Math.max(0, part)) * (after.accuracy - before.accuracy);
}

/** Round numbers from 0 to the end of the axis, as many as there is room for. */
function ticks(most, width) {
  const step = [1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 250, 256, 500, 512, 1000].find((n) => (most / n) * 46 < width - LEFT - RIGHT) || most;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

function legend(curves, marks, efforts) {
  const swatch = (...parts) => s("svg", { width: 26, height: 16, "aria-hidden": "true" }, parts);
  return h("p", { class: "be-legend" },
    h("span", {}, swatch(s("line", { class: "be-line", x1: 0, x2: 26, y1: 8, y2: 8 }), s("circle", { class: "be-dot", cx: 13, cy: 8, r: 6 })), curves.length > 1 ? "this curve, at the budget" : "at the budget"),
    curves.length > 1 && h("span", {}, swatch(s("line", { class: "be-other", x1: 0, x2: 26, y1: 8, y2: 8 })), "the other curves"),
    Object.keys(efforts).length > 0 && h("span", {}, swatch(s("line", { class: "be-level", x1: 13, x2: 13, y1: 0, y2: 16 })), "levels of effort"),
    marks.length > 0 && h("span", {}, swatch(s("path", { class: "be-mark", d: "M13 1l7 7l-7 7l-7 -7z" })), "other ways to answer, at the tokens they spend"));
}

function sentence({ own, row, label }, marks, efforts) {
  const level = Object.keys(efforts).find((name) => efforts[name] === row.budget);
  const best = own.reduce((a, b) => (b.accuracy > a.accuracy ? b : a));
  const name = label === "accuracy" ? "" : `${label}: `;
  const lost = best.accuracy - row.accuracy;
  const against = row === best ? "No budget does better." : `That is ${Math.round(100 * lost)} points below the best, at a budget of ${best.budget}.`;
  const others = marks.length ? `For comparison: ${marks.map((mark) => `${mark.label}, ${percent(mark.accuracy)} for ${brief(mark.tokens)}`).join("; ")}.` : "";
  return `${name}${level ? `effort ${level}, ` : ""}a budget of ${tokens(row.budget)} gives ${percent(row.accuracy)} for ${brief(row.tokens)} spent on average. ${against} ${others}`.trim().replace(/^./, (letter) => letter.toUpperCase());
}

export default { render };
