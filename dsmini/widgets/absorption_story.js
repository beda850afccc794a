// What happens in each step of the absorption step-through, on the naive and on the absorbed side: words and tensors.
import { grouped, times, tokens } from "./common.js";

const dim = (n) => (n > 99999 ? tokens(n) : grouped(n));
const by = (...sizes) => sizes.map(dim).join(" × ");

// A tensor: its symbol, rows x columns to draw, its shape in words, and where it comes from. kind: "cache" (read from
// memory), "weight", "flow" (made in an earlier step), "made" (made in this step).
const box = (kind, symbol, rows, columns, shape = by(rows, columns)) => ({ kind, symbol, rows, columns, shape });
const dot = { sign: "·" };
const gives = { sign: "→" };

/** The eight steps: [{title, naive, absorbed}], a side being {text, picture, free}. `free` stands in place of a price.
 *  m: the model's fields; S: tokens in the cache; full: the naive side caches the keys and values of all heads. */
export function story(m, S, full) {
  return [query(m), keysUp(m, S, full), rope(m, S, full), content(m, S, full), softmax(m, S), sum(m, S, full), valuesUp(m), output(m)];
}

const SAME = "the same on both sides";

function query({ num_attention_heads: H, kv_lora_rank: c, qk_nope_head_dim: n, qk_rope_head_dim: r, hidden_size: D }) {
  const picture = [box("flow", "h", 1, D), gives, box("made", "q", H, n + r), box("made", "c, k^{R}", 1, c + r)];
  return {
    title: "The query and the new latent",
    naive: { free: SAME, picture, text: `The new token's hidden state becomes ${dim(H)} query heads of ${n} + ${r} numbers, one latent of ${c} and one rotary key of ${r}.` },
    absorbed: { free: SAME, picture, text: `The same projections. The latent and the rotary key, ${c} + ${r} numbers, are all that joins the cache.` },
  };
}

function keysUp({ num_attention_heads: H, kv_lora_rank: c, qk_nope_head_dim: n, v_head_dim: v }, S, full) {
  const up = box("weight", "W^{UK}, W^{UV}", c, H * (n + v));
  const naive = full
    ? {
        text: `W^{UK} and W^{UV} make a key and a value for each head from the new latent. They join the ${dim(S)} in the cache.`,
        picture: [box("flow", "c", 1, c), dot, up, gives, box("made", "k, v", 1, H * (n + v))],
      }
    : {
        text: `W^{UK} and W^{UV} make the keys and values of every head from all ${dim(S)} cached latents: again for every new token.`,
        picture: [box("cache", "c", S, c), dot, up, gives, box("made", "k, v", S, H * (n + v))],
      };
  return {
    title: "Where W^{UK} goes",
    naive,
    absorbed: {
      text: `W^{UK} moves to the query: the ${n} numbers of each head become ${c}, ready to meet the latents as they are. Once for the new token, not once for each cached one.`,
      picture: [box("flow", "q", H, n), dot, box("weight", "W^{UK}", n, c, by(H, n, c)), gives, box("made", "q̃", H, c)],
    },
  };
}

function rope({ num_attention_heads: H, qk_rope_head_dim: r }, S, full) {
  const scores = [gives, box("made", "scores", H, S)];
  const shared = [box("flow", "q^{R}", H, r), dot, box("cache", "k^{R}", S, r), ...scores];
  return {
    title: "Scores from position",
    naive: {
      text: full ? "The rotary key is one for all heads, but this cache holds a copy for each." : "The rotary key is one for all heads: every query head meets the same one.",
      picture: full ? [box("flow", "q^{R}", H, r), dot, box("cache", "k^{R}", S, H * r), ...scores] : shared,
    },
    absorbed: {
      text: "The rotary key keeps its own place in the cache. Rotated content keys would put the rotation between W^{UQ} and W^{UK}, and nothing could be absorbed.",
      picture: shared,
    },
  };
}

function content({ num_attention_heads: H, kv_lora_rank: c, qk_nope_head_dim: n }, S, full) {
  const scores = [gives, box("made", "scores", H, S)];
  return {
    title: "Scores from content",
    naive: {
      text: `Each head meets keys of its own: ${n} products for a score.`,
      picture: [box("flow", "q", H, n), dot, box(full ? "cache" : "flow", "k", S, H * n), ...scores],
    },
    absorbed: {
      text: `All heads meet the same latents: ${c} products for a score, ${times(c / n)} times as many, but ${dim(H)} heads share every latent that is read.`,
      picture: [box("flow", "q̃", H, c), dot, box("cache", "c", S, c), ...scores],
    },
  };
}

function softmax({ num_attention_heads: H, qk_nope_head_dim: n, qk_rope_head_dim: r }, S) {
  const picture = [box("flow", "scores", H, S), gives, box("made", "weights", H, S)];
  const scale = `1/√(${n} + ${r})`;
  return {
    title: "Softmax",
    naive: { free: SAME, picture, text: `The two scores are added and scaled by ${scale}. Softmax turns each head's row into weights.` },
    absorbed: { free: SAME, picture, text: `The same numbers and the same scale, ${scale}: absorption moves a matrix, it changes no score.` },
  };
}

function sum({ num_attention_heads: H, kv_lora_rank: c, v_head_dim: v }, S, full) {
  return {
    title: "The weighted sum",
    naive: {
      text: `Each head adds up values of its own, ${v} numbers for each cached token.`,
      picture: [box("flow", "weights", H, S), dot, box(full ? "cache" : "flow", "v", S, H * v), gives, box("made", "o", H, v)],
    },
    absorbed: {
      text: `Each head adds up the latents, ${c} numbers for each cached token. They are at hand from the scores, so nothing more is read.`,
      picture: [box("flow", "weights", H, S), dot, box("flow", "c", S, c), gives, box("made", "z", H, c)],
    },
  };
}

function valuesUp({ num_attention_heads: H, kv_lora_rank: c, v_head_dim: v }) {
  return {
    title: "Where W^{UV} goes",
    naive: { free: "nothing to do", text: "The values were made before the sum: this is each head's output already.", picture: [box("flow", "o", H, v)] },
    absorbed: {
      text: `W^{UV} stands behind the sum: the ${c} numbers of each head become ${v}. Again once for the new token.`,
      picture: [box("flow", "z", H, c), dot, box("weight", "W^{UV}", c, v, by(H, c, v)), gives, box("made", "o", H, v)],
    },
  };
}

function output({ num_attention_heads: H, v_head_dim: v, hidden_size: D }) {
  const picture = [box("flow", "o", 1, H * v), dot, box("weight", "W^{O}", H * v, D), gives, box("made", "u", 1, D)];
  return {
    title: "The output projection",
    naive: { free: SAME, picture, text: "The heads stand side by side and go through W^{O}." },
    absorbed: { free: SAME, picture, text: "The same heads, equal in exact arithmetic, and the same W^{O}." },
  };
}
