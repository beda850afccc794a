// The FP8 tile quantiser: a small matrix in E4M3, one scale for all, for each tile or for each block.
import { announcer, assign, follow, frame, grouped, h, lifetime, logSlider, radios, s, slider, watchWidth } from "./common.js";
import { bitsOf, groupOf, lost, meanRelativeError, numbersAround, quantize, stepAt } from "./float8.js";

const STATE = ["tile", "scheme", "power_of_two", "outlier", "outlier_row", "outlier_column", "row", "column"];
const OUTLIERS = [1, 2 ** 20];
const RULES = [["exact", "largest / 448"], ["power", "power of two (UE8M0)"]];
const COLOURS = [["error", "by error"], ["size", "by size"]];

const HIGH = { 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹", "-": "⁻" };
const power = (x) => `2${[...String(Math.log2(x))].map((digit) => HIGH[digit]).join("")}`;
const percent = (x) => (x === 0 ? "0%" : x < 0.0995 ? `${(100 * x).toFixed(1)}%` : `${Math.round(100 * x)}%`);
const minus = (text) => text.replace(/^-/, "−");

/** A number with `digits` significant digits and no exponent: 0.0003102, 1,204,224. */
function plain(x, digits = 4) {
  if (x === 0) return "0";
  if (Math.abs(x) >= 10 ** digits) return minus(`${x < 0 ? "-" : ""}${grouped(Math.abs(x))}`);
  return minus(x.toPrecision(digits).includes("e") ? Number(x.toPrecision(digits)).toFixed(12).replace(/0+$/, "") : x.toPrecision(digits));
}

/** An E4M3 number, all its digits: 0.001953125, 52, -448. */
const exact = (x) => minus(String(x === 0 ? 0 : x));

const schemeNames = (tile) => [["tensor", "tensor"], ["block", `${tile} × ${tile} block`], ["tile", `1 × ${tile} tile`]];

function render({ model, el }) {
  const life = lifetime();
  const stored = model.get("values").map((row) => row.map(Math.fround));
  const [rows, columns] = [stored.length, stored[0].length];
  const root = frame(el, "tiles", "One outlier, many scales", "Make one number large and see who pays. Pick a number to follow it into 8 bits and back.");
  const controls = makeControls(model, rows, columns);
  const map = heatmap(life, rows, columns, (row, column) => (model.set("row", row), assign(model, "column", column)));
  const lens = h("div", { class: "f8-lens" });
  const said = announcer(life, { class: "dsw-sr" });
  const board = h("div", { class: "f8-board" });
  const verdict = h("p", { class: "dsw-verdict" });
  let colour = "error";
  const colours = radios("Colour the matrix", COLOURS, (name) => ((colour = name), show()));
  root.append(
    h("div", { class: "dsw-controls" }, controls.scheme.node, controls.rule.node, controls.outlier.node, colours.node),
    map.node, h("div", { class: "dsw-controls f8-pick" }, controls.row.node, controls.column.node, controls.move),
    lens, said.node, h("div", { class: "dsw-section" }, h("p", { class: "dsw-subtitle" }, "How far a number is off, on average")), board, verdict);

  function show() {
    const now = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
    const values = stored.map((row) => [...row]);
    const [i, j] = [now.outlier_row - 1, now.outlier_column - 1];
    values[i][j] = Math.fround(values[i][j] * now.outlier);
    const all = Object.fromEntries(["tensor", "block", "tile"].map((name) => [name, quantize(values, name, now.tile, now.power_of_two)]));
    const own = all[now.scheme];
    controls.show(now);
    colours.show(colour);
    map.show(values, own, now, colour);
    const number = { value: values[now.row - 1][now.column - 1], ...Object.fromEntries(Object.entries(own).map(([name, matrix]) => [name, matrix[now.row - 1][now.column - 1]])) };
    lens.replaceChildren(...lensRows(number, now));
    const scores = Object.entries(all).map(([name, { back }]) => ({ name, error: meanRelativeError(back, values), lost: lost(back, values), scales: countScales(rows, columns, name, now.tile) }));
    board.replaceChildren(...boardRows(scores, now));
    verdict.textContent = conclude(scores, now, rows * columns);
    said.say(sentence(number, now));
  }
  follow(life, model, STATE, show);
  return () => life.end();
}

function makeControls(model, rows, columns) {
  const scheme = radios("One scale for each", schemeNames(model.get("tile")), (name) => assign(model, "scheme", name));
  const rule = radios("The scale is", RULES, (name) => assign(model, "power_of_two", name === "power"));
  const outlier = logSlider("The outlier ◆ is made larger", OUTLIERS, [1, 32, 1024, 32768, 2 ** 20], (n) => (n === 1 ? "as it is" : `${grouped(n)} times`), (n) => assign(model, "outlier", n));
  const row = slider("Row", { min: 1, max: rows, step: 1 }, (n) => `${n} of ${rows}`, (n) => assign(model, "row", n));
  const column = slider("Column", { min: 1, max: columns, step: 1 }, (n) => `${n} of ${columns}`, (n) => assign(model, "column", n));
  const move = h("button", { type: "button", class: "dsw-button", onclick: () => {
    model.set("outlier_row", model.get("row"));
    assign(model, "outlier_column", model.get("column"));
  } }, "Put the outlier ◆ here");
  const show = (now) => {
    scheme.show(now.scheme);
    rule.show(now.power_of_two ? "power" : "exact");
    outlier.show(now.outlier);
    row.show(now.row);
    column.show(now.column);
    move.setAttribute("aria-disabled", now.row === now.outlier_row && now.column === now.outlier_column);
  };
  return { scheme, rule, outlier, row, column, move, show };
}

const countScales = (rows, columns, scheme, tile) => {
  const [down, across] = groupOf(rows - 1, columns - 1, scheme, tile);
  return (down + 1) * (across + 1);
};

// ---- the matrix -------------------------------------------------------------------------------------------------------------

/** The matrix as coloured cells. A click picks a number; the sliders below do the same for the keyboard. */
function heatmap(life, rows, columns, pick) {
  const tall = rows > 8 ? 16 : 24;
  const cells = Array.from({ length: rows }, () => Array.from({ length: columns }, () => s("rect", { class: "f8-cell" })));
  const borders = s("path", { class: "f8-border" });
  const group = s("rect", { class: "f8-group" });
  const picked = s("rect", { class: "f8-picked" });
  const outlier = s("path", { class: "f8-outlier" });
  const svg = s("svg", { class: "f8-map", height: rows * tall + 4, role: "img" }, cells.flat(), borders, group, outlier, picked);
  const key = h("p", { class: "f8-legend" });
  let [wide, last] = [20, null];
  const place = (rect, row, column, down = 1, across = 1, inset = 0) => {
    for (const [name, value] of Object.entries({ x: column * wide + 2 + inset, y: row * tall + 2 + inset, width: Math.max(1, across * wide - 2 * inset), height: down * tall - 2 * inset })) rect.setAttribute(name, value);
  };
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const [row, column] = [(event.clientY - box.top - 2) / tall, (event.clientX - box.left - 2) / wide].map(Math.floor);
    if (row >= 0 && row < rows && column >= 0 && column < columns) pick(row + 1, column + 1);
  });
  const layout = (width) => {
    wide = (width - 4) / columns;
    cells.forEach((line, i) => line.forEach((cell, j) => place(cell, i, j)));
    if (last) show(...last);
  };
  function show(values, own, now, colour) {
    last = [values, own, now, colour];
    const most = Math.max(...values.flat().map(Math.abs));
    cells.forEach((line, i) => line.forEach((cell, j) => {
      const x = Math.abs(values[i][j]);
      const level = colour === "size" ? (x ? Math.max(0, 1 + Math.log2(x / most) / 24) : 0) : x ? Math.sqrt(Math.abs(own.back[i][j] - values[i][j]) / x) : 0;
      cell.style.setProperty("--at", level.toFixed(3));
      cell.setAttribute("class", `f8-cell f8-${colour}${colour === "error" && x && own.back[i][j] === 0 ? " f8-lost" : ""}`);
    }));
    const span = { tensor: [rows, columns], tile: [1, now.tile], block: [now.tile, now.tile] }[now.scheme];
    const across = Array.from({ length: Math.ceil(columns / span[1]) - 1 }, (_, k) => `M${(k + 1) * span[1] * wide + 2} 2v${rows * tall}`);
    const down = Array.from({ length: Math.ceil(rows / span[0]) - 1 }, (_, k) => `M2 ${(k + 1) * span[0] * tall + 2}h${columns * wide}`);
    borders.setAttribute("d", [...across, ...down].join(""));
    const [g, k] = groupOf(now.row - 1, now.column - 1, now.scheme, now.tile);
    place(group, g * span[0], k * span[1], Math.min(span[0], rows - g * span[0]), Math.min(span[1], columns - k * span[1]));
    place(picked, now.row - 1, now.column - 1, 1, 1, 1.5);
    const [x, y, r] = [(now.outlier_column - 0.5) * wide + 2, (now.outlier_row - 0.5) * tall + 2, Math.min(6, 0.4 * wide)];
    outlier.setAttribute("d", `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`);
    svg.setAttribute("aria-label", `${rows} × ${columns} numbers. ${lost(own.back, values)} became zero. The one under the lens: row ${now.row}, column ${now.column}.`);
    key.replaceChildren(...mapKey(colour));
  }
  watchWidth(life, svg, layout);
  return { node: h("div", { class: "f8-matrix" }, svg, key), show };
}

