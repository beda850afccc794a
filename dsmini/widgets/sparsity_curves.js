// Recall against k, one line for each method: lines differ by their dashes and carry their names.
import { s } from "./common.js";

const [LEFT, RIGHT, TOP, HIGH, BOTTOM] = [38, 62, 10, 170, 34]; // pixels
const LABELS = { dense: "dense", oracle: "oracle", indexer: "indexer", window: "window", random: "random" };
const GAP = 14; // pixels between the names

/** The chart of the layer's mean curves, `width` pixels wide. */
export function drawCurves(width, { means, k, method, most }) {
  const x = (n) => LEFT + (width - LEFT - RIGHT) * (most > 1 ? Math.log2(n) / Math.log2(most) : 0);
  const y = (share) => TOP + HIGH * (1 - share);
  const height = TOP + HIGH + BOTTOM;
  const counts = Array.from({ length: most }, (_, i) => i + 1);
  const marks = counts.filter((n) => Number.isInteger(Math.log2(n)));
  const places = spread(Object.keys(LABELS).map((name) => [name, y(means[name][most - 1])]));
  const line = (name) => s("path", { class: `sp-line sp-${name} ${name === method ? "sp-on" : ""}`, d: `M${counts.map((n) => `${x(n).toFixed(1)} ${y(means[name][n - 1]).toFixed(1)}`).join("L")}` });
  const words = `Attention kept against tokens read, mean of all queries. With ${k}: ${Object.keys(LABELS).map((name) => `${LABELS[name]} ${(100 * means[name][k - 1]).toFixed(1)}%`).join(", ")}.`;
  return s("svg", { class: "sp-plot", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    [0, 0.25, 0.5, 0.75, 1].map((share) => [s("line", { class: "sp-grid", x1: LEFT, x2: width - RIGHT, y1: y(share), y2: y(share) }),
      s("text", { class: "sp-tick sp-end", x: LEFT - 5, y: y(share) + 4 }, `${100 * share}%`)]),
    marks.map((n) => s("text", { class: "sp-tick sp-middle", x: x(n), y: TOP + HIGH + 16 }, String(n))),
    s("text", { class: "sp-tick sp-middle", x: (LEFT + width - RIGHT) / 2, y: height - 3 }, "tokens read (k)"),
    s("line", { class: "sp-k", x1: x(k), x2: x(k), y1: TOP, y2: TOP + HIGH }),
    Object.keys(LABELS).filter((name) => name !== method).map(line), line(method),
    s("circle", { class: `sp-dot sp-${method}`, cx: x(k), cy: y(means[method][k - 1]), r: 5 }),
    places.map(([name, at]) => s("text", { class: `sp-name ${name === method ? "sp-on" : ""}`, x: width - RIGHT + 6, y: at + 4 }, LABELS[name])));
}

/** Names at heights, moved apart where they would overlap, and back up where they would leave the chart. */
function spread(names) {
  const sorted = [...names].sort((a, b) => a[1] - b[1]);
  sorted.forEach((one, i) => (one[1] = Math.max(one[1], i ? sorted[i - 1][1] + GAP : TOP)));
  [...sorted].reverse().forEach((one, i, all) => (one[1] = Math.min(one[1], i ? all[i - 1][1] - GAP : TOP + HIGH)));
  return sorted;
}
