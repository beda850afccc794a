// The sparsity explorer: a query's attention over the tokens before it, the tokens that a method takes, what they keep.
import { announcer, assign, follow, frame, h, lifetime, radios, slider, stepper, watchWidth } from "./common.js";
import { METHODS, chosen, meanCurve, ranked, recall, recallCurve, unpack, unpackWeights } from "./recall.js";
import { drawRow, keys } from "./sparsity_row.js";
import { drawCurves } from "./sparsity_curves.js";

const STATE = ["layer", "query", "k", "method"];
const HEAVIEST = 6; // rows of the table of tokens
const LONGEST = 14; // characters of a token in it
const NAMES = { dense: "dense", indexer: "indexer", window: "window", random: "random", oracle: "oracle" };
const OPTIONS = { dense: "dense: all", indexer: "lightning indexer", window: "window: the latest", random: "random", oracle: "oracle: the heaviest" };

const percent = (share) => {
  if (share > 0 && share < 0.0005) return "< 0.1%";
  return share > 0.9995 ? "100%" : `${(100 * share).toFixed(1)}%`;
};
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function render({ model, el }) {
  const life = lifetime();
  const data = read(model);
  const root = frame(el, "sparsity", "Which tokens are worth reading?", "One query looks back over its text. Pick how its tokens are chosen, and how many: how much of the attention do they keep? Places count from 0.");
  const controls = makeControls(model, data);
  const seeking = data.needles.some((needle) => needle >= 0);
  const board = h("div", { class: "sp-board" });
  const [row, caption] = [h("div", { class: "sp-row" }), h("p", { class: "dsw-note" })];
  const said = announcer(life, { class: "dsw-live dsw-verdict" });
  const [chart, table, tokens] = [h("div", { class: "sp-chart" }), h("div"), h("div", { class: "sp-tokens" })];
  const averages = h("div", { class: "sp-averages" }, h("div", {}, subtitle(`Attention kept by the first 1, 2, … tokens${data.queries.length > 1 ? `, mean of ${data.queries.length} queries` : ""}`), chart), h("div", {}, table));
  root.append(controls.node, board, row, keys(seeking), caption, said.node, averages, tokens);
  let now = null;
  const drawn = (box, draw) => watchWidth(life, box, () => now && box.replaceChildren(draw(widthOf(box), now)));
  const show = () => {
    now = reckon(model, data);
    controls.show(now);
    board.replaceChildren(...drawBoard(now, seeking));
    row.replaceChildren(drawRow(widthOf(row), now));
    caption.textContent = scaleText(now);
    chart.replaceChildren(drawCurves(widthOf(chart), now));
    table.replaceChildren(methodTable(now, data));
    tokens.replaceChildren(subtitle("The heaviest tokens of this query"), tokenTable(now, data));
    said.say(sentence(now));
  };
  follow(life, model, STATE, show);
  drawn(row, drawRow);
  drawn(chart, drawCurves);
  return () => life.end();
}

const widthOf = (box) => Math.max(220, Math.floor(box.getBoundingClientRect().width) || 600);
const subtitle = (text) => h("p", { class: "sp-title" }, text);

// ---- the numbers ----------------------------------------------------------------------------------------------------------

/** The trained data, unpacked once. layers[i][r]: [weights, query, orders], as the formulas take them. */
function read(model) {
  const [queries, random] = [model.get("queries"), model.get("random").map(unpack)];
  const layers = model.get("attention").map((rows, layer) => rows.map((text, r) => {
    return [unpackWeights(text), queries[r], { indexer: unpack(model.get("indexer")[layer][r]), random: random[r] }];
  }));
  const most = Math.max(...random.map((places) => places.length));
  return { queries, layers, most, means: [], needles: model.get("needles"), words: model.get("words") };
}

/** A layer's mean curve of each method: reckoned when it is first asked for. */
function meansOf(data, layer) {
  const mean = (method) => meanCurve(data.layers[layer].map((row) => recallCurve(method, ...row, data.most)));
  data.means[layer] ||= Object.fromEntries(METHODS.map((method) => [method, mean(method)]));
  return data.means[layer];
}

/** All numbers of the moment. */
function reckon(model, data) {
  const [layer, at, k, method] = [model.get("layer"), model.get("query") - 1, model.get("k"), model.get("method")];
  const row = data.layers[layer][at];
  const [weights, query, orders] = row;
  const total = weights.reduce((all, weight) => all + weight, 0);
  const takes = Object.fromEntries(METHODS.map((name) => [name, chosen(name, ...row, k)]));
  const kept = Object.fromEntries(METHODS.map((name) => [name, recall(weights, takes[name])]));
  return { layer, at, k, method, query, orders, takes, kept, most: data.most, means: meansOf(data, layer), needle: data.needles[at],
    shares: weights.map((weight) => weight / total), heaviest: ranked("oracle", ...row), places: takes[method], visible: query + 1 };
}

// ---- controls -------------------------------------------------------------------------------------------------------------