function mapKey(colour) {
  const swatch = (text, level, more = "") => h("span", {}, s("svg", { width: 14, height: 12, "aria-hidden": "true" }, s("rect", { class: `f8-cell f8-${colour} ${more}`, width: 14, height: 12, style: { "--at": level } })), text);
  const marks = [h("span", {}, h("span", { class: "f8-frame", "aria-hidden": "true" }), "shares its scale")];
  if (colour === "size") return [swatch("2²⁴ times smaller", 0), swatch("4,096 times smaller", 0.5), swatch("the largest", 1), ...marks];
  return [swatch("0% off", 0), swatch("6%", 0.25), swatch("25%", 0.5), swatch("100%: it became zero", 1, "f8-lost"), ...marks];
}

// ---- one number under the lens ------------------------------------------------------------------------------------------------

const errorOf = ({ value, back }) => (value === 0 ? 0 : Math.abs(back - value) / Math.abs(value));

function lensRows(number, now) {
  const { value, amax, scales, scaled, rounded, back } = number;
  const group = now.scheme === "tensor" ? "the tensor" : `its ${now.scheme}`;
  const bits = bitsOf(rounded).toString(2).padStart(8, "0");
  const scale = now.power_of_two ? `${power(scales)} = ${plain(scales)}` : plain(scales);
  const step = (name, shown, text) => h("div", { class: "f8-step" }, h("span", {}, name), h("strong", {}, shown), h("span", {}, text));
  return [
    h("p", { class: "dsw-subtitle" }, `The number in row ${now.row}, column ${now.column}`),
    h("div", { class: "f8-steps" },
      step("value", plain(value), ""),
      step("scale", scale, `largest of ${group}: ${plain(amax)}${now.power_of_two ? "; over 448, rounded up" : "; over 448"}`),
      step("over the scale", plain(scaled, 5), ""),
      step("nearest E4M3", exact(rounded), h("span", { class: "f8-bits", "aria-label": `bits ${bits}` }, h("b", {}, bits[0]), h("b", {}, bits.slice(1, 5)), h("b", {}, bits.slice(5)))),
      step("times the scale", plain(back), value !== 0 && back === 0 ? "lost: it became zero" : `off by ${percent(errorOf(number))}`)),
    ruler(scaled, rounded)];
}

