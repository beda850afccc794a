// The absorption step-through: one decoded token in one MLA layer, naive beside absorbed.
import { announcer, assign, bytes, dropdown, flops, follow, frame, grouped, h, lifetime, logSlider, plain, radios, rich, s, stepper, times, uid } from "./common.js";
import { absorptionSteps, projectionFlops } from "./formulas.js";
import { story } from "./absorption_story.js";

const STATE = ["preset", "context", "step", "naive"];
const SIDE = 2.5; // pixels: a box's side is this times the cube root of the dimension
const THUMB = 34; // pixels: the height of the tallest small picture
const NAIVE = [["expanded", "caches keys and values of all heads"], ["rebuilt", "rebuilds them from the latent at every step"]];

function render({ model, el }) {
  const life = lifetime();
  const rows = model.get("models");
  const root = frame(el, "absorption", "Absorption, step by step", "One new token in one layer: the textbook way beside the absorbed way. Both give the same result; what do they cost?");
  const hatch = uid("hatch");
  const preset = dropdown("Model", rows.map((row) => [row.name, row.title]), (name) => {
    const [least, most] = range(rows.find((row) => row.name === name));
    model.set("context", Math.min(most, Math.max(least, model.get("context"))));
    assign(model, "preset", name);
  });
  const context = logSlider("Tokens in the cache", [1, 2], [], (n) => `${grouped(n)} tokens`, (n) => assign(model, "context", n));
  const naive = radios("The naive way", NAIVE, (name) => assign(model, "naive", name));
  naive.node.classList.add("dsw-span");
  const steps = stepper("Step", (index) => assign(model, "step", index + 1));
  const list = stepList(story(rows[0], 1, true), (n) => assign(model, "step", n));
  const board = h("div", { class: "ab-board" });
  const verdict = h("p", { class: "dsw-verdict" });
  const said = announcer(life, { class: "dsw-sr" });
  root.append(h("div", { class: "dsw-controls" }, preset.node, context.node, naive.node), steps.node, heading(), list.node, legend(hatch), board, verdict, said.node);

  let reach = "";
  follow(life, model, STATE, () => {
    const [name, tokens, step, variant] = STATE.map((key) => model.get(key));
    const m = rows.find((row) => row.name === name);
    const told = story(m, tokens, variant === "expanded");
    const costs = absorptionSteps(m, tokens, variant);
    const limits = range(m);
    if (reach !== String(limits)) context.range(limits, marksIn(limits));
    reach = String(limits);
    preset.control.value = name;
    context.show(tokens);
    naive.show(variant);
    steps.show(step - 1, told.length, `${step} of ${told.length}: ${plain(told[step - 1].title)}`);
    list.show(told, costs, step, hatch);
    const all = total(costs, told.length);
    board.replaceChildren(...boardRows(total(costs, step), all));
    verdict.textContent = conclude(all, m, tokens, variant);
    said.say(sentence(told, costs, step));
  });
  return () => life.end();
}

/** The slider's range: 1K to the longest context, from 16 for a mini. */
const range = (m) => [m.max_position_embeddings >= 16384 ? 1024 : 16, m.max_position_embeddings];

/** Every fourth doubling of a range, for the scale under the slider. */
function marksIn([least, most]) {
  const marks = [];
  for (let n = least; n <= most; n *= 4) marks.push(n);
  return marks;
}

// ---- sums and sentences -------------------------------------------------------------------------------------------------

function total(costs, upTo) {
  const sum = (side, what) => costs.slice(0, upTo).reduce((all, cost) => all + cost[side][what], 0);
  const both = (side) => ({ flops: sum(side, "flops"), bytes: sum(side, "bytes") });
  return { naive: both("naive"), absorbed: both("absorbed") };
}

