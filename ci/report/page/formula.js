// Seconds of a pass and of a generation, as in fixtures/core/estimate/formula.py: the same names, the same order. `v` has
// the parameters, `model` the counts, `on` the peaks of one device and the number of devices.

const REFERENCE_BYTES_PER_S = 2039e9;
const NODES = 6;
const BYTES_A_VALUE = 2;

/** (x^p + y^p)^(1/p). */
const norm = (x, y, p) => {
  const high = Math.max(x, y);
  return high > 0 ? high * (1 + (Math.min(x, y) / high) ** p) ** (1 / p) : 0;
};

/** Bytes of weights that so many tokens read: what all do, and of experts those that not every token misses. */
const readBytes = ([always, groups], tokens) =>
  groups.reduce((sum, [size, missed]) => sum + size * (1 - missed ** tokens), always);

/** Of all attended positions those that a token attends to, the mean over the FLOPs of attention. */
const reachOf = (model, added, attended) => (model.c ? model.attention.reduce((sum, [rate, most]) =>
  sum + rate * (added + Math.min(attended - added, most ?? Infinity)), 0) / model.c : attended);

/** A pass of `batch` sequences with so many `added` tokens each, over so many attended ones. */
const onePass = (model, on, batch, added, attended, v) => {
  const n = on.number;
  const several = n > 1 ? 1 : 0;
  const isStep = added === 1 ? 1 : 0;
  const [ofStep, ofPass, ofToken] = model.operators;
  const operators = isStep ? ofStep : ofPass + ofToken * added;
  const host = v.g_host * (v.tau_s * operators + several * model.blocks * model.layers * v.alpha_s);
  const reach = reachOf(model, added, attended);
  const padding = isStep ? 0 : (model.chunk - added % model.chunk) % model.chunk;
  const chunks = isStep ? 0 : model.chunk_flops * added + model.padded_flops * padding;
  const flops = model.a + model.b * added + model.c * added * reach + model.again * (attended - added)
    + model.layers * chunks;
  const read = readBytes(model.read, batch * added) + isStep * batch * model.copied;
  const slow = n * REFERENCE_BYTES_PER_S * (on.bytes_per_s / REFERENCE_BYTES_PER_S) ** v.gamma;
  const memory = n * on.bytes_per_s;
  const moved = model.layers * batch
    * (added * (model.sigma * model.heads * reach + model.omega * model.width) + model.padded_bytes * padding);
  const reduced = 2 * (n - 1) / n * batch * added * model.width * BYTES_A_VALUE;
  const parts = {
    host,
    FLOPs: v.g_device * batch * flops / (n * v.e_flops * on.flops_per_s),
    weights: v.g_device * (1 + (isStep ? 0 : v.pack)) * read / (n * v.e_weights * on.bytes_per_s),
    cache: v.g_device * (model.kappa * model.c * batch * reach / Math.min(v.e_cache * slow, memory)
      + isStep * batch * model.kept / (n * v.e_weights * on.bytes_per_s)),
    scores: v.g_device * moved / Math.min(v.e_scores * slow, memory),
    link: v.g_device * several * model.blocks * model.layers * reduced / (v.e_link * on.link_bytes_per_s),
  };
  const device = norm(parts.FLOPs, parts.weights, v.q) + parts.cache + parts.scores + parts.link;
  return { parts, total: norm(host, device, v.p) };
};

/** Prefill, and output - 1 steps of one token, evaluated at the midpoints of six equal parts; with a cache. */
const generate = (model, on, batch, input, output, v) => {
  const first = onePass(model, on, batch, input, input, v);
  const steps = output - 1;
  const passes = Array.from({ length: NODES }, (_, i) =>
    onePass(model, on, batch, 1, input + 0.5 + steps * (i + 0.5) / NODES, v));
  const mean = (of) => passes.reduce((sum, pass) => sum + of(pass), 0) / NODES;
  const parts = Object.fromEntries(["host", "weights", "FLOPs", "cache", "scores", "link"].map((name) =>
    [name, first.parts[name] + steps * mean((pass) => pass.parts[name])]));
  return {
    ttft_s: first.total,
    decode_s: steps * mean((pass) => pass.total),
    set_by: Object.keys(parts).reduce((most, name) => (parts[name] > parts[most] ? name : most)),
  };
};
