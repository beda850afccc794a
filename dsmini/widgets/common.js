// What the widgets share: elements, native controls with labels, number formats, and the tie to a model.
// A model is anywidget's (get, set, save_changes, on, off); on the static page, page.js has a small one like it.

let counter = 0;
const family = Math.random().toString(36).slice(2, 8); // each notebook output carries its own copy of this file

/** A document-wide unique id, so that two copies of a widget on one page do not share labels or radio groups. */
export function uid(name) {
  counter += 1;
  return `dsw-${family}-${name}-${counter}`;
}

function put(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style" && typeof value === "object") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element: h("p", {class: "x", onclick: f}, "text", child). */
export function h(tag, attributes, ...children) {
  return put(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  return put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// ---- numbers as text -------------------------------------------------------------------------------------------

/** 131072 -> "131,072". */
export function grouped(n) {
  return Math.round(n).toString().replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** Three significant digits, never in exponent form: 8.58, 30.5, 488, 4,409. */
export function short(x) {
  if (x === 0) return "0";
  if (x >= 999.5) return grouped(x);
  return x.toPrecision(3).includes("e") ? String(Number(x.toPrecision(3))) : x.toPrecision(3);
}

function scaled(x, base, units) {
  let i = 0;
  while (i < units.length - 1 && x >= base - 0.5) {
    x /= base;
    i += 1;
  }
  return `${i === 0 ? grouped(x) : short(x)} ${units[i]}`;
}

/** 9210691584 -> "8.58 GiB". */
export const bytes = (n) => scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);

/** 36540776448 -> "36.5 GFLOP". */
export const flops = (n) => scaled(n, 1000, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"]);

/** 131072 -> "128K"; 100000 -> "100,000". */
export function tokens(n) {
  if (n >= 2 ** 20 && n % 2 ** 20 === 0) return `${n / 2 ** 20}M`;
  return n >= 1024 && n % 1024 === 0 ? `${n / 1024}K` : grouped(n);
}

/** 56.9 -> "57", 4.66 -> "4.7": for "57 times smaller". */
export const times = (x) => (x >= 9.95 ? grouped(x) : String(Number(x.toFixed(1))));

// ---- the tie to the model --------------------------------------------------------------------------------------

/** Everything that must be undone when the widget goes: listeners on the model and observers. */
export function lifetime() {
  const undo = [];
  return {
    add: (f) => undo.push(f),
    end: () => undo.splice(0).forEach((f) => f()),
  };
}

/** Calls update now and whenever one of the model's names changes (from the page, or from Python). */
export function follow(life, model, names, update) {
  for (const name of names) {
    model.on(`change:${name}`, update);
    life.add(() => model.off(`change:${name}`, update));
  }
  update();
}

/** Sets one value and sends it to Python. */
export function assign(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

/** Calls f(width) at the start and when the element's width has changed by a pixel or more. */
export function watchWidth(life, el, f) {
  let last = -1;
  const look = () => {
    const width = Math.round(el.getBoundingClientRect().width);
    if (width && width !== last) f((last = width));
  };
  const observer = new ResizeObserver(look);
  observer.observe(el);
  life.add(() => observer.disconnect());
  look();
}

/** A polite live region. It waits until a slider rests, so that a screen reader hears one sentence, not fifty. */
export function announcer(life, attributes) {
  const node = h("p", { class: "dsw-live", "aria-live": "polite", ...attributes });
  let timer = 0;
  life.add(() => clearTimeout(timer));
  return {
    node,
    say(text) {
      clearTimeout(timer);
      if (!node.textContent) node.textContent = text;
      else timer = setTimeout(() => (node.textContent = text), 250);
    },
  };
}

// ---- native controls, each with its visible label -----------------------------------------------------------------

/** Text with exponents, "W^{UK}", as HTML or (with `svg`) as SVG parts. plain() drops the marks. */
export function rich(text, svg = false) {
  return text.split(/\^\{([^}]*)\}/).map((part, i) => {
    if (i % 2 === 0) return part;
    return svg ? s("tspan", { "baseline-shift": "super", "font-size": "70%" }, part) : h("sup", {}, part);
  });
}

export const plain = (text) => text.replace(/\^\{([^}]*)\}/g, "$1");

/** A label above a control. `value` is an optional element that shows the control's value beside the label. */
export function field(label, control, value, attributes) {
  control.id ||= uid("control");
  const head = h("span", { class: "dsw-label" }, h("label", { for: control.id }, label), value);
  return h("div", { class: "dsw-field", ...attributes }, head, control);
}

/** A drop-down list. options: [[value, text], ...]. */
export function dropdown(label, options, onpick) {
  const control = h("select", { onchange: () => onpick(control.value) });
  const set = (list) => control.replaceChildren(...list.map(([value, text]) => h("option", { value }, text)));
  set(options);
  return { node: field(label, control), control, set };
}

/** A group of radio buttons. options: [[value, text], ...]. */
export function radios(label, options, onpick) {
  const name = uid("radio");
  const inputs = options.map(([value]) => h("input", { type: "radio", name, value, onchange: () => onpick(value) }));
  const labels = options.map(([, text], i) => h("label", {}, inputs[i], h("span", {}, text)));
  const node = h("fieldset", { class: "dsw-field dsw-radios" }, h("legend", { class: "dsw-label" }, label), h("div", {}, labels));
  return { node, show: (value) => inputs.forEach((input) => (input.checked = input.value === String(value))), inputs };
}

/** A whole number or a decimal, typed. Nothing is sent while the text is not a number within the bounds. */
export function number(label, attributes, onpick) {
  const control = h("input", { type: "number", inputmode: "decimal", ...attributes });
  control.addEventListener("input", () => {
    if (control.value !== "" && control.checkValidity()) onpick(Number(control.value));
  });
  const show = (value) => {
    if (Number(control.value) !== value) control.value = value;
  };
  control.addEventListener("change", () => control.checkValidity() || control.reportValidity());
  return { node: field(label, control), control, show };
}

/** The stops of a slider over powers of two, eight to each doubling: 1024, 1152, ..., 2048, 2304, ... */
export function doublings(least, most) {
  const stops = [];
  for (let octave = 2 ** Math.floor(Math.log2(least)); octave <= most; octave *= 2) {
    for (let eighth = 8; eighth < 16; eighth += 1) {
      const stop = (octave * eighth) / 8;
      if (Number.isInteger(stop) && stop >= least && stop <= most) stops.push(stop);
    }
  }
  return stops;
}

/** A slider whose thumb moves evenly over doublings. A value from Python between two stops is shown as it is. */
export function logSlider(label, [least, most], marks, describe, onpick) {
  let stops = [];
  const value = h("output", { class: "dsw-value" });
  const control = h("input", { type: "range", min: 0, step: 1, oninput: () => onpick(stops[control.valueAsNumber]) });
  const scale = h("div", { class: "dsw-ticks", "aria-hidden": "true" });
  const node = field(label, control, value);
  node.append(scale);
  const range = ([from, to], list) => {
    stops = doublings(from, to);
    control.max = stops.length - 1;
    scale.replaceChildren(
      ...list.filter((mark) => stops.includes(mark)).map((mark) => {
        const at = stops.indexOf(mark) / (stops.length - 1);
        return h("span", { style: { "--at": at } }, tokens(mark));
      }),
    );
  };
  const show = (n) => {
    const distance = stops.map((stop) => Math.abs(Math.log(stop / n)));
    control.value = distance.indexOf(Math.min(...distance));
    control.setAttribute("aria-valuetext", describe(n));
    value.textContent = describe(n);
  };
  range([least, most], marks);
  return { node, control, show, range };
}

/** A slider over even steps. */
export function slider(label, attributes, describe, onpick) {
  const value = h("output", { class: "dsw-value" });
  const control = h("input", { type: "range", ...attributes, oninput: () => onpick(control.valueAsNumber) });
  const show = (n) => {
    control.value = n;
    control.setAttribute("aria-valuetext", describe(n));
    value.textContent = describe(n);
  };
  return { node: field(label, control, value), control, show };
}

/** Previous, a slider, Next: for walking through a list. */
export function stepper(label, onmove) {
  const value = h("output", { class: "dsw-value" });
  const control = h("input", { type: "range", min: 0, step: 1, oninput: () => onmove(control.valueAsNumber) });
  const move = (by) => onmove(Math.min(Number(control.max), Math.max(0, control.valueAsNumber + by)));
  const arrow = (path) => s("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, s("path", { d: path, fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round", "stroke-linejoin": "round" }));
  const back = h("button", { type: "button", class: "dsw-button", onclick: () => move(-1) }, arrow("M10 3 5 8l5 5"), "Prev");
  const next = h("button", { type: "button", class: "dsw-button", onclick: () => move(1) }, "Next", arrow("M6 3l5 5-5 5"));
  const node = h("div", { class: "dsw-stepper" }, back, field(label, control, value), next);
  const show = (index, count, text) => {
    control.max = Math.max(0, count - 1);
    control.value = index;
    control.disabled = count < 2;
    control.setAttribute("aria-valuetext", text);
    value.textContent = text;
    // aria-disabled, not disabled: a button that vanishes from the tab order under the finger loses the focus
    back.setAttribute("aria-disabled", index <= 0);
    next.setAttribute("aria-disabled", index >= count - 1);
  };
  return { node, control, back, next, show };
}

/** The frame of every widget: a titled group with a one-line hint. */
export function frame(el, name, title, hint) {
  const id = uid("title");
  const root = h(
    "div",
    { class: `dsw dsw-${name}`, role: "group", "aria-labelledby": id },
    h("div", { class: "dsw-head" }, h("p", { class: "dsw-title", id }, title), h("p", { class: "dsw-hint" }, hint)),
  );
  el.append(root);
  return root;
}
