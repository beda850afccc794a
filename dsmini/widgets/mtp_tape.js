// The tape of speculative decoding: every draft, its two probabilities, the verdict, and what a forward pass brings.
import { announcer, assign, follow, frame, h, lifetime, radios, s, slider, stepper, uid, watchWidth } from "./common.js";
import { expectedTokens, residual } from "./speculation.js";

const STATE = ["tape", "step", "rate", "depth"];
const REPORTED = [0.85, 0.9]; // DeepSeek-V3 report, section 5.4.3
const DEPTHS = [1, 2, 3, 4];

const percent = (x) => `${Math.round(100 * x)}%`;
const two = (x) => x.toFixed(2);
const chance = (x) => (x === 0 || x >= 0.0995 ? two(x) : x < 0.0001 ? "<0.0001" : String(Number(x.toPrecision(2))));
const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : noun === "pass" ? "es" : "s"}`;
const shown = (text) => text.replace(/\n/g, "↵").replace(/^ | $/g, "␣") || "∅";
const spoken = (text) => `“${text.trim() || text.replace(/\n/g, "new line").replace(/ /g, "space")}”`;

/** Forward passes, tokens and drafts kept in the first passes. */
function tally(tape, passes) {
  const steps = tape.steps.slice(0, passes);
  return { passes, tokens: steps.reduce((all, step) => all + step.count, 0), kept: steps.filter((step) => step.accepted).length };
}

function render({ model, el }) {
  const life = lifetime();
  const tapes = model.get("tapes");
  const root = frame(el, "tape", "Drafts on trial", "The MTP module drafts one token, the main model reads it and gives its verdict. Walk along the tape.");
  const hatch = uid("hatch");
  const pick = radios("Tape", tapes.map((tape) => [tape.label, tape.label]), (label) => {
    const last = tapes.find((tape) => tape.label === label).steps.length;
    model.set("step", Math.min(model.get("step"), last));
    assign(model, "tape", label);
  });
  const steps = stepper("Forward pass", (i) => assign(model, "step", i + 1));
  const strip = h("p", { class: "tp-strip" });
  const board = h("div", { class: "tp-board" });
  const trial = h("div", { class: "tp-trial" });
  const said = announcer(life, { class: "dsw-live dsw-verdict" });
  const theory = makeTheory(life, model);
  if (tapes.length > 1) root.append(pick.node);
  root.append(steps.node, strip, legend(hatch), board, trial, said.node, ...theory.nodes);

  follow(life, model, STATE, () => {
    const tape = tapes.find((one) => one.label === model.get("tape"));
    const now = Math.min(model.get("step"), tape.steps.length);
    const step = tape.steps[now - 1];
    pick.show(tape.label);
    steps.show(now - 1, tape.steps.length, `${now} of ${tape.steps.length}`);
    strip.replaceChildren(...drawStrip(tape, now));
    board.replaceChildren(...drawBoard(tally(tape, now)));
    const rows = Math.max(0, ...tape.steps.map((one) => one.top?.length || 0));
    trial.classList.toggle("tp-known", rows > 0); // keeps its height, so that the page does not move
    trial.style.setProperty("--rows", rows);
    trial.replaceChildren(...(tape.greedy ? greedyTrial(step) : sampledTrial(step, hatch)));
    const own = tally(tape, tape.steps.length);
    theory.show(model.get("rate") < 0 ? own.kept / own.passes : model.get("rate"), model.get("depth"), own.kept / own.passes);
    said.say(sentence(step, now, tape));
  });
  return () => life.end();
}

// ---- the tape -------------------------------------------------------------------------------------------------------------

const chip = (kind, mark, text) => h("span", { class: `tp-chip tp-${kind}` }, mark && h("span", { class: "tp-sign" }, mark), h(kind === "rejected" ? "s" : "span", {}, shown(text)));

/** All passes in their places; those to come are there, but not seen, so that the page does not move. */
function drawStrip(tape, now) {
  const passes = tape.steps.map((step, i) => {
    const chips = step.accepted ? [chip("accepted", "✓", step.draft)] : [chip("rejected", "✗", step.draft), chip("replaced", "", step.token)];
    if (step.count === 2) chips.push(chip("bonus", "+", step.token));
    const place = i + 1 < now ? "tp-past" : i + 1 === now ? "tp-current" : "tp-later";
    return h("span", { class: `tp-pass ${place}`, "aria-hidden": i + 1 > now ? "true" : false }, chips);
  });
  return [h("span", { class: "tp-prompt" }, tape.prompt), h("span", { class: "tp-pass tp-past" }, chip("first", "", tape.first)), ...passes];
}

function legend(hatch) {
  const stripes = s("pattern", { id: hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("rect", { class: "tp-hatch", width: 2, height: 6 }));
  return h("p", { class: "tp-legend" },
    s("svg", { class: "tp-defs", width: 0, height: 0, "aria-hidden": "true" }, s("defs", {}, stripes)),
    h("span", {}, chip("accepted", "✓", "draft"), "stays"), h("span", {}, chip("rejected", "✗", "draft"), "goes"),
    h("span", {}, chip("replaced", "", "token"), "in its place"), h("span", {}, chip("bonus", "+", "token"), "written behind it"));
}

function drawBoard({ passes, tokens, kept }) {
  const cell = (value, text) => h("div", { class: "tp-count" }, h("strong", {}, value), h("span", {}, text));
  return [
    cell(String(passes), passes === 1 ? "forward pass" : "forward passes"),
    cell(String(tokens), `${tokens === 1 ? "token" : "tokens"}: ${count(tokens, "pass")} without drafts`),
    cell(two(tokens / passes), "tokens for each pass"),
    cell(percent(kept / passes), `of the drafts stay: ${kept} of ${passes}`),
  ];
}

// ---- one verdict ------------------------------------------------------------------------------------------------------------

function greedyTrial({ draft, token, accepted }) {
  const side = (who, text) => h("div", { class: "tp-side" }, h("span", {}, who), chip(accepted ? "accepted" : "rejected", "", text));
  const main = accepted ? draft : token;
  const plain = h("div", { class: "tp-side" }, h("span", {}, "the main model's likeliest token"), chip(accepted ? "accepted" : "replaced", "", main));
  return [h("div", { class: "tp-greedy" }, side("the draft", draft), h("strong", { class: "tp-equal" }, accepted ? "=" : "≠"), plain),
    h("p", { class: "tp-note" }, "Greedy decoding has one right token. The draft stays if it is that one, so the text is what it would be without drafts.")];
}

function sampledTrial(step, hatch) {
  const bound = Math.min(1, step.p / step.q);
  const bar = (name, text, value) => h("div", { class: `tp-prob tp-${name}` }, h("span", {}, text), h("span", { class: "tp-track", "aria-hidden": "true" }, h("span", { style: { "--at": value } })), h("strong", {}, chance(value)));
  const rule = h("div", {},
    h("p", { class: "dsw-subtitle" }, "The rule for ", chip(step.accepted ? "accepted" : "rejected", "", step.draft)),
    bar("draft", "q, the draft's chance", step.q), bar("main", "p, the main model's", step.p),
    h("p", { class: "tp-rule" }, step.p >= step.q ? `p ≥ q: stays in any case` : `stays with chance p / q = ${chance(step.p)} / ${chance(step.q)} = ${chance(bound)}`),
    dice(bound, step, hatch));
  return [rule, step.top ? distribution(step) : null].filter(Boolean);
}

/** The uniform number on its line from 0 to 1: left of p / q the draft stays. */
function dice(bound, { uniform, accepted }, hatch) {
  const x = (value) => `${(100 * value).toFixed(2)}%`;
  return s("svg", { class: "tp-dice", height: 44, role: "img", "aria-label": `The uniform number is ${two(uniform)}, ${accepted ? "below" : "not below"} ${two(bound)}.` },
    s("rect", { class: "tp-stay", x: 0, y: 4, width: x(bound), height: 16 }),
    s("rect", { class: "tp-go", x: x(bound), y: 4, width: x(1 - bound), height: 16 }),
    s("rect", { x: x(bound), y: 4, width: x(1 - bound), height: 16, fill: `url(#${hatch})` }),
    s("line", { class: "tp-uniform", x1: x(uniform), x2: x(uniform), y1: 0, y2: 26 }),
    s("text", { class: "tp-mark", x: x(Math.min(0.9, Math.max(0.1, uniform))), y: 40 }, `u = ${two(uniform)}`));
}

