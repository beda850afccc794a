// The KV-cache calculator: one model under four attentions, and the real models side by side.
import { announcer, assign, bytes, dropdown, follow, frame, grouped, h, lifetime, logSlider, number, radios, short, times } from "./common.js";
import { attentionOf, isMla, kvCacheBytes, layoutsOf, tokensThatFit, withAttention } from "./formulas.js";

const GIB = 2 ** 30;
const CONTEXTS = [1024, 262144];
const PRECISIONS = [[4, "fp32"], [2, "bf16"], [1, "fp8"]];
const MEMORIES = [[24, "24"], [80, "80: one H100"], [640, "640: eight of them"]];
const LAYOUTS = {
  plain: "plain: every value alike",
  "fp8-index": "fp8-index: index keys in fp8",
  production: "production: latents in fp8",
  expanded: "expanded: keys and values of all heads",
};
const TITLES = { mha: "MHA", gqa: "GQA", mqa: "MQA", mla: "MLA" };
const STATE = ["preset", "context", "batch_size", "bytes_per_value", "memory_gib", "cache_layout"];

const nameOf = (model) => (attentionOf(model) === "gqa" ? `GQA-${model.num_key_value_heads}` : TITLES[attentionOf(model)]);

/** 80 -> "80", 1234.5 -> "1,230": a setting, without digits that nobody typed. */
const setting = (x) => (x >= 1000 ? grouped(x) : String(Number(x.toPrecision(3))));

/** The rows of the bar chart: the four attentions, and the model's own groups if they are not eight. */
function variants(own, layout) {
  const groups = own.num_attention_heads > 8 && own.num_attention_heads % 8 === 0 ? [8] : [];
  if (attentionOf(own) === "gqa" && !groups.includes(own.num_key_value_heads)) groups.push(own.num_key_value_heads);
  const shapes = [
    withAttention(own, "mha"),
    ...groups.sort((a, b) => b - a).map((n) => withAttention(own, "gqa", n)),
    withAttention(own, "mqa"),
    withAttention(own, "mla"),
  ];
  return shapes.map((shape) => {
    const mine = nameOf(shape) === nameOf(own);
    return { kind: attentionOf(shape), name: nameOf(shape), shape: mine ? own : shape, mine, layout: mine ? layout : "plain" };
  });
}

function render({ model, el }) {
  const life = lifetime();
  const rows = model.get("models");
  const root = frame(el, "kv", "What does the cache cost?", "Drag the context and watch which cache still fits on the GPU.");
  const controls = makeControls(model, rows);
  const log = h("input", { type: "checkbox", onchange: () => show() });
  log.checked = true;
  const said = announcer(life, { class: "dsw-live dsw-verdict" });
  const title = h("span");
  const chart = h("div", { class: "kv-chart" });
  const note = h("p", { class: "dsw-note" });
  const table = h("tbody");
  root.append(
    h("div", { class: "dsw-controls" }, controls.nodes),
    said.node,
    h("div", { class: "dsw-section" },
      h("p", { class: "dsw-subtitle" }, "One model, four attentions: ", title),
      h("label", { class: "dsw-check" }, log, h("span", {}, "log scale"))),
    chart,
    note,
    h("div", { class: "dsw-section" }, h("p", { class: "dsw-subtitle" }, "The real models at this setting")),
    h("table", { class: "kv-table" },
      h("thead", {}, h("tr", {}, ["Model", "Per token", "Cache", "Tokens that fit"].map((text) => h("th", { scope: "col" }, text)))),
      table),
  );

  function show() {
    const own = rows.find((row) => row.name === model.get("preset"));
    const now = {
      context: model.get("context"),
      batch: model.get("batch_size"),
      precision: model.get("bytes_per_value"),
      memory: model.get("memory_gib") * GIB,
      layout: model.get("cache_layout"),
    };
    const bars = variants(own, now.layout).map((bar) => ({ ...bar, size: kvCacheBytes(bar.shape, now.context, now.batch, now.precision, bar.layout) }));
    controls.show(own, now);
    drawChart(chart, bars, now, log.checked);
    table.replaceChildren(...tableRows(rows, own, now));
    title.textContent = own.title;
    note.textContent = noteFor(own, now.layout);
    note.hidden = !note.textContent;
    said.say(verdict(own, bars, now));
  }
  follow(life, model, STATE, show);
  return () => life.end();
}

