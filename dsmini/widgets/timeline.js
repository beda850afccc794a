// The release timeline: a lane for each family of models, time to the right (on a phone: downwards).
import { announcer, assign, follow, frame, h, lifetime, s, stepper, watchWidth } from "./common.js";

const DAY = 86400000;
const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
// Colour and shape together, so that neither is needed alone.
const FAMILIES = {
  base: { title: "Base and chat", hue: "blue", shape: "circle" },
  dedicated: { title: "Dedicated reasoning", hue: "orange", shape: "diamond" },
  hybrid: { title: "Hybrid", hue: "purple", shape: "half" },
  math: { title: "Mathematics", hue: "green", shape: "triangle" },
  preview: { title: "After this book", hue: "grey", shape: "square" },
};
const WIDE = 640; // pixels from which time runs to the right
const GUTTER = 150; // the lane titles
const HALF = 14; // from a label's end to the centre of its mark
const LEVEL = 34; // height of one row of labels in a lane
const PHONE = { lane: 14, axis: 34, row: 36 }; // between lanes, the months, between labels

const familyOf = (name) => FAMILIES[name] || { title: name, hue: "grey", shape: "square" };
const day = (date) => Date.parse(`${date}T00:00:00Z`) / DAY;

function longDate(date) {
  const [year, month, number] = date.split("-").map(Number);
  return `${number} ${MONTHS[month - 1]} ${year}`;
}

function shortDate(date) {
  const [year, month, number] = date.split("-").map(Number);
  return `${number} ${MONTHS[month - 1].slice(0, 3)} ${year}`;
}

/** A family's shape, centred on 0,0. */
function shape(name, attributes) {
  const paint = { fill: "currentColor", stroke: "currentColor", "stroke-width": 2, "stroke-linejoin": "round", ...attributes };
  if (name === "diamond") return s("path", { d: "M0-7.5 7.5 0 0 7.5-7.5 0z", ...paint });
  if (name === "triangle") return s("path", { d: "M0-7 7 5.5H-7z", ...paint });
  if (name === "square") return s("rect", { x: -5.5, y: -5.5, width: 11, height: 11, rx: 1.5, ...paint });
  if (name !== "half") return s("circle", { r: 6.5, ...paint });
  return s("g", {}, s("circle", { r: 6.5, ...paint, class: "tl-hollow" }), s("path", { d: "M0-6.5a6.5 6.5 0 0 1 0 13z", ...paint, "stroke-width": 0 }));
}

const icon = (name) => s("svg", { class: "tl-icon", viewBox: "-9 -9 18 18", width: 18, height: 18, "aria-hidden": "true" }, shape(name));

