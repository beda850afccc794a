// The arithmetic of dsmini.accounting.policy, for the widgets of chapter 7. tests/widgets/ holds the two equal.

/** What one token adds to the objective. rule: "none", "ppo" (the lesser), "inverted" (the greater where advantage < 0). */
export function clippedObjective(ratio, advantage, epsilon, epsilonHigh, rule) {
  const free = ratio * advantage;
  if (rule === "none") return free;
  const clipped = Math.min(Math.max(ratio, 1 - epsilon), 1 + epsilonHigh) * advantage;
  return rule === "inverted" && advantage < 0 ? Math.max(free, clipped) : Math.min(free, clipped);
}

/** Its derivative by the token's log-probability: ratio x advantage, or 0 where it is cut. */
export function clippedGradient(ratio, advantage, epsilon, epsilonHigh, rule) {
  const free = ratio * advantage;
  return clippedObjective(ratio, advantage, epsilon, epsilonHigh, rule) === free ? free : 0;
}

const sum = (values) => values.reduce((all, x) => all + x, 0);
export const mean = (values) => sum(values) / values.length;

/** The unbiased standard deviation. */
export function deviation(values) {
  const middle = mean(values);
  return Math.sqrt(sum(values.map((x) => (x - middle) ** 2)) / (values.length - 1));
}

/** What each group's differences from its mean are divided by. */
export function divisors(rewards, scale) {
  if (scale === "group") return rewards.map((group) => deviation(group) + 1e-4);
  return rewards.map(() => (scale === "batch" ? deviation(rewards.flat()) + 1e-4 : 1));
}

/** P groups of G rewards -> P groups of G advantages. scale: "group", "batch", "none". */
export function groupAdvantages(rewards, scale) {
  const by = divisors(rewards, scale);
  return rewards.map((group, i) => group.map((reward) => (reward - mean(group)) / by[i]));
}

/** What each token of a response counts for in the loss. normalization: "sequence", "tokens", "constant". */
export function tokenWeights(lengths, normalization, maxTokens) {
  if (normalization === "sequence") return lengths.map((n) => 1 / (lengths.length * Math.max(1, n)));
  if (normalization === "tokens") return lengths.map(() => 1 / Math.max(1, sum(lengths)));
  return lengths.map(() => 1 / (lengths.length * maxTokens));
}
