// The arithmetic of dsmini.accounting.float8, for the tile widget. tests/widgets/ holds the two equal, bit for bit.

export const E4M3_MAX = 448;
const SMALLEST_AMAX = 1e-4; // a group of zeros would be 0 / 0
const SMALLEST_STEP = 2 ** -9; // between numbers below 2^-5

/** The distance between the E4M3 numbers around x. */
export function stepAt(x) {
  let step = SMALLEST_STEP;
  while (Math.min(Math.abs(x), E4M3_MAX) >= 16 * step) step *= 2; // each doubling holds 8 numbers, evenly spaced
  return step;
}

const NUMBERS = [0];
while (NUMBERS.at(-1) < E4M3_MAX) NUMBERS.push(NUMBERS.at(-1) + stepAt(NUMBERS.at(-1)));

/** Up to four E4M3 numbers on |x|'s way: the two up to |x| and the two above it. */
export function numbersAround(x) {
  const above = NUMBERS.findIndex((n) => n > Math.abs(x));
  const split = above < 0 ? NUMBERS.length : above;
  return NUMBERS.slice(Math.max(0, split - 2), split + 2);
}

/** The nearest E4M3 number, of two equally near the one with an even mantissa; beyond 448, 448. */
export function roundE4m3(x) {
  if (Number.isNaN(x)) return x;
  const step = stepAt(x);
  const size = roundToEven(Math.min(Math.abs(x), E4M3_MAX) / step) * step;
  return x < 0 || Object.is(x, -0) ? -size : size;
}

function roundToEven(x) {
  const below = Math.floor(x);
  if (x - below === 0.5) return below + (below % 2);
  return Math.round(x);
}

/** The 8 bits of an E4M3 number: sign, 4 of exponent, 3 of mantissa. */
export function bitsOf(number) {
  const [size, step] = [Math.abs(number), stepAt(number)];
  const exponent = size >= 8 * SMALLEST_STEP ? Math.log2(step / SMALLEST_STEP) + 1 : 0;
  const sign = number < 0 || Object.is(number, -0) ? 128 : 0;
  return sign + 8 * exponent + ((size / step) % 8);
}

/** The multiplier of a group: amax / 448, or the next power of two above it. */
export function blockScale(amax, powerOfTwo = false) {
  const scale = Math.fround(Math.fround(Math.max(amax, Math.fround(SMALLEST_AMAX))) / E4M3_MAX);
  if (!powerOfTwo) return scale;
  let power = 1;
  while (power < scale) power *= 2;
  while (power / 2 >= scale) power /= 2;
  return power;
}

/** Which group a number shares its scale with: [row, column] of groups. */
export function groupOf(row, column, scheme, tile) {
  if (scheme === "tensor") return [0, 0];
  return [scheme === "tile" ? row : Math.floor(row / tile), Math.floor(column / tile)];
}

/** A matrix in FP8 and back: {amax, scales, scaled, rounded, back}, each an array of rows. scheme: "tensor", "tile", "block". */
export function quantize(values, scheme, tile, powerOfTwo = false) {
  const largest = new Map();
  const keys = values.map((row, i) => row.map((_, j) => String(groupOf(i, j, scheme, tile))));
  const each = (f) => values.map((row, i) => row.map((x, j) => f(x, i, j)));
  each((x, i, j) => largest.set(keys[i][j], Math.max(largest.get(keys[i][j]) || 0, Math.abs(x))));
  const amax = each((_, i, j) => largest.get(keys[i][j]));
  const scales = each((_, i, j) => blockScale(amax[i][j], powerOfTwo));
  const scaled = each((x, i, j) => Math.fround(x / scales[i][j]));
  const rounded = each((_, i, j) => roundE4m3(scaled[i][j]));
  return { amax, scales, scaled, rounded, back: each((_, i, j) => Math.fround(rounded[i][j] * scales[i][j])) };
}

/** The mean of |error| / |value| over all values but zeros. */
export function meanRelativeError(back, values) {
  const errors = values.flatMap((row, i) => row.map((x, j) => Math.abs(back[i][j] - x) / Math.abs(x)).filter((_, j) => row[j] !== 0));
  return errors.reduce((all, x) => all + x, 0) / Math.max(1, errors.length);
}

/** How many values became zero. */
export const lost = (back, values) => values.flat().filter((x, i) => x !== 0 && back.flat()[i] === 0).length;