function render({ model, el }) {
  const life = lifetime();
  const releases = model.get("releases");
  const families = [...Object.keys(FAMILIES), ...releases.map((row) => row.family)].filter((name, i, all) => all.indexOf(name) === i && releases.some((row) => row.family === name));
  const largest = Math.max(...releases.map((row) => count(row.total)));
  const shown = () => releases.filter((row) => !model.get("hidden").includes(row.family));
  const root = frame(el, "timeline", `${releases.length} releases, from ${releases[0].date.slice(0, 4)} to ${releases[releases.length - 1].date.slice(0, 4)}`, "Click a release, or step through them. Untick a kind of model to leave it out.");

  const boxes = families.map((name) => {
    const { title, hue, shape: form } = familyOf(name);
    const input = h("input", { type: "checkbox", onchange: () => hide(name, !input.checked) });
    return { name, input, node: h("label", { class: "dsw-check tl-family", style: { "--hue": `var(--${hue})` } }, input, icon(form), h("span", {}, title)) };
  });
  const filter = h("fieldset", { class: "tl-filter" }, h("legend", { class: "tl-legend" }, "Show"), boxes.map((box) => box.node));
  const marks = new Map(releases.map((row) => {
    const { title, hue, shape: form } = familyOf(row.family);
    const button = h("button", { type: "button", class: "tl-mark", style: { "--hue": `var(--${hue})` }, "aria-label": `${row.name}, ${longDate(row.date)}, ${title}`, onclick: () => assign(model, "selected", row.name) }, icon(form), h("span", {}, row.short), h("span", { class: "tl-when" }, shortDate(row.date)));
    return [row.name, button];
  }));
  const drawing = s("svg", { class: "tl-lines", "aria-hidden": "true" });
  const stage = h("div", { class: "tl-stage" }, drawing, [...marks.values()]);
  const steps = stepper("Release", (index) => assign(model, "selected", shown()[index].name));
  const said = announcer(life, { class: "dsw-sr" });
  const panel = h("div", { class: "tl-panel" });
  const body = h("div", { class: "tl-body" }, filter, stage);
  root.append(body, steps.node, panel, said.node);

  function hide(name, hidden) {
    const rest = model.get("hidden").filter((other) => other !== name);
    const next = hidden ? [...rest, name] : rest;
    model.set("hidden", next);
    const left = shown();
    if (left.length && !left.some((row) => row.name === model.get("selected"))) {
      const now = day(releases.find((row) => row.name === model.get("selected")).date);
      model.set("selected", left.reduce((best, row) => (Math.abs(day(row.date) - now) < Math.abs(day(best.date) - now) ? row : best)).name);
    }
    model.save_changes();
  }

  let wide = null;
  function layOut(width) {
    const isWide = width >= WIDE;
    if (isWide !== wide) {
      wide = isWide;
      root.classList.toggle("tl-tall", !wide);
      // On a phone the drawing is tall: what a choice changes stands above it.
      if (wide) root.append(body, steps.node, panel, said.node);
      else root.append(filter, steps.node, panel, body, said.node);
      if (wide) body.prepend(filter);
    }
    const rows = shown();
    for (const [name, button] of marks) button.hidden = !rows.some((row) => row.name === name);
    const place = wide ? placeWide : placeTall;
    place({ width: stage.clientWidth, rows, releases, families, marks, stage, drawing, boxes, selected: model.get("selected"), hidden: model.get("hidden") });
  }

  const redraw = () => layOut(root.clientWidth);
  watchWidth(life, root, redraw);
  follow(life, model, ["hidden", "selected"], () => {
    const rows = shown();
    const row = releases.find((one) => one.name === model.get("selected"));
    const index = rows.indexOf(row);
    boxes.forEach((box) => (box.input.checked = !model.get("hidden").includes(box.name)));
    for (const [name, button] of marks) button.setAttribute("aria-pressed", name === row.name);
    steps.show(Math.max(0, index), rows.length, rows.length ? `${index + 1} of ${rows.length}: ${row.name}` : "nothing is shown");
    panel.replaceChildren(...(rows.length ? details(row, largest) : [h("p", {}, "Tick a kind of model to see its releases.")]));
    said.say(rows.length ? `${row.name}, ${longDate(row.date)}. ${row.change}` : "No release is shown.");
    redraw();
  });
  return () => life.end();
}

// ---- the two drawings -----------------------------------------------------------------------------------------------

/** The first days of the quarters from the first release to after the last one. */
function quarters(from, to) {
  const list = [];
  const start = new Date(from * DAY);
  for (let year = start.getUTCFullYear(), month = Math.floor(start.getUTCMonth() / 3) * 3; ; month += 3) {
    const at = Date.UTC(year, month, 1) / DAY;
    list.push({ at, year: new Date(at * DAY).getUTCFullYear(), month: MONTHS[new Date(at * DAY).getUTCMonth()].slice(0, 3) });
    if (at > to) return list;
  }
}

/** Labels beside their marks, to the right or (flipped) to the left of them, on as few levels as possible. */
function pack(items, least, most) {
  let best = null;
  for (let flips = 0; flips < 2 ** Math.min(items.length, 10); flips += 1) {
    const levels = [];
    const places = items.map(({ at, size }, i) => {
      const flipped = Boolean(flips & (1 << i));
      const start = flipped ? at + HALF - size : at - HALF;
      let level = levels.findIndex((spans) => spans.every(([a, b]) => start + size + 5 < a || start - 5 > b));
      if (level < 0) level = levels.push([]) - 1;
      levels[level].push([start, start + size]);
      return { start, level, flipped };
    });
    const outside = places.filter(({ start }, i) => start < least || start + items[i].size > most).length;
    const price = outside * 1000 + levels.length * 20 + places.filter((place) => place.flipped).length;
    if (!best || price < best.price) best = { price, places, levels: levels.length };
  }
  return best;
}