function makeControls(model, rows) {
  const preset = dropdown("Model", rows.map((row) => [row.name, row.title]), (name) => {
    const possible = layoutsOf(rows.find((row) => row.name === name));
    if (!possible.includes(model.get("cache_layout"))) model.set("cache_layout", "plain");
    assign(model, "preset", name);
  });
  const layout = dropdown("Cache layout", [], (name) => assign(model, "cache_layout", name));
  const context = logSlider("Context", CONTEXTS, [1024, 4096, 16384, 65536, 262144], (n) => `${grouped(n)} tokens`, (n) => assign(model, "context", n));
  const batch = logSlider("Batch", [1, 256], [1, 4, 16, 64, 256], (n) => (n === 1 ? "1 sequence" : `${grouped(n)} sequences`), (n) => assign(model, "batch_size", n));
  const precision = radios("Each cached value", PRECISIONS, (n) => assign(model, "bytes_per_value", n));
  const memory = number("GPU memory for the cache, in GiB", { min: 0.1, max: 1000000, step: "any" }, (n) => assign(model, "memory_gib", n));
  const quick = MEMORIES.map(([n, text]) => h("button", { type: "button", class: "dsw-chip", onclick: () => assign(model, "memory_gib", n) }, text));
  memory.node.append(h("div", { class: "dsw-chips" }, quick));
  let offered = "";
  const show = (own, now) => {
    const possible = layoutsOf(own);
    if (offered !== possible.join()) layout.set(possible.map((name) => [name, LAYOUTS[name]]));
    offered = possible.join();
    layout.control.disabled = possible.length === 1;
    layout.control.value = now.layout;
    preset.control.value = own.name;
    context.show(now.context);
    batch.show(now.batch);
    precision.show(now.precision);
    precision.inputs.forEach((input) => (input.disabled = now.layout === "production"));
    memory.show(model.get("memory_gib"));
  };
  return { nodes: [preset, layout, context, batch, precision, memory].map((control) => control.node), show };
}

// ---- the bars ---------------------------------------------------------------------------------------------------------

/** Where a size stands on the axis (0 to 1), and the axis's gridlines in GiB. */
function scaleOf(bars, now, log) {
  const sizes = bars.map((bar) => bar.size / GIB);
  const clip = (share) => Math.min(1, Math.max(0, share));
  const lines = [];
  if (!log) {
    const top = Math.max(...sizes, now.memory / GIB) * 1.04;
    const step = niceStep(top);
    for (let i = 0; i * step <= top; i += 1) lines.push(i * step);
    return { lines, at: (gib) => clip(gib / top) };
  }
  // The log axis spans the context slider's range, so that it holds still while the slider moves.
  const [least, most] = CONTEXTS.map((n) => n / now.context);
  const low = 2 ** (4 * Math.floor((Math.log2(Math.min(...sizes, Math.min(...sizes) * least)) - 2) / 4) + 2);
  const high = Math.max(...sizes, Math.max(...sizes) * most, now.memory / GIB) * 1.15;
  for (let gib = low; gib <= high; gib *= 16) lines.push(gib); // 1 MiB, 16 MiB, 256 MiB, 4 GiB, 64 GiB, 1 TiB
  return { lines, at: (gib) => clip(Math.log(gib / low) / Math.log(high / low)) };
}

/** A round step that gives three to six gridlines. */
function niceStep(most) {
  const power = 10 ** Math.floor(Math.log10(most / 3));
  return [1, 2, 5, 10].map((n) => n * power).filter((step) => most / step >= 3).pop();
}

