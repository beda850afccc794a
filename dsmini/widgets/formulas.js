// The arithmetic of dsmini.accounting, for the widgets. tests/widgets/ holds the two equal over a grid.
// `model` is a plain object with the fields of config.json; a field that the model does not have is null or absent.

const FP8 = 1; // bytes of an fp8 value
const SCALE = 4; // ... of a float32 scale
const ROPE = 2; // ... of a bfloat16 RoPE value
const TILE = 128; // latent values that share one scale

export const isMla = (model) => Boolean(model.kv_lora_rank);
export const hasIndexer = (model) => Boolean(model.index_head_dim);

/** "mha", "gqa", "mqa" or "mla". */
export function attentionOf(model) {
  if (isMla(model)) return "mla";
  if (model.num_key_value_heads === model.num_attention_heads) return "mha";
  return model.num_key_value_heads === 1 ? "mqa" : "gqa";
}

/** The cache layouts that a model can have. */
export function layoutsOf(model) {
  if (!isMla(model)) return ["plain"];
  return hasIndexer(model) ? ["plain", "fp8-index", "production", "expanded"] : ["plain", "production", "expanded"];
}

/** Bytes that one layer keeps for one token. */
function layerBytes(model, bytesPerValue, layout) {
  if (!layoutsOf(model).includes(layout)) throw new RangeError(`layout ${layout}: this model cannot have it`);
  const index = hasIndexer(model) ? model.index_head_dim : 0;
  if (!isMla(model)) return 2 * model.num_key_value_heads * model.head_dim * bytesPerValue;
  const latent = model.kv_lora_rank + model.qk_rope_head_dim;
  if (layout === "plain") return (latent + index) * bytesPerValue;
  if (layout === "expanded") return model.num_attention_heads * expandedWidth(model) * bytesPerValue;
  const indexBytes = index ? index * FP8 + SCALE : 0;
  if (layout === "fp8-index") return latent * bytesPerValue + indexBytes;
  const scales = Math.ceil(model.kv_lora_rank / TILE) * SCALE;
  return model.kv_lora_rank * FP8 + scales + model.qk_rope_head_dim * ROPE + indexBytes;
}

const expandedWidth = (model) => model.qk_nope_head_dim + model.qk_rope_head_dim + model.v_head_dim;

/** Bytes that the whole model caches. */
export function kvCacheBytes(model, tokens, batchSize = 1, bytesPerValue = 2, layout = "plain") {
  return batchSize * tokens * model.num_hidden_layers * layerBytes(model, bytesPerValue, layout);
}

/** Tokens per sequence whose cache fits into the memory. */
export function tokensThatFit(model, memoryBytes, batchSize = 1, bytesPerValue = 2, layout = "plain") {
  const one = kvCacheBytes(model, 1, batchSize, bytesPerValue, layout);
  const quotient = Math.floor(memoryBytes / one);
  return quotient * one > memoryBytes ? quotient - 1 : quotient; // a double's quotient may have been rounded up
}

/** The same model with another attention. kind: "mha", "gqa", "mqa"; or "mla" in the proportions of DeepSeek-V2
 *  (latent 4 heads wide, RoPE key half a head wide), where the model has no MLA of its own. */
export function withAttention(model, kind, groups) {
  const width = isMla(model) ? model.qk_nope_head_dim : model.head_dim;
  const shape = { num_hidden_layers: model.num_hidden_layers, num_attention_heads: model.num_attention_heads };
  if (kind === "mla") {
    if (isMla(model)) return model;
    return { ...shape, kv_lora_rank: 4 * width, qk_nope_head_dim: width, qk_rope_head_dim: width / 2, v_head_dim: width };
  }
  const kvHeads = { mha: model.num_attention_heads, gqa: groups, mqa: 1 }[kind];
  return { ...shape, num_key_value_heads: kvHeads, head_dim: width };
}

/** FLOPs and cache bytes read of each step of one decoded token in one layer, both ways.
 *
 *  variant: "expanded" (keys and values of all heads are cached) or "rebuilt" (made from the latent at every step).
 *  Returns [{key, naive: {flops, bytes}, absorbed: {flops, bytes}}, ...]. The sums are attention_flops and
 *  attention_bytes of dsmini.accounting; what both ways share (projections) costs 0 here. */
export function absorptionSteps(model, context, variant, bytesPerValue = 2) {
  const heads = model.num_attention_heads;
  const { kv_lora_rank: latent, qk_nope_head_dim: nope, qk_rope_head_dim: rope, v_head_dim: value } = model;
  const free = { flops: 0, bytes: 0 };
  const cost = (macs, read) => ({ flops: 2 * macs, bytes: read * bytesPerValue });
  const full = variant === "expanded";
  const made = full ? 1 : context; // tokens whose keys and values are made in this step
  return [
    { key: "query", naive: free, absorbed: free },
    {
      key: "up",
      naive: cost(made * latent * heads * (nope + value), full ? 0 : context * latent),
      absorbed: cost(heads * nope * latent, 0),
    },
    {
      key: "rope",
      naive: cost(heads * rope * context, full ? context * heads * rope : context * rope),
      absorbed: cost(heads * rope * context, context * rope),
    },
    {
      key: "content",
      naive: cost(heads * nope * context, full ? context * heads * nope : 0),
      absorbed: cost(heads * latent * context, context * latent),
    },
    { key: "softmax", naive: free, absorbed: free },
    {
      key: "sum",
      naive: cost(heads * value * context, full ? context * heads * value : 0),
      absorbed: cost(heads * latent * context, 0),
    },
    { key: "value", naive: free, absorbed: cost(heads * latent * value, 0) },
    { key: "output", naive: free, absorbed: free },
  ];
}

/** FLOPs of the projections that both ways share: query down and up, latent down, output. */
export function projectionFlops(model) {
  const { hidden_size: d, num_attention_heads: heads, q_lora_rank: rank } = model;
  const width = heads * (model.qk_nope_head_dim + model.qk_rope_head_dim);
  const query = rank ? rank * (d + width) : d * width;
  return 2 * (query + d * (model.kv_lora_rank + model.qk_rope_head_dim) + heads * model.v_head_dim * d);
}
