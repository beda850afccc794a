// The router, token by token: a biased choice, unbiased weights, and the bias that evens out the load.
import { announcer, assign, dropdown, follow, frame, h, lifetime, radios, s, stepper, times, uid, watchWidth } from "./common.js";
import { charts } from "./router_charts.js";
import { balancedRun, expertLoad, maxViolation, route, unpack } from "./routing.js";

const STATE = ["k", "topk_group", "gamma", "batch", "token"];
const SPEEDS = [0, 0.001, 0.01, 0.05];
const UNITS = [["token", "a token"], ["batch", "a batch"]];
const PACES = { slowly: [1, 3], steadily: [0.3, 2], fast: [0.1, 1] }; // seconds a step; and for a reader who wants little motion

const letter = (g) => String.fromCharCode(65 + g);
const signed = (x, digits) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;
const listed = (items) => (items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`);

function render({ model, el }) {
  const life = lifetime();
  const fixed = { groups: model.get("n_group"), scale: model.get("scale"), batches: model.get("batches"), words: model.get("words") };
  const data = model.get("scores").map((text) => unpack(text, model.get("experts")));
  const [size, experts] = [data[0].length, model.get("experts")];
  const root = frame(el, "router", "The router, token by token", "The bias helps to choose the experts and has no say in their weights. After every batch it moves one small step against the load.");
  const hatch = uid("hatch");
  const controls = makeControls(model, experts, fixed.groups);
  const player = makePlayer(life, model, size, fixed.batches);
  const title = h("p", { class: "dsw-subtitle" });
  const board = h("div", { class: "rt-groups" });
  const said = announcer(life, { class: "dsw-live rt-said" });
  const picture = h("div", { class: "rt-charts" });
  const verdict = h("p", { class: "dsw-verdict" });
  root.append(
    h("div", { class: "rt-controls" }, controls.nodes), player.node,
    h("div", { class: "dsw-section" }, title, legend(hatch)), board, said.node,
    h("div", { class: "dsw-section" }, h("p", { class: "dsw-subtitle" }, `The run: ${fixed.batches} batches of ${size} tokens`)), picture, verdict);

  let [key, run, range, drawn] = ["", null, null, null];
  const draw = () => (drawn = run && charts(picture, run, data.length));
  const show = () => {
    const now = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
    const rule = [now.k, fixed.groups, now.topk_group];
    const changed = key !== String([now.gamma, rule]);
    if (changed) {
      run = balancedRun(data, fixed.batches, now.gamma, ...rule);
      range = rangeOf(run, data);
    }
    if (changed || !drawn) draw();
    key = String([now.gamma, rule]);
    const tokens = data[(now.batch - 1) % data.length];
    const bias = run.biases[now.batch - 1];
    const choices = tokens.slice(0, now.token).map((scores) => route(scores, bias, ...rule, fixed.scale));
    const step = { ...now, rule, size, bias, scores: tokens[now.token - 1], choice: choices.at(-1), load: expertLoad(choices, experts),
      next: now.token === size ? run.biases[now.batch] : null, whole: run.loads[now.batch - 1], range };
    const word = fixed.words.length ? `, “${fixed.words[(now.batch - 1) % data.length][now.token - 1]}”` : "";
    title.textContent = `Batch ${now.batch}, token ${now.token}${word}`;
    controls.show(now);
    player.show(now);
    board.replaceChildren(...tables(experts, fixed.groups).map((part) => expertTable(part, step, hatch)));
    drawn?.(now.batch);
    verdict.textContent = conclude(run, now, data.length);
    if (!player.playing()) said.say(sentence(step));
  };
  player.onpause(show);
  watchWidth(life, picture, () => (draw(), drawn?.(model.get("batch"))));
  follow(life, model, STATE, show);
  return () => life.end();
}

// ---- controls -----------------------------------------------------------------------------------------------------------

function makeControls(model, experts, groups) {
  const size = experts / groups;
  const offered = (usual, name) => [...new Set([...usual, model.get(name)])].sort((a, b) => a - b);
  const counts = offered([1, 2, 4, 8], "k").filter((k) => k <= experts);
  const speeds = offered(SPEEDS, "gamma").map((x) => [x, x ? String(x) : "off"]);
  const speed = radios("Bias update speed γ", speeds, (x) => assign(model, "gamma", x));
  const chosen = radios("Experts for each token", counts.map((k) => [k, String(k)]), (k) => assign(model, "k", k));
  const kept = radios("Groups kept", Array.from({ length: groups }, (_, i) => [i + 1, i + 1 === groups ? "all" : String(i + 1)]), (n) => assign(model, "topk_group", n));
  const show = ({ gamma, k, topk_group }) => {
    speed.show(gamma);
    chosen.show(k);
    kept.show(topk_group);
    chosen.inputs.forEach((input) => (input.disabled = Number(input.value) > topk_group * size));
    kept.inputs.forEach((input) => (input.disabled = Number(input.value) * size < k));
  };
  return { nodes: [speed.node, chosen.node, groups > 1 && kept.node], show };
}

/** Steppers for batch and token, and a Play button that moves on by itself until it is pressed again. */
function makePlayer(life, model, size, batches) {
  let [timer, unit, paused] = [0, "token", () => {}];
  const seconds = () => PACES[pace.control.value][matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : 0];
  const go = (batch, token) => {
    model.set("batch", batch);
    assign(model, "token", token);
  };
  const advance = () => {
    const [batch, token] = [model.get("batch"), model.get("token")];
    const wanted = unit === "token" && token < size ? [batch, token + 1] : [batch + 1, unit === "token" ? 1 : size];
    if (wanted[0] > batches) stop();
    else go(...wanted);
  };
  const icon = s("path", { fill: "currentColor" });
  const text = h("span");
  const button = h("button", { type: "button", class: "dsw-button rt-play", onclick: () => (timer ? stop() : start()) },
    s("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, icon), text);
  const face = () => {
    icon.setAttribute("d", timer ? "M4 3h3v10H4zM9 3h3v10H9z" : "M4 2.5 13 8l-9 5.5z");
    text.textContent = timer ? "Pause" : "Play";
    hint.textContent = `a ${unit} every ${seconds() === 1 ? "second" : `${seconds()} seconds`}`;
  };
  const hint = h("span", { class: "rt-hint" });
  const pace = dropdown("Pace", Object.keys(PACES).map((name) => [name, name]), () => (timer ? start() : face()));
  pace.control.value = "steadily";
  const start = () => {
    clearInterval(timer);
    timer = setInterval(() => (document.hidden ? stop() : advance()), 1000 * seconds());
    face();
    advance();
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    face();
    paused();
  };
  life.add(() => clearInterval(timer));
  const by = radios("Play moves on by", UNITS, (name) => {
    unit = name;
    face();
  });
  by.show(unit);
  const batch = stepper("Batch", (i) => (timer && stop(), assign(model, "batch", i + 1)));
  const token = stepper("Token", (i) => (timer && stop(), assign(model, "token", i + 1)));
  face();
  return {
    node: h("div", { class: "rt-player" }, batch.node, token.node, h("div", { class: "rt-playing" }, h("div", {}, button, hint), by.node, pace.node)),
    show(now) {
      batch.show(now.batch - 1, batches, `${now.batch} of ${batches}`);
      token.show(now.token - 1, size, `${now.token} of ${size}`);
    },
    playing: () => timer !== 0,
    onpause: (f) => (paused = f),
  };
}

// ---- one token ------------------------------------------------------------------------------------------------------------

/** The axis of all score bars of a run: 0 to 1, and what the bias takes beyond. */
function rangeOf({ biases }, data) {
  let [low, high] = [0, 1];
  biases.forEach((bias, i) => data[i % data.length].forEach((scores) => scores.forEach((score, e) => {
    low = Math.min(low, score + bias[e]);
    high = Math.max(high, score + bias[e]);
  })));
  return [low, high];
}

/** The tables that the experts stand in: one a group, or two halves where there are no groups. */
function tables(experts, groups) {
  const count = groups > 1 ? groups : experts >= 8 && experts % 2 === 0 ? 2 : 1;
  return Array.from({ length: count }, (_, i) => ({ group: groups > 1 ? i : 0, first: (i * experts) / count, size: experts / count }));
}

function expertTable({ group, first, size }, step, hatch) {
  const out = !step.choice.kept.includes(group);
  const heads = ["expert", "score and bias", "weight", "load", "bias"].map((text) => h("th", { scope: "col" }, text));
  const rows = Array.from({ length: size }, (_, i) => expertRow(first + i, step, out, hatch));
  return h("table", { class: `rt-group${out ? " rt-out" : ""}` },
    h("caption", {}, step.rule[1] === 1 ? `Experts ${first} to ${first + size - 1}` : groupTitle(group, step, size, out)),
    h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
}

function groupTitle(g, { scores, bias, choice, rule }, size, out) {
  const biased = scores.map((score, e) => score + bias[e]).slice(g * size, (g + 1) * size).sort((a, b) => b - a);
  const two = biased.slice(0, 2).map((x) => (x < 0 ? `−${(-x).toFixed(2)}` : x.toFixed(2)));
  const total = two.length > 1 ? `${two.join(" + ").replace("+ −", "− ")} = ${choice.groups[g].toFixed(2).replace("-", "−")}` : two[0];
  const fate = rule[1] === rule[2] ? "" : out ? "out, −∞" : "kept";
  return [h("strong", {}, `Group ${letter(g)}`), h("span", {}, ` two best: ${total}`), fate && h("span", { class: "rt-fate" }, fate)];
}

function expertRow(e, step, out, hatch) {
  const rank = step.choice.experts.indexOf(e);
  const move = step.next ? Math.sign(step.next[e] - step.bias[e]) : 0;
  const arrow = move ? h("span", { class: move > 0 ? "rt-up" : "rt-down", role: "img", "aria-label": move > 0 ? "rises" : "falls" }, move > 0 ? "▲" : "▼") : "";
  const most = Math.max(...step.whole, 1);
  const even = (step.k * step.size) / step.whole.length;
  return h("tr", { class: rank >= 0 ? "rt-chosen" : "" },
    h("th", { scope: "row" }, String(e)),
    h("td", {}, scoreBar(step.scores[e], step.bias[e], step.range, out, hatch)),
    h("td", { class: "rt-weight" }, rank >= 0 ? `✓ ${step.choice.weights[rank].toFixed(2)}` : ""),
    h("td", { class: "rt-load" },
      h("span", { class: "rt-track", "aria-hidden": "true", style: { "--even": even / most } }, h("span", { style: { "--at": step.load[e] / most } })),
      h("span", {}, String(step.load[e]))),
    h("td", { class: "rt-bias" }, step.bias[e] ? signed(step.bias[e], digitsOf(step.gamma)) : "0", arrow));
}

const digitsOf = (gamma) => (gamma >= 0.01 ? 2 : 3);

/** A score as a bar, its bias as the hatched piece that is put on or taken off, and a mark where the choice looks. */
function scoreBar(score, bias, [low, high], out, hatch) {
  const x = (value) => (100 * (value - low)) / (high - low);
  const biased = score + bias;
  const piece = (name, from, to, more) => s("rect", { class: name, x: `${x(from)}%`, y: 3, width: `${Math.max(0, x(to) - x(from))}%`, height: 12, ...more });
  const words = `${score.toFixed(2)}${bias ? ` ${bias < 0 ? "−" : "+"} ${Math.abs(bias).toFixed(3)}` : ""}`;
  return s("svg", { class: "rt-score", height: 18, role: "img", "aria-label": words },
    s("title", {}, words),
    piece("rt-unbiased", 0, bias < 0 ? Math.max(0, biased) : score),
    piece("rt-shift", Math.min(score, biased), Math.max(score, biased)),
    piece("", Math.min(score, biased), Math.max(score, biased), { fill: `url(#${hatch})` }),
    !out && s("line", { class: "rt-mark", x1: `${x(biased)}%`, x2: `${x(biased)}%`, y1: 0, y2: 18 }));
}

