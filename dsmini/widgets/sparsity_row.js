// A query's attention, token by token: bars in lines, as text is read; the tokens that are read stand on a thick foot.
import { h, s, uid } from "./common.js";

const [LEFT, RIGHT, HEAD, BAR, FOOT, GAP] = [30, 2, 12, 34, 5, 6]; // pixels; HEAD: room for the needle's mark
const NARROWEST = 3.5; // pixels of a token

/** Tokens in a line: the largest power of two that leaves each wide enough, 32 at least. */
function perLine(width, length) {
  const room = (width - LEFT - RIGHT) / NARROWEST;
  const line = 2 ** Math.floor(Math.log2(Math.max(32, room)));
  return Math.min(line, 2 ** Math.ceil(Math.log2(length)));
}

/** The picture, `width` pixels wide. */
export function drawRow(width, now) {
  const { shares, places, needle, query, method, visible } = now;
  const line = perLine(width, shares.length);
  const [cell, pitch] = [(width - LEFT - RIGHT) / line, HEAD + BAR + FOOT + GAP];
  const lines = Math.ceil(shares.length / line);
  const top = Math.max(...shares);
  const [read, hatch] = [new Set(places), uid("future")];
  const x = (place) => LEFT + (place % line) * cell;
  const base = (place) => Math.floor(place / line) * pitch + HEAD + BAR;
  const tall = (share) => BAR * Math.sqrt(share / top);
  const box = (left, y, wide, high) => `M${left.toFixed(2)} ${y.toFixed(2)}h${wide.toFixed(2)}v${high.toFixed(2)}h${(-wide).toFixed(2)}z`;
  const bar = (place) => box(x(place), base(place) - tall(shares[place]), cell - (cell > 4 ? 1 : 0.6), tall(shares[place]));
  const all = Array.from({ length: visible }, (_, place) => place);
  const words = `The attention of the query at place ${query} over ${visible} tokens. ${places.length} of them are read. The heaviest has ${(100 * top).toFixed(1)}%${needle >= 0 ? `, the needle at place ${needle} ${(100 * shares[needle]).toFixed(1)}%` : ""}.`;
  return s("svg", { class: `sp-map sp-${method}`, width, height: lines * pitch, viewBox: `0 0 ${width} ${lines * pitch}`, role: "img", "aria-label": words },
    s("defs", {}, stripes(hatch)),
    Array.from({ length: lines }, (_, i) => lineFrame(i * line, i * pitch + HEAD + BAR, Math.min(line, shares.length - i * line) * cell, tall(1 / visible))),
    future(visible, shares.length, line).map(([from, to]) => s("rect", { x: x(from), y: base(from) - BAR, width: (to - from) * cell, height: BAR, fill: `url(#${hatch})` })),
    s("path", { class: "sp-bar", d: all.filter((place) => !read.has(place)).map(bar).join("") }),
    s("path", { class: "sp-bar sp-read", d: places.map(bar).join("") }),
    s("path", { class: "sp-foot", d: places.map((place) => box(x(place), base(place) + 1.5, cell - 0.6, FOOT - 1)).join("") }),
    s("path", { class: "sp-now", d: `M${x(query) + cell} ${base(query) - BAR - 4}V${base(query) + FOOT}` }),
    needle >= 0 && needleMark(x(needle) + cell / 2, base(needle) - tall(shares[needle]) - 2, width));
}

/** The ground of one line of tokens: its first place, its base line, and an even share. */
const lineFrame = (first, y, long, even) => [
  s("text", { class: "sp-tick sp-end", x: LEFT - 5, y: y + 1 }, String(first)),
  s("line", { class: "sp-ground", x1: LEFT, x2: LEFT + long, y1: y + 0.75, y2: y + 0.75 }),
  s("line", { class: "sp-even", x1: LEFT, x2: LEFT + long, y1: y - even, y2: y - even })];

/** The tokens after the query, as pieces of lines: [from, to]. */
function future(from, length, line) {
  const pieces = [];
  for (let start = from; start < length; start = pieces.at(-1)[1]) pieces.push([start, Math.min(length, (Math.floor(start / line) + 1) * line)]);
  return pieces;
}

function needleMark(x, y, width) {
  const right = x < width - 60;
  return [s("path", { class: "sp-needle", d: `M${x} ${y}l-5 -8.5h10z` }),
    s("text", { class: `sp-word ${right ? "" : "sp-end"}`, x: x + (right ? 8 : -8), y: y - 1 }, "needle")];
}

const stripes = (id) => s("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("rect", { class: "sp-hatch", width: 1.5, height: 6 }));

/** What the marks mean. */
export function keys(needles) {
  const id = uid("key");
  const swatch = (...parts) => s("svg", { width: 20, height: 16, "aria-hidden": "true" }, parts);
  return h("p", { class: "sp-keys" },
    h("span", {}, swatch(s("path", { class: "sp-bar sp-read sp-key", d: "M4 1h5v9h-5z" }), s("path", { class: "sp-foot", d: "M4 11.5h5.4v4h-5.4z" })), "read: full colour, with a foot"),
    h("span", {}, swatch(s("path", { class: "sp-bar", d: "M4 1h5v9h-5z" })), "not read"),
    needles && h("span", {}, swatch(s("path", { class: "sp-needle", d: "M9 12l-5 -8.5h10z" })), "the needle: where the answer stands"),
    h("span", {}, swatch(s("defs", {}, stripes(id)), s("rect", { y: 2, width: 20, height: 12, fill: `url(#${id})` }), s("path", { class: "sp-now", d: "M1 0V16" })), "after the query: hidden"));
}