function conclude(all, m, tokens, variant) {
  const ratio = (what) => all.absorbed[what] / all.naive[what];
  const work = ratio("flops") >= 1 ? `takes ${times(ratio("flops"))} times the arithmetic` : `takes ${times(1 / ratio("flops"))} times less arithmetic`;
  const read = ratio("bytes") === 1 ? "reads as many bytes" : `reads ${times(1 / ratio("bytes"))} times fewer bytes`;
  const aside = variant === "rebuilt" ? "; so is the memory traffic of the rebuilt keys and values" : "";
  const each = (side) => times(side.flops / side.bytes);
  return `Over ${grouped(tokens)} cached tokens, absorbed ${work} and ${read}: ${each(all.absorbed)} FLOPs for each byte, against ${each(all.naive)}. The projections of steps 1 and 8 add ${flops(projectionFlops(m))} to either side and are left out${aside}.`;
}

const price = (told, cost) => (told.free ? told.free : `${flops(cost.flops)}, ${cost.bytes ? `${bytes(cost.bytes)} read` : "no cache read"}`);

function sentence(told, costs, step) {
  const [one, cost] = [told[step - 1], costs[step - 1]];
  const half = (side) => `${plain(one[side].text)} ${price(one[side], cost[side])}.`;
  return `Step ${step} of ${told.length}: ${plain(one.title)}. Naive: ${half("naive")} Absorbed: ${half("absorbed")}`;
}

// ---- the steps ----------------------------------------------------------------------------------------------------------

const heading = () => h("div", { class: "ab-row ab-heading", "aria-hidden": "true" }, h("span"), h("span", {}, "naive"), h("span", {}, "absorbed"));

/** The list of steps. Its buttons stay, so that the focus does; only what is beside or below them changes. */
function stepList(told, go) {
  const heads = told.map((one, i) => h("button", { type: "button", class: "ab-head", onclick: () => go(i + 1) }, h("span", { class: "ab-number" }, String(i + 1)), h("span", {}, rich(one.title))));
  const items = heads.map((head) => h("li", {}, head));
  const show = (told, costs, current, hatch) => {
    const pairs = halves(told, costs, current, hatch);
    items.forEach((item, i) => {
      const open = i + 1 === current;
      item.className = `ab-step ${open ? "ab-open" : i + 1 < current ? "ab-row ab-done" : "ab-row ab-next"}`;
      heads[i].setAttribute("aria-expanded", String(open));
      while (item.lastChild !== heads[i]) item.lastChild.remove();
      item.append(...(open ? [h("div", { class: "ab-pair" }, pairs[i])] : pairs[i]));
    });
  };
  return { node: h("ol", { class: "ab-steps" }, items), show };
}

/** For each step, what stands on the naive and on the absorbed side: large for the current one, small for the rest. */
function halves(told, costs, current, hatch) {
  const heights = told.flatMap((one) => [one.naive, one.absorbed]).flatMap((side) => side.picture.map((item) => edge(item.rows || 1)));
  const small = Math.min(0.5, THUMB / Math.max(...heights));
  const most = (what) => Math.max(...costs.flatMap((cost) => [cost.naive[what], cost.absorbed[what]]));
  const peak = { flops: most("flops"), bytes: most("bytes") };
  return told.map((one, i) => ["naive", "absorbed"].map((side) => (i + 1 === current
    ? openHalf(side, one[side], costs[i][side], hatch)
    : closedHalf(side, one[side], costs[i][side], peak, small, hatch))));
}

function openHalf(side, told, cost, hatch) {
  return h("div", { class: `ab-half ab-${side}` },
    h("p", { class: "ab-side" }, side === "naive" ? "Naive" : "Absorbed"),
    picture(told.picture, 1, hatch),
    h("p", { class: "ab-text" }, rich(told.text)),
    h("p", { class: "ab-price" }, price(told, cost)));
}

function closedHalf(side, told, cost, peak, small, hatch) {
  const line = (what, text) => cost[what] > 0 && h("span", { class: `ab-line ab-${what}`, style: { "--at": cost[what] / peak[what] } }, h("span"), text);
  const lines = [line("flops", flops(cost.flops)), line("bytes", bytes(cost.bytes))];
  return h("div", { class: `ab-closed ab-${side}` },
    picture(told.picture, small, hatch),
    h("div", { class: "ab-lines" }, told.free ? h("span", { class: "ab-line ab-free" }, told.free) : lines));
}

const edge = (n) => Math.max(4, SIDE * Math.cbrt(n));