function placeWide({ width, rows, releases, families, marks, stage, drawing, boxes, selected, hidden }) {
  const ticks = quarters(day(releases[0].date), day(releases[releases.length - 1].date));
  const [from, to] = [ticks[0].at, ticks[ticks.length - 1].at];
  const left = GUTTER + 14;
  const x = (date) => left + ((day(date) - from) / (to - from)) * (width - left - 16);
  const top = 34;
  let y = top;
  const bands = [];
  for (const family of families) {
    const own = rows.filter((row) => row.family === family);
    const packed = pack(own.map((row) => ({ at: x(row.date), size: marks.get(row.name).offsetWidth })), left - 14, width);
    packed.places.forEach(({ start, level, flipped }, i) => {
      const button = marks.get(own[i].name);
      button.classList.toggle("tl-flip", flipped);
      button.style.left = `${start}px`;
      button.style.top = `${y + 7 + level * LEVEL}px`;
    });
    const height = Math.max(1, packed.levels) * LEVEL + 8;
    bands.push({ family, y, height });
    const box = boxes.find((one) => one.name === family);
    box.node.style.top = `${y + Math.min(height, LEVEL + 8) / 2}px`;
    y += height;
  }
  stage.style.height = `${y + 4}px`;
  drawing.setAttribute("viewBox", `0 0 ${width} ${y + 4}`);
  const children = bands.map(({ family, y: at, height }) =>
    s("rect", { class: "tl-band", x: 0, y: at, width, height, rx: 6, style: { "--hue": `var(--${familyOf(family).hue})` }, opacity: hidden.includes(family) ? 0.45 : 1 }));
  ticks.forEach((tick, i) => {
    const at = left + ((tick.at - from) / (to - from)) * (width - left - 16);
    const year = tick.month === "Jan" || i === 0;
    children.push(s("line", { class: year ? "tl-tick tl-year" : "tl-tick", x1: at, x2: at, y1: top - 8, y2: y }));
    if (i < ticks.length - 1) children.push(s("text", { class: year ? "tl-axis tl-year" : "tl-axis", x: at + 4, y: 16 }, year ? String(tick.year) : tick.month));
  });
  const current = rows.find((row) => row.name === selected);
  if (current) {
    const at = x(current.date);
    children.push(s("line", { class: "tl-now", x1: at, x2: at, y1: top - 12, y2: y }));
  }
  drawing.replaceChildren(...children);
}

/** Labels down the page in the order of time, none closer than a row, each as near to its date as the others allow. */
function spread(wanted, gap) {
  const groups = [];
  wanted.forEach((at, i) => {
    groups.push({ sum: at - i * gap, count: 1 });
    while (groups.length > 1) {
      const [before, last] = groups.slice(-2);
      if (before.sum / before.count <= last.sum / last.count) break;
      groups.splice(-2, 2, { sum: before.sum + last.sum, count: before.count + last.count });
    }
  });
  return groups.flatMap(({ sum, count }) => Array(count).fill(sum / count)).map((at, i) => at + i * gap);
}

function placeTall({ width, rows, releases, families, marks, stage, drawing, boxes, selected }) {
  boxes.forEach((box) => (box.node.style.top = ""));
  const ticks = quarters(day(releases[0].date), day(releases[releases.length - 1].date));
  const [from, to] = [ticks[0].at, ticks[ticks.length - 1].at];
  const height = Math.max(420, rows.length * PHONE.row * 1.1);
  const y = (at) => 20 + ((at - from) / (to - from)) * (height - 40);
  const lane = (family) => PHONE.axis + families.indexOf(family) * PHONE.lane + 8;
  const labels = PHONE.axis + families.length * PHONE.lane + 26;
  const at = spread(rows.map((row) => y(day(row.date))), PHONE.row);
  const last = Math.max(height, (at[at.length - 1] || 0) + 24);
  stage.style.height = `${last}px`;
  drawing.setAttribute("viewBox", `0 0 ${width} ${last}`);
  const children = ticks.slice(0, -1).flatMap((tick, i) => {
    const year = tick.month === "Jan" || i === 0;
    return [
      s("line", { class: year ? "tl-tick tl-year" : "tl-tick", x1: 0, x2: labels - 22, y1: y(tick.at), y2: y(tick.at) }),
      s("text", { class: year ? "tl-axis tl-year" : "tl-axis", x: 0, y: y(tick.at) + 15 }, year ? String(tick.year) : tick.month),
    ];
  });
  for (const family of families) children.push(s("line", { class: "tl-rail", x1: lane(family), x2: lane(family), y1: 20, y2: height - 20, style: { "--hue": `var(--${familyOf(family).hue})` } }));
  rows.forEach((row, i) => {
    const [x0, y0] = [lane(row.family), y(day(row.date))];
    const button = marks.get(row.name);
    button.classList.remove("tl-flip");
    button.style.left = `${labels}px`;
    button.style.top = `${at[i] - 15}px`;
    const { hue, shape: form } = familyOf(row.family);
    const bend = labels - 24;
    const on = row.name === selected ? " tl-on" : "";
    children.push(s("path", { class: `tl-lead${on}`, d: `M${x0} ${y0}H${bend - 8}L${bend + 8} ${at[i]}H${labels}`, style: { "--hue": `var(--${hue})` } }));
    children.push(s("g", { class: "tl-dot", transform: `translate(${x0} ${y0})`, style: { "--hue": `var(--${hue})` } }, shape(form)));
  });
  drawing.replaceChildren(...children);
}

