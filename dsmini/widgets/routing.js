// The arithmetic of dsmini.accounting.routing, for the router widget. tests/widgets/ holds the two equal.
// A token is an array of E scores; a bias is an array of E numbers.

/** One token's choice: {experts, weights, groups, kept}. Of equal scores the first wins. */
export function route(scores, bias, k, nGroup = 1, topkGroup = 1, scale = 1) {
  const biased = scores.map((score, e) => score + bias[e]);
  const size = biased.length / nGroup;
  const places = [...biased.keys()];
  const groupOf = (e) => Math.floor(e / size);
  const groups = Array.from({ length: nGroup }, (_, g) => {
    const [first, second = 0] = biased.slice(g * size, (g + 1) * size).sort((a, b) => b - a);
    return first + second;
  });
  const kept = best(groups, [...groups.keys()], topkGroup).sort((a, b) => a - b);
  const experts = best(biased, places.filter((e) => kept.includes(groupOf(e))), k);
  const total = experts.reduce((all, e) => all + scores[e], 0) + 1e-20;
  return { experts, weights: experts.map((e) => (scores[e] / total) * scale), groups, kept };
}

const best = (values, places, count) => [...places].sort((a, b) => values[b] - values[a]).slice(0, count);

/** How many tokens each expert received. */
export function expertLoad(choices, experts) {
  const load = new Array(experts).fill(0);
  for (const choice of choices) for (const e of choice.experts) load[e] += 1;
  return load;
}

const sum = (values) => values.reduce((all, x) => all + x, 0);

/** MaxVio: how far the busiest expert lies above the mean load. */
export const maxViolation = (load) => (Math.max(...load) * load.length) / sum(load) - 1;

/** The bias after one step of the sign rule. */
export function balance(bias, load, speed) {
  const mean = sum(load) / load.length;
  return bias.map((b, e) => b + speed * Math.sign(mean - load[e]));
}

/** A balanced stream of batches: {biases, loads}; biases holds one more, the bias after the last batch. */
export function balancedRun(scores, batches, speed, k, nGroup = 1, topkGroup = 1) {
  const experts = scores[0][0].length;
  const biases = [new Array(experts).fill(0)];
  const loads = [];
  for (let i = 0; i < batches; i += 1) {
    const choices = scores[i % scores.length].map((token) => route(token, biases[i], k, nGroup, topkGroup));
    loads.push(expertLoad(choices, experts));
    biases.push(balance(biases[i], loads[i], speed));
  }
  return { biases, loads };
}

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

/** A batch of scores as the Python face packs it, two digits of base 64 a score: an array of tokens. */
export function unpack(text, experts) {
  const scores = Array.from({ length: text.length / 2 }, (_, i) => (64 * DIGITS.indexOf(text[2 * i]) + DIGITS.indexOf(text[2 * i + 1])) / 4096);
  return Array.from({ length: scores.length / experts }, (_, t) => scores.slice(t * experts, (t + 1) * experts));
}
