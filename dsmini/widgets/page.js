// The static page's side of the contract: <ds-widget name="..." props="..."> runs the module of that name, with a
// small model in place of Jupyter's. What stands inside the element is the fallback for a page without JavaScript.

/** anywidget's model without a kernel: values, and listeners on "change:NAME". */
export class PageModel {
  constructor(values) {
    this.values = { ...values };
    this.listeners = new Map();
  }
  get(name) {
    return this.values[name];
  }
  set(name, value) {
    if (JSON.stringify(this.values[name]) === JSON.stringify(value)) return;
    this.values[name] = value;
    for (const listener of [...(this.listeners.get(`change:${name}`) || [])]) listener();
  }
  save_changes() {} // there is nobody to tell
  on(event, listener) {
    if (!this.listeners.has(event)) this.listeners.set(event, new Set());
    this.listeners.get(event).add(listener);
  }
  off(event, listener) {
    this.listeners.get(event)?.delete(listener);
  }
}

function elementFor(modules) {
  return class DsWidget extends HTMLElement {
    connectedCallback() {
      if (this.end) return;
      const name = this.getAttribute("name");
      this.fallback ||= [...this.childNodes];
      try {
        this.model ||= new PageModel(JSON.parse(this.getAttribute("props") || "{}"));
        if (!modules[name]) throw new Error(`no widget of this name; there are ${Object.keys(modules).join(", ")}`);
        this.replaceChildren();
        this.end = modules[name].render({ model: this.model, el: this }) || (() => {});
      } catch (error) {
        this.replaceChildren(...this.fallback);
        console.error(`ds-widget ${name}:`, error);
      }
    }
    disconnectedCallback() {
      queueMicrotask(() => {
        if (this.isConnected || !this.end) return; // moved, not removed
        this.end();
        this.end = null;
      });
    }
  };
}

/** Defines the element once the document is read, so that a fallback is complete when it is put aside. */
export function define(modules, css) {
  const start = () => {
    if (customElements.get("ds-widget")) return;
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    customElements.define("ds-widget", elementFor(modules));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}