/** The E4M3 numbers around the scaled value, on a line. */
function ruler(scaled, rounded) {
  const step = stepAt(scaled);
  const size = Math.abs(scaled);
  const below = Math.min(448, Math.floor(size / step) * step);
  const around = numbersAround(size).filter((n) => (n - below) / step < 2.5); // the spacing doubles at powers of two
  const named = (n) => Math.abs(n - below) >= step || n === below;
  const x = (n) => `${(50 + (100 / 4) * ((n - below) / step - 0.5)).toFixed(2)}%`;
  const sign = scaled < 0 ? "−" : "";
  const words = `On the line: ${around.map((n) => sign + n).join(", ")}. The value ${plain(scaled, 5)} goes to ${exact(rounded)}.`;
  return s("svg", { class: "f8-ruler", height: 62, role: "img", "aria-label": words },
    s("line", { class: "f8-axis", x1: 0, x2: "100%", y1: 36, y2: 36 }),
    around.map((n) => [
      s("line", { class: `f8-tick${n === Math.abs(rounded) ? " f8-nearest" : ""}`, x1: x(n), x2: x(n), y1: 28, y2: 44 }),
      s("text", { class: n === Math.abs(rounded) ? "f8-nearest" : "", x: x(n), y: 58 }, named(n) ? `${n ? sign : ""}${Number(n.toPrecision(5))}` : "")]).flat(),
    s("line", { class: "f8-way", x1: x(size), x2: x(Math.abs(rounded)), y1: 36, y2: 36 }),
    s("path", { class: "f8-value", d: "M-5 -9h10l-5 9z", style: { transform: `translate(${x(size)}, 34px)` } }),
    s("text", { class: "f8-over", x: x(size), y: 18 }, plain(scaled, 5)));
}

