// The router's run over the batches: MaxVio, the load of every expert, and every expert's bias, above one another.
import { h, s } from "./common.js";
import { maxViolation } from "./routing.js";

const [LEFT, RIGHT, EDGE] = [46, 8, 6]; // pixels: room for the axis labels, at the right, above and below a plot
const TALL = { violation: 84, row: 9, bias: 96 };
const SHADES = [0.25, 0.5, 0.8, 1.25, 2, 3]; // load over the mean: the bounds between the shades of the middle panel
const NAMES = ["below ¼", "¼ to ½", "½ to 0.8", "near the mean", "1¼ to 2", "2 to 3", "above 3"];

/** Draws the run into `box`; returns a function that moves the mark to a batch (from 1). */
export function charts(box, { biases, loads }, repeat) {
  const width = Math.max(240, Math.round(box.getBoundingClientRect().width) || 600);
  const count = loads.length;
  const cell = (width - LEFT - RIGHT) / count;
  const x = (batch) => LEFT + cell * (batch - 0.5);
  const plots = [violationPlot(loads, repeat, x, width), loadPlot(loads, cell), biasPlot(biases, x, width)];
  const marks = plots.map(({ tall }) => [s("rect", { class: "rt-later", y: 0, height: tall + 2 * EDGE }), s("line", { class: "rt-now", y1: 0, y2: tall + 2 * EDGE })]);
  const panels = plots.map(({ title, words, tall, parts }, i) => {
    const last = i === plots.length - 1;
    const height = tall + 2 * EDGE + (last ? 16 : 0);
    return [h("p", { class: "rt-title" }, title),
      s("svg", { class: "rt-chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words }, parts, last && batchAxis(count, x, height - 3), marks[i])];
  });
  box.replaceChildren(...panels.flat(), key());
  return (batch) => marks.forEach(([shade, line]) => {
    for (const [node, name, value] of [[line, "x1", x(batch)], [line, "x2", x(batch)], [shade, "x", x(batch)], [shade, "width", width - x(batch)]]) node.setAttribute(name, value);
  });
}

const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
const added = (loads) => loads.reduce((all, load) => all.map((n, e) => n + load[e]));

function violationPlot(loads, repeat, x, width) {
  const each = loads.map(maxViolation);
  const pooled = each.map((_, i) => maxViolation(added(loads.slice(Math.max(0, i + 1 - repeat), i + 1))));
  const most = Math.max(1, ...each);
  const y = (value) => EDGE + TALL.violation * (1 - value / most);
  const step = most > 4 ? Math.ceil(most / 4) : most > 2 ? 1 : 0.5;
  const ticks = Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
  const line = (name, values) => s("path", { class: name, d: path(values.map((value, i) => [x(i + 1), y(value)])) });
  return {
    title: repeat > 1 ? `MaxVio: each batch (thin) and the last ${repeat} together (thick)` : "MaxVio of each batch",
    words: `MaxVio goes from ${each[0].toFixed(2)} in the first batch to ${each.at(-1).toFixed(2)} in the last.`,
    tall: TALL.violation,
    parts: [ticks.map((tick) => [gridline(y(tick), width), tickText(y(tick), String(tick))]), line("rt-each", each), repeat > 1 && line("rt-pooled", pooled)].flat(2),
  };
}

/** One row an expert, one column a batch. All cells of a shade are one path. */
function loadPlot(loads, cell) {
  const experts = loads[0].length;
  const mean = loads[0].reduce((all, n) => all + n, 0) / experts;
  const cells = SHADES.map(() => "").concat("");
  loads.forEach((load, i) => load.forEach((n, e) => {
    const shade = SHADES.filter((bound) => n / mean >= bound).length;
    cells[shade] += `M${(LEFT + i * cell).toFixed(1)} ${EDGE + e * TALL.row}h${(cell + 0.3).toFixed(1)}v${TALL.row - 1}h${(-cell - 0.3).toFixed(1)}z`;
  }));
  const labels = [0, experts - 1].map((e) => tickText(EDGE + e * TALL.row + 4, String(e)));
  const idle = (load) => load.filter((n) => n < mean / 2).length;
  return {
    title: "Load: one row an expert; orange above the mean, blue below",
    words: `Experts with less than half the mean load: ${idle(loads[0])} of ${experts} in the first batch, ${idle(loads.at(-1))} in the last.`,
    tall: TALL.row * experts,
    parts: [...cells.map((d, i) => s("path", { class: `rt-shade-${i}`, d })), ...labels],
  };
}

function biasPlot(biases, x, width) {
  const reach = Math.max(0.001, ...biases.flat().map(Math.abs));
  const y = (value) => EDGE + (TALL.bias * (1 - value / reach)) / 2;
  const end = biases.at(-2);
  const [lowest, highest] = [end.indexOf(Math.min(...end)), end.indexOf(Math.max(...end))];
  const line = (e) => path(biases.slice(0, -1).map((bias, i) => [x(i + 1), y(bias[e])]));
  const rest = [...end.keys()].filter((e) => e !== lowest && e !== highest);
  const title = end.some((b) => b !== 0) ? `Bias of every expert: ${highest} (blue) raised most, ${lowest} (orange, dashed) lowered most` : "Bias of every expert: none moves";
  return {
    title,
    words: `${title}. They end between ${Math.min(...end).toFixed(3)} and ${Math.max(...end).toFixed(3)}.`,
    tall: TALL.bias,
    parts: [[reach, 0, -reach].map((tick) => [gridline(y(tick), width), tickText(y(tick), short(tick))]),
      rest.map((e) => s("path", { class: "rt-line", d: line(e) })),
      s("path", { class: "rt-line rt-highest", d: line(highest) }), s("path", { class: "rt-line rt-lowest", d: line(lowest) })].flat(2),
  };
}

const short = (x) => (x === 0 ? "0" : `${x < 0 ? "−" : "+"}${Math.abs(x).toPrecision(2).replace(/^0/, "")}`);
const gridline = (y, width) => s("line", { class: "rt-grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y });
const tickText = (y, text) => s("text", { class: "rt-tick", x: LEFT - 6, y: y + 4 }, text);

function batchAxis(count, x, y) {
  const step = [1, 2, 4, 8, 16, 32, 64, 128].find((n) => count / n <= 8);
  const marks = Array.from({ length: Math.floor(count / step) + 1 }, (_, i) => Math.max(1, i * step));
  return [s("text", { class: "rt-tick", x: LEFT - 6, y }, "batch"), ...[...new Set(marks)].map((n) => s("text", { class: "rt-batch", x: x(n), y }, String(n)))];
}

function key() {
  const swatch = (i) => s("svg", { width: 14, height: 10, "aria-hidden": "true" }, s("rect", { class: `rt-shade-${i}`, width: 14, height: 10 }));
  return h("p", { class: "rt-legend" }, h("span", {}, "load over the mean:"), NAMES.map((name, i) => h("span", {}, swatch(i), name)));
}