function legend(hatch) {
  const stripes = s("pattern", { id: hatch, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("rect", { class: "rt-hatch", width: 2, height: 5 }));
  const swatch = (...parts) => s("svg", { width: 20, height: 12, "aria-hidden": "true" }, parts);
  const box = (name, more) => s("rect", { class: name, y: 1, width: 20, height: 10, ...more });
  return h("p", { class: "rt-legend" },
    s("svg", { class: "rt-defs", width: 0, height: 0, "aria-hidden": "true" }, s("defs", {}, stripes)),
    h("span", {}, swatch(box("rt-unbiased")), "score"),
    h("span", {}, swatch(box("rt-shift"), box("", { fill: `url(#${hatch})` })), "bias, on or off"),
    h("span", {}, swatch(s("line", { class: "rt-mark", x1: 10, x2: 10, y1: 0, y2: 12 })), "what is compared"),
    h("span", {}, swatch(s("line", { class: "rt-even", x1: 10, x2: 10, y1: 0, y2: 12 })), "even load"));
}

// ---- sentences ------------------------------------------------------------------------------------------------------------

function sentence(step) {
  const { choice, rule, scores, bias } = step;
  const chosen = choice.experts.map((e, i) => `${e} (weight ${choice.weights[i].toFixed(2)})`);
  const groups = rule[2] < rule[1] ? `Group${choice.kept.length > 1 ? "s" : ""} ${listed(choice.kept.map(letter))} ${choice.kept.length > 1 ? "are" : "is"} kept. ` : "";
  const plain = route(scores, bias.map(() => 0), ...rule).experts;
  const same = plain.every((e) => choice.experts.includes(e));
  const [noun, verb] = plain.length > 1 ? ["experts", "would be"] : ["expert", "would be"];
  const without = same ? "The bias changes nothing here." : `Without the bias it ${verb} ${noun} ${listed(plain)}.`;
  return `${groups}The token goes to ${noun} ${listed(chosen)}. ${without}${step.next ? " The batch is complete: each bias moves by γ, up below the mean load and down above it." : ""}`;
}

function conclude(run, { gamma }, repeat) {
  const pooled = run.loads.slice(-repeat).reduce((all, load) => all.map((n, e) => n + load[e]));
  const [first, last] = [run.loads[0], pooled].map(maxViolation);
  const idle = pooled.filter((n) => n === 0).length;
  const busiest = `In the first batch the busiest expert receives ${times(first + 1)} times the mean (MaxVio ${first.toFixed(2)}).`;
  if (!gamma) return `${busiest} With γ = 0 nothing moves: over the last ${repeat === 1 ? "batch" : `${repeat} batches`} MaxVio is ${last.toFixed(2)}${idle ? `, and ${idle} of ${pooled.length} experts stand idle` : ""}.`;
  const end = run.biases.at(-1);
  return `${busiest} At γ = ${gamma} MaxVio over the last ${repeat === 1 ? "batch" : `${repeat} batches`} is ${last.toFixed(2)}; the biases end between ${signed(Math.min(...end), 3)} and ${signed(Math.max(...end), 3)}.`;
}

export default { render };
