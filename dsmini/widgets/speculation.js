// The arithmetic of dsmini.accounting.speculation, for the tape widget. tests/widgets/ holds the two equal.

/** Whether a draft stays: with probability min(1, p / q). */
export const isAccepted = (p, q, uniform) => uniform * q < p;

/** The chance that a draft drawn from q stays. */
export const acceptance = (p, q) => p.reduce((all, x, i) => all + Math.min(x, q[i]), 0);

/** What p has more than q, normalised: the distribution of a replacement. Where only a few tokens are known, `total` is
 *  what p has more than q over the whole vocabulary, 1 - acceptance. */
export function residual(p, q, total = null) {
  const left = p.map((x, i) => Math.max(0, x - q[i]));
  total ??= left.reduce((all, x) => all + x, 0);
  return total > 0 ? left.map((x) => x / total) : [...p];
}

/** Tokens per forward pass with `depth` drafts in a row: 1 + a + a^2 + ... + a^depth. */
export function expectedTokens(rate, depth) {
  let total = 1;
  for (let i = 0; i < depth; i += 1) total = 1 + rate * total;
  return total;
}