/** The tensors of a step in a row, sides growing with the cube root of the dimension. Labels only at full size. */
function picture(items, scale, hatch) {
  const large = scale === 1;
  const gap = large ? 8 : 3;
  const letters = (text) => plain(text).length * 6.7;
  let end = 0;
  const placed = items.map((item) => {
    if (item.sign) item = { ...item, span: large ? 15 : 8, tall: 0 };
    else {
      const [wide, tall] = [edge(item.columns) * scale, edge(item.rows) * scale];
      item = { ...item, wide, tall, span: large ? Math.max(wide, letters(item.shape), letters(item.symbol)) : wide };
    }
    end += item.span + gap;
    return { ...item, x: end - gap - item.span / 2 };
  });
  const [above, below] = large ? [22, 20] : [1, 1];
  const tallest = Math.max(...placed.map((item) => item.tall), 8);
  const middle = above + tallest / 2;
  const parts = placed.flatMap((item) => {
    if (item.sign) return [s("text", { class: "ab-sign", x: item.x, y: middle + (large ? 6 : 4), "font-size": large ? 18 : 11 }, item.sign)];
    const place = { x: item.x - item.wide / 2, y: middle - item.tall / 2, width: item.wide, height: item.tall, rx: large ? 3 : 1.5 };
    const drawn = [s("rect", { class: `ab-box ab-${item.kind}`, ...place })];
    if (item.kind === "cache") drawn.push(s("rect", { ...place, fill: `url(#${hatch})` }));
    const text = (name, y, words) => s("text", { class: name, x: item.x, y }, rich(words, true));
    if (large) drawn.push(text("ab-symbol", place.y - 8, item.symbol), text("ab-shape", place.y + item.tall + 15, item.shape));
    return drawn;
  });
  const [width, height] = [end - gap, above + tallest + below];
  const words = items.map((item) => (item.sign ? { "·": "times", "→": "gives" }[item.sign] : `${plain(item.symbol)} (${item.shape})`)).join(" ");
  const label = large ? { role: "img", "aria-label": words } : { "aria-hidden": "true" };
  return s("svg", { class: large ? "ab-picture" : "ab-thumb", viewBox: `0 0 ${width} ${height}`, width, height, ...label }, parts);
}

function legend(hatch) {
  const swatch = (kind) => s("svg", { width: 18, height: 12, "aria-hidden": "true" },
    s("rect", { class: `ab-box ab-${kind}`, x: 1, y: 1, width: 16, height: 10, rx: 2 }),
    kind === "cache" && s("rect", { x: 1, y: 1, width: 16, height: 10, fill: `url(#${hatch})` }));
  const key = (kind, text) => h("span", {}, swatch(kind), text);
  const stripes = s("pattern", { id: hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("rect", { class: "ab-hatch", width: 2.2, height: 6 }));
  return h("p", { class: "ab-legend" },
    s("svg", { width: 0, height: 0, "aria-hidden": "true", class: "ab-defs" }, s("defs", {}, stripes)),
    key("cache", "read from the cache"), key("weight", "weights"), key("flow", "from an earlier step"), key("made", "made in this step"),
    h("span", {}, "Sides grow with the cube root of the dimension."));
}

// ---- the running totals ---------------------------------------------------------------------------------------------------

function boardRows(now, all) {
  const bar = (side, what, format) => {
    const most = Math.max(all.naive[what], all.absorbed[what]);
    return h("div", { class: `ab-total ab-${side}` },
      h("span", {}, side),
      h("span", { class: "ab-track", "aria-hidden": "true" },
        h("span", { class: "ab-all", style: { "--at": all[side][what] / most } }),
        h("span", { class: "ab-now", style: { "--at": now[side][what] / most } })),
      h("span", { class: "ab-value" }, format(now[side][what]), h("span", { class: "ab-of" }, ` of ${format(all[side][what])}`)));
  };
  const group = (title, what, format) => h("div", {}, h("p", { class: "dsw-subtitle" }, title), bar("naive", what, format), bar("absorbed", what, format));
  return [group("Arithmetic so far", "flops", flops), group("Read from the cache so far", "bytes", bytes)];
}

export default { render };