function distribution({ top, overlap, accepted, token, draft }) {
  const left = residual(top.map((row) => row[1]), top.map((row) => row[2]), 1 - overlap).map((x) => Math.min(1, x));
  const most = Math.max(...top.flatMap(([, p, q]) => [p, q]));
  const bars = (p, q) => h("span", { class: "tp-pair", "aria-hidden": "true" }, h("span", { class: "tp-main", style: { "--at": p / most } }), h("span", { class: "tp-draft", style: { "--at": q / most } }));
  const rows = top.map(([text, p, q], i) => h("tr", { class: text === (accepted ? draft : token) ? "tp-written" : "" },
    h("th", { scope: "row" }, shown(text)), h("td", {}, chance(p)), h("td", {}, chance(q)), h("td", { class: "tp-bars" }, bars(p, q)),
    h("td", {}, accepted ? h("span", { class: "tp-idle" }, two(left[i])) : two(left[i]))));
  const heads = ["token", "p", "q", "", "residual"].map((text) => (text ? h("th", { scope: "col" }, text) : h("td")));
  return h("div", {},
    h("p", { class: "dsw-subtitle" }, accepted ? "What replaces a rejected draft" : ["What replaced it: ", chip("replaced", "", token)]),
    h("table", { class: "tp-table" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows)),
    h("p", { class: "tp-note" }, `The residual is what p has more than q, scaled up to 1. Any draft here stays with chance Σ min(p, q) = ${two(overlap)}.`));
}

