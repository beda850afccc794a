// The arithmetic of dsmini.accounting.recall, for the sparsity widget. tests/widgets/ holds the two equal.
// A query has an array of weights, one for each token: its shares of the attention in a unit that does not matter.

export const METHODS = ["dense", "indexer", "window", "random", "oracle"];

/** The places that a method would choose for one query, its first choice first. orders: {indexer, random}. */
export function ranked(method, weights, query, orders) {
  if (orders[method]) return orders[method];
  const visible = Array.from({ length: query + 1 }, (_, place) => place);
  if (method === "window") return visible.reverse();
  return method === "oracle" ? visible.sort((a, b) => weights[b] - weights[a]) : visible;
}

/** The places that a query looks at: k of them at most; all where it is "dense". */
export function chosen(method, weights, query, orders, k) {
  const places = ranked(method, weights, query, orders);
  return method === "dense" ? places : places.slice(0, k);
}

const sum = (values) => values.reduce((all, x) => all + x, 0);

/** The share of the attention that lies on these places. */
export const recall = (weights, places) => sum(places.map((place) => weights[place])) / sum(weights);

/** recall of 1, 2, ... `most` chosen tokens; once all are chosen it stays where it is. */
export function recallCurve(method, weights, query, orders, most) {
  if (method === "dense") return new Array(most).fill(1);
  const places = ranked(method, weights, query, orders).slice(0, most);
  const total = sum(weights);
  let kept = 0;
  return Array.from({ length: most }, (_, i) => (kept += i < places.length ? weights[places[i]] : 0) / total);
}

/** The mean of several queries' curves, for each number of tokens. */
export const meanCurve = (curves) => curves[0].map((_, i) => sum(curves.map((curve) => curve[i])) / curves.length);

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/** Whole numbers below 4096 as the Python face packs them, two digits of base 64 each. */
export function unpack(text) {
  return Array.from({ length: text.length / 2 }, (_, i) => 64 * DIGITS.indexOf(text[2 * i]) + DIGITS.indexOf(text[2 * i + 1]));
}

/** A row of attention as the Python face packs it: the roots of the shares, so that small ones keep some digits. */
export const unpackWeights = (text) => unpack(text).map((root) => root * root);