function drawChart(chart, bars, now, log) {
  const scale = scaleOf(bars, now, log);
  const axis = (...children) => h("div", { class: "kv-axis", "aria-hidden": "true" }, h("div", { class: "kv-plane" }, children));
  const limit = scale.at(now.memory / GIB);
  const edge = (share) => (share > 0.9 ? "kv-mark kv-last" : share < 0.05 ? "kv-mark kv-first" : "kv-mark");
  const mha = bars[0].size;
  chart.replaceChildren(
    axis(scale.lines.map((gib) => h("span", { class: edge(scale.at(gib)), style: { "--at": scale.at(gib) } }, h("span", {}, axisText(gib))))),
    h("div", { class: "kv-rows", role: "list" }, bars.map((bar) => barRow(bar, mha, now, scale))),
    axis(h("span", { class: limit > 0.5 ? "kv-limit kv-left" : "kv-limit", style: { "--at": limit } }, h("span", {}, `${setting(now.memory / GIB)} GiB of GPU memory`))),
  );
}

const axisText = (gib) => (gib === 0 ? "0" : bytes(gib * GIB).replace(/\.0+ /, " "));

/** One attention: its name, its bar (hatched where it no longer fits), its size, the saving, and whether it fits. */
function barRow(bar, mha, now, scale) {
  const over = bar.size > now.memory;
  const [end, limit] = [bar.size, now.memory].map((size) => scale.at(size / GIB));
  const saving = bar.size <= mha ? `${times(mha / bar.size)}× less` : `${times(bar.size / mha)}× more`;
  return h("div", { class: `kv-row kv-${bar.kind}${bar.mine ? " kv-own" : ""}`, role: "listitem" },
    h("div", { class: "kv-name" }, h("strong", {}, bar.name), bar.mine && h("span", { class: "kv-badge" }, "its own")),
    h("div", { class: "kv-track", "aria-hidden": "true" },
      h("span", { class: "kv-bar", style: { "--at": end } }),
      over && h("span", { class: "kv-bar kv-over", style: { "--from": limit, "--at": end } }),
      h("span", { class: "kv-line", style: { "--at": limit } })),
    h("div", { class: "kv-size" }, bytes(bar.size)),
    h("div", { class: "kv-saving" }, bar.size === mha ? "" : saving),
    h("div", { class: over ? "kv-fit kv-short" : "kv-fit" }, over ? `${times(bar.size / now.memory)} GPUs` : "fits"));
}

// ---- the table and the words --------------------------------------------------------------------------------------------

function tableRows(rows, own, now) {
  const list = rows.map((row) => {
    const layout = row === own ? now.layout : "plain";
    const one = kvCacheBytes(row, 1, 1, now.precision, layout);
    return { row, layout, one, all: one * now.context * now.batch, fit: tokensThatFit(row, now.memory, now.batch, now.precision, layout) };
  });
  list.sort((a, b) => b.one - a.one);
  return list.map(({ row, layout, one, all, fit }) => {
    const kind = layout === "plain" ? nameOf(row) : `${nameOf(row)}, ${layout}`;
    return h("tr", { class: `kv-${attentionOf(row)}${row === own ? " kv-shown" : ""}`, "aria-current": row === own && "true" },
      h("th", { scope: "row" }, row.title, " ", h("span", { class: "kv-kind" }, kind)),
      h("td", { class: "kv-token", style: { "--share": one / list[0].one } }, h("span", {}, `${grouped(one)} B`)),
      h("td", {}, bytes(all)),
      h("td", { class: fit < now.context && "kv-short" }, grouped(fit)));
  });
}

function verdict(own, bars, now) {
  const mine = bars.find((bar) => bar.mine);
  const fit = tokensThatFit(own, now.memory, now.batch, now.precision, mine.layout);
  const saving = mine.size < bars[0].size ? `, ${times(bars[0].size / mine.size)} times less than the same model with MHA (${bytes(bars[0].size)})` : "";
  const many = now.batch === 1 ? "" : ` in each of ${now.batch} sequences`;
  return `${own.title} caches ${bytes(mine.size)} for ${grouped(now.context)} tokens${many}${saving}. ${grouped(fit)} tokens${many} fit into ${setting(now.memory / GIB)} GiB.`;
}

function noteFor(own, layout) {
  if (!isMla(own)) return "This model has no MLA: its row takes DeepSeek-V2's proportions, a latent four heads wide and a RoPE key half a head wide.";
  if (layout === "production") return "The production layout fixes its own precision: fp8 latents with a float32 scale for every 128, RoPE keys in bf16.";
  if (layout === "expanded") return "Expanded: what MLA would store if the keys and values of every head were kept, the RoPE part included.";
  return "";
}

export default { render };