function sentence(number, now) {
  const fate = number.value !== 0 && number.back === 0 ? "and is lost" : `and comes back as ${plain(number.back)}, off by ${percent(errorOf(number))}`;
  return `Row ${now.row}, column ${now.column}: ${plain(number.value)} over the scale ${plain(number.scales)} is ${plain(number.scaled, 5)}, goes to the E4M3 number ${exact(number.rounded)} ${fate}.`;
}

// ---- the schemes side by side -------------------------------------------------------------------------------------------------

function boardRows(scores, now) {
  const most = Math.max(0.1, ...scores.map((score) => score.error));
  return scores.map(({ name, error, lost, scales }) => h("div", { class: `f8-row${name === now.scheme ? " f8-own" : ""}` },
    h("span", { class: "f8-name" }, Object.fromEntries(schemeNames(now.tile))[name]),
    h("span", { class: "f8-track", "aria-hidden": "true" }, h("span", { style: { "--at": error / most } })),
    h("strong", {}, percent(error)),
    h("span", { class: "f8-more" }, `${lost} lost, ${scales} ${scales === 1 ? "scale" : "scales"}`)));
}

function conclude(scores, now, count) {
  const by = Object.fromEntries(scores.map((score) => [score.name, score]));
  const hurt = (score) => `${percent(score.error)}${score.lost ? ` and ${score.lost} of ${count} numbers lost` : ""}`;
  if (by.tensor.error - by.tile.error < 0.01) return `${now.outlier === 1 ? "Without an outlier" : `With the outlier at ${grouped(now.outlier)} times`} all three do alike: ${hurt(by.tensor)}. E4M3 has exponents of its own, so a scale matters only once numbers fall below 2⁻⁶, where its digits thin out.`;
  return `With the outlier at ${grouped(now.outlier)} times, one scale for the tensor costs ${hurt(by.tensor)}. With a scale for each block it is ${hurt(by.block)}; with one for each tile ${hurt(by.tile)}, for only the outlier's ${now.tile - 1} neighbours share its scale.`;
}

export default { render };