function sentence(step, now, tape) {
  const { tokens, kept } = tally(tape, now);
  const verdict = step.accepted ? "stays" : `goes, ${spoken(step.token)} stands in its place`;
  const why = tape.greedy
    ? step.accepted ? "it is the main model's own choice" : `the main model would say ${spoken(step.token)}`
    : `q = ${chance(step.q)}, p = ${chance(step.p)}, u = ${two(step.uniform)}`;
  const bonus = step.count === 2 ? ` Behind it the same pass writes ${spoken(step.token)}.` : "";
  return `Pass ${now}: the draft ${spoken(step.draft)} ${verdict} (${why}).${bonus} So far ${count(tokens, "token")} in ${count(now, "pass")}, ${count(kept, "draft")} kept.`;
}

// ---- how much it can bring ------------------------------------------------------------------------------------------------

function makeTheory(life, model) {
  const rate = slider("Acceptance rate a", { min: 0, max: 100, step: 1 }, (n) => `${n}%`, (n) => assign(model, "rate", n / 100));
  const depth = radios("Drafts in a row", DEPTHS.map((n) => [n, String(n)]), (n) => assign(model, "depth", n));
  const chart = h("div", { class: "tp-chart" });
  const text = h("p", { class: "tp-note" });
  let last = null;
  const draw = () => last && chart.replaceChildren(curves(chart, ...last));
  watchWidth(life, chart, draw);
  return {
    nodes: [h("div", { class: "dsw-section" }, h("p", { class: "dsw-subtitle" }, "How many tokens can a pass bring?")),
      h("div", { class: "dsw-controls" }, rate.node, depth.node), chart, text],
    show(a, n, own) {
      rate.show(Math.round(100 * a));
      depth.show(n);
      last = [a, n, own];
      draw();
      const sum = ["1", "a", "a²", "a³", "a⁴"].slice(0, n + 1).join(" + ");
      const reported = REPORTED.map((b) => two(expectedTokens(b, 1)));
      text.textContent = `${sum} = ${two(expectedTokens(a, n))} tokens for each pass at a = ${percent(a)}. One draft at the ${REPORTED.map(percent).join(" to ")} that DeepSeek reports for V3: ${reported.join(" to ")}. A draft behind a rejected one is lost with it.`;
    },
  };
}

function curves(box, rate, depth, own) {
  const width = Math.max(240, Math.round(box.getBoundingClientRect().width) || 600);
  const [left, right, top, bottom, height] = [34, 64, 22, 30, 230];
  const x = (a) => left + (width - left - right) * a;
  const y = (n) => height - bottom - ((height - top - bottom) * (n - 1)) / 4;
  const line = (n) => `M${Array.from({ length: 51 }, (_, i) => `${x(i / 50).toFixed(1)} ${y(expectedTokens(i / 50, n)).toFixed(1)}`).join("L")}`;
  const words = `Tokens for each pass against the acceptance rate, one curve for each depth from 1 to 4. At ${percent(rate)} and depth ${depth}: ${two(expectedTokens(rate, depth))}.`;
  return s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    s("rect", { class: "tp-band", x: x(REPORTED[0]), width: x(REPORTED[1]) - x(REPORTED[0]), y: top, height: height - top - bottom }),
    s("text", { class: "tp-tick tp-middle", x: x(0.875), y: top - 7 }, "V3's 85–90%"),
    [1, 2, 3, 4, 5].map((n) => [s("line", { class: "tp-grid", x1: left, x2: width - right, y1: y(n), y2: y(n) }), s("text", { class: "tp-tick tp-end", x: left - 6, y: y(n) + 4 }, String(n))]).flat(),
    [0, 0.25, 0.5, 0.75, 1].map((a) => s("text", { class: "tp-tick tp-middle", x: x(a), y: height - 10 }, percent(a))),
    DEPTHS.map((n) => [s("path", { class: `tp-curve${n === depth ? " tp-on" : ""}`, d: line(n) }), s("text", { class: `tp-tick${n === depth ? " tp-bold" : ""}`, x: x(1) + 6, y: y(n + 1) + 4 }, n === 1 ? "1 draft" : `${n} drafts`)]).flat(),
    s("line", { class: "tp-own", x1: x(own), x2: x(own), y1: y(1), y2: y(expectedTokens(own, depth)) }),
    s("text", { class: `tp-tick ${own > 0.5 ? "tp-end" : ""}`, x: x(own) + (own > 0.5 ? -5 : 5), y: y(1) - 6 }, "this tape"),
    s("circle", { class: "tp-dot", cx: x(rate), cy: y(expectedTokens(rate, depth)), r: 5 }));
}

export default { render };