// ---- the chosen release ------------------------------------------------------------------------------------------------

/** "671B" -> 671e9; "1.6T / 284B" -> 1.6e12 (the larger of two). */
function count(text) {
  const found = /([\d.]+)\s*([BTM])/.exec(text);
  return found ? Number(found[1]) * { M: 1e6, B: 1e9, T: 1e12 }[found[2]] : 0;
}

function details(row, largest) {
  const { title, hue, shape: form } = familyOf(row.family);
  const repeats = row.kind.toLowerCase().startsWith(title.toLowerCase());
  const numbers = row.chapters.flatMap((n, i) => [i ? ", " : "", chapter(n)]);
  const chapters = numbers.length ? [row.chapters.length > 1 ? "chapters " : "chapter ", numbers] : "not in this book";
  const fact = (label, ...value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
  const head = h("div", { class: "tl-head", style: { "--hue": `var(--${hue})` } },
    h("p", { class: "tl-date" }, longDate(row.date)),
    h("p", { class: "tl-name" }, row.name),
    h("p", { class: "tl-kind" }, icon(form), h("span", {}, h("strong", {}, title), repeats ? row.kind.slice(title.length) : ` · ${row.kind}`)));
  const change = h("p", { class: "tl-change" }, row.change);
  const facts = h("dl", { class: "tl-facts" },
    fact("Parameters", row.total),
    fact("Active per token", row.active),
    fact("Context", row.context),
    fact("Rebuilt in", chapters));
  return [head, change, facts, picture(row, largest)];
}

/** All parameters as a square, and those that one token uses as a square inside it; areas to scale between releases. */
function picture(row, largest) {
  const [total, active] = [count(row.total), count(row.active)];
  const side = (n) => 92 * Math.sqrt(n / largest);
  const [outer, inner] = [Math.max(4, side(total)), Math.max(2.5, side(active))];
  return h("div", { class: "tl-size", "aria-hidden": "true" },
    s("svg", { viewBox: "0 0 96 96", width: 96, height: 96 },
      s("rect", { class: "tl-largest", x: 1, y: 3, width: 92, height: 92, rx: 2 }),
      s("rect", { class: "tl-total", x: 1, y: 95 - outer, width: outer, height: outer, rx: 2 }),
      s("rect", { class: "tl-active", x: 1, y: 95 - inner, width: inner, height: inner, rx: 1 })),
    h("p", {}, h("span", { class: "tl-key" }), "all weights"), h("p", {}, h("span", { class: "tl-key tl-key-active" }), "active"));
}

/** A chapter's number; a link where the page's own table of contents has that chapter. */
function chapter(n) {
  const prefix = `${String(n).padStart(2, "0")}_`;
  const entry = [...document.querySelectorAll("nav a[href]")].find((a) => a.getAttribute("href").split("/").pop().startsWith(prefix) || (a.getAttribute("href") === "#" && location.pathname.split("/").pop().startsWith(prefix)));
  return entry ? h("a", { href: entry.getAttribute("href") }, String(n)) : String(n);
}

export default { render };