function makeControls(model, data) {
  const [layers, count] = [data.layers.length, data.queries.length];
  const method = radios("Tokens are chosen by", METHODS.map((name) => [name, OPTIONS[name]]), (name) => assign(model, "method", name));
  const layer = radios("Layer", data.layers.map((_, i) => [i, String(i)]), (i) => assign(model, "layer", Number(i)));
  const k = slider("Tokens that a query may read (k)", { min: 1, max: data.most, step: 1 }, String, (n) => assign(model, "k", n));
  const query = stepper("Query", (i) => assign(model, "query", i + 1));
  const node = h("div", { class: "dsw-controls sp-controls" }, h("div", { class: "dsw-span" }, method.node), layers > 1 && layer.node, k.node, count > 1 && h("div", { class: "dsw-span" }, query.node));
  const show = (now) => {
    method.show(now.method);
    layer.show(now.layer);
    k.show(now.k);
    query.show(now.at, count, `${now.at + 1} of ${count}: place ${now.query}`);
  };
  return { node, show };
}

// ---- text and tables --------------------------------------------------------------------------------------------------------

function drawBoard({ kept, method, places, visible, needle, heaviest, k }, seeking) {
  const cell = (value, text) => h("div", { class: "sp-count" }, h("strong", {}, value), h("span", {}, text));
  const found = needle >= 0
    ? cell(places.includes(needle) ? "✓ read" : "✗ missed", `the needle, place ${needle}; ${rankText(heaviest.indexOf(needle))} by attention`)
    : cell("none", "this query looks for no needle");
  return [cell(percent(kept[method]), "of this query’s attention is kept"), cell(percent(kept.oracle), `is the most that ${plural(Math.min(k, visible), "token")} can keep`),
    cell(`${places.length} of ${visible}`, `tokens are read, ${percent(places.length / visible)}`), ...(seeking ? [found] : [])];
}

const clipped = (word) => (word.length > LONGEST ? `${word.slice(0, LONGEST - 1)}…` : word);
const rankText = (i) => (i === 0 ? "first" : `number ${i + 1}`);

function scaleText({ shares, visible }) {
  const top = Math.max(...shares);
  return `Height: square root of a token’s share of the attention, all heads together. A full bar is ${percent(top)}, half a bar ${percent(top / 4)}. Dashed: an even share, 1/${visible}. The model ran dense: every method is judged by the same attention.`;
}

function methodTable({ kept, means, method, k, layer, takes }, { layers, needles }) {
  const sought = needles.filter((needle) => needle >= 0).length;
  const several = needles.length > 1;
  const found = (name) => layers[layer].filter((row, r) => chosen(name, ...row, k).includes(needles[r])).length;
  const heads = ["method", "tokens", "this query", several && "mean", several && sought > 0 && "needles read"].filter(Boolean);
  const rows = METHODS.map((name) => h("tr", { class: name === method ? "sp-shown" : "" }, h("th", { scope: "row" }, NAMES[name]),
    h("td", {}, String(takes[name].length)), h("td", {}, percent(kept[name])), several && h("td", {}, percent(means[name][k - 1])), several && sought > 0 && h("td", {}, `${found(name)} of ${sought}`)));
  return h("table", { class: "sp-table sp-methods" }, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows));
}

function tokenTable({ heaviest, shares, orders, places, needle, query }, { words }) {
  const heads = ["place", words.length > 0 && "token", "attention", "indexer’s rank", "read"].filter(Boolean);
  const note = (place) => (place === needle ? " ▼ needle" : place === query ? " the query itself" : "");
  const rank = (place) => (orders.indexer.includes(place) ? String(orders.indexer.indexOf(place) + 1) : `> ${orders.indexer.length}`);
  const rows = heaviest.slice(0, HEAVIEST).map((place) => h("tr", {}, h("th", { scope: "row" }, String(place), h("span", { class: "sp-note" }, note(place))),
    words.length > 0 && h("td", {}, h("code", {}, clipped(words[place]))), h("td", {}, percent(shares[place])), h("td", {}, rank(place)), h("td", {}, places.includes(place) ? "✓ yes" : "✗ no")));
  return h("table", { class: "sp-table sp-heaviest" }, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows));
}

function sentence({ method, kept, places, visible, needle, query, k }) {
  const [own, best, count] = [percent(kept[method]), percent(kept.oracle), plural(places.length, "token")];
  const all = places.length === visible;
  const found = needle < 0 ? "" : places.includes(needle) ? ` The needle, place ${needle}, is among them.` : ` The needle, ${plural(query - needle, "place")} back, is not among them.`;
  if (method === "dense") return `Dense attention reads all ${visible} tokens. The ${plural(Math.min(k, visible), "heaviest token")} alone would keep ${best}.`;
  if (all) return `There are only ${visible} tokens: all of them are read, whatever the method.`;
  if (method === "oracle") return `No ${count} keep more than the heaviest: ${own} of this query’s attention. To know them, the oracle first had to compare the query with all ${visible} tokens, in full.${found}`;
  if (method === "window") return `The latest ${count} keep ${own} of this query’s attention; the heaviest would keep ${best}.${found}`;
  if (method === "random") return `${count} drawn at random keep ${own} of this query’s attention; the heaviest would keep ${best}.${found}`;
  return `The lightning indexer’s ${count} keep ${own} of this query’s attention, where the heaviest would keep ${best}.${found}`;
}

export default { render };
