// Estimates the latency of a case and predicts its memory, as estimate.py and machine.py in fixtures/core/estimate and
// memory.py in fixtures/core/cost do. A case is { pair, hardware, n, model, input, output }.

const [NEVER_SEEN, SEEN] = ["machine never seen", "machine with measured points"];
const STEP = 1e-3; // of ln g, for a derivative

/** Estimates out of the page's data; `refusal` is null where `of` may be asked. */
const makeEstimator = (values) => {
  const known = new Map(values.known.map((found) => [`${found.hardware} ${found.kind}`, found]));
  const knownOf = ({ pair, hardware }) => known.get(`${hardware.name} ${pair.kind}`)
    ?? { devices: [], models: [], lengths: [], machine: neverSeen(values.physics[pair.kind]) };

  const refusal = ({ pair, hardware, n, model, input, output }) => {
    const ours = pair.refused ?? (n > 1 ? hardware.refused_several : hardware.refused)[pair.dtype];
    if (ours !== null) return ours;
    const fitted = values.physics[pair.kind];
    for (const [what, asked, longest] of [["input", input, fitted.input_len], ["output", output, fitted.output_len]]) {
      if (asked > values.farthest * longest) {
        return `${what} of ${asked} tokens: beyond ${values.farthest} times the longest fitted, ${longest}`;
      }
    }
    if (model.context_len !== null && input + output > model.context_len) {
      return `model ${model.name}: ${input + output} tokens are over its context of ${model.context_len}`;
    }
    return pair.split[n]?.[hardware.name] ?? null;
  };

  const of = (asked, batch) => {
    const { pair, hardware, n, model, input, output } = asked;
    const physics = values.physics[pair.kind];
    const found = knownOf(asked);
    const on = { ...hardware, flops_per_s: hardware.flops_per_s[pair.dtype], number: n };
    const v = found.machine === null ? physics.parameters : ofMachine(found.machine, physics.parameters);
    const made = generate(pair, on, batch, input, output, v);
    const least = bound(pair, on, n, batch, input, output);
    const ttft_s = Math.max(made.ttft_s, least.prefill_s);
    const decode_s = Math.max(made.decode_s, least.decode_s);
    const latency_s = ttft_s + decode_s;
    const novelty = [...whatIsNew(found, n, model.name, input, output), ...notBehind(found, pair, model.name)];
    const unlike = notBehind(found, pair, model.name).length ? values.unlike : 1;
    const half_width = halfWidth(physics, found.machine, novelty, unlike, (v) => {
      const made = generate(pair, on, batch, input, output, v);
      return made.ttft_s + made.decode_s;
    });
    const bound_s = least.prefill_s + least.decode_s;
    return {
      half_width,
      latency_s,
      low_s: Math.max(latency_s / half_width, bound_s),
      high_s: latency_s * half_width,
      level: values.level,
      ttft_s,
      tpot_s: output > 1 ? decode_s / (output - 1) : null,
      novelty: novelty.join(", "),
      set_by: made.set_by,
      bound_s,
      parameters_sha256: physics.sha256,
    };
  };

  /** The most sequences that the memory holds as predicted; null where the memory is not known. */
  const largestBatch = ({ pair, hardware, n, input, output }) => {
    if (hardware.room_bytes === null) return null;
    const fits = (batch) => neededBytes(pair.footprint, n, batch, input, output, values.margin_bytes) <= hardware.room_bytes;
    if (!fits(1)) return 0;
    let above = 2;
    while (fits(above)) {
      above *= 2;
      if (above > 2 ** 40) return above / 2;
    }
    let below = above / 2;
    while (above - below > 1) {
      const middle = Math.floor((below + above) / 2);
      if (fits(middle)) below = middle;
      else above = middle;
    }
    return below;
  };

  return { refusal, of, largestBatch };
};

const neverSeen = (physics) => ({
  ln_host: 0, ln_device: 0, var_host: physics.host_sd_ln ** 2, var_device: physics.device_sd_ln ** 2, covariance: 0, points: 0,
});

const ofMachine = (machine, v) => {
  const [host, device] = [machine.ln_host, machine.ln_device].map(Math.exp);
  const most = { e_cache: Math.min(v.e_cache, device), e_scores: Math.min(v.e_scores, device) };
  return { ...v, ...most, g_host: host, g_device: device };
};

/** What of a case was not measured on its machine. */
const whatIsNew = (known, n, model, input, output) => {
  if (!known.devices.length) return [NEVER_SEEN];
  const found = [];
  if (!known.devices.includes(n)) found.push("other count");
  if (!known.models.includes(model)) found.push("other model");
  if (!known.lengths.some(([first, last]) => first === input && last === output)) found.push("other lengths");
  return found.length ? found : ["other batch"];
};

/** What no measured point behind the estimate has, in words; empty if all have. */
const notBehind = (known, pair, model) => {
  const lacks = [
    ...(pair.borrowed && !known.devices.length ? [pair.kind] : []),
    ...(known.models.includes(model) ? [] : pair.kinds),
  ];
  if (!lacks.length) return [];
  const others = lacks.slice(0, -1).join(", ");
  return [`no measured ${others && `${others} or `}${lacks.at(-1)} behind it`];
};

/** The factor x of the 90 % interval: by what is new on a machine of the fit, by its factors elsewhere. */
const halfWidth = (physics, machine, novelty, unlike, secondsBy) => {
  const wider = (ln) => Math.exp(Math.hypot(ln, Math.log(unlike)));
  if (machine === null) return wider(Math.log(Math.max(...novelty.map((what) => physics.half_width[what] ?? 1))));
  const v = ofMachine(machine, physics.parameters);
  const share = (name) => {
    const [up, down] = [STEP, -STEP].map((step) => Math.log(secondsBy({ ...v, [name]: v[name] * Math.exp(step) })));
    return (up - down) / (2 * STEP);
  };
  const [host, device] = [share("g_host"), share("g_device")];
  const variance = host ** 2 * machine.var_host + device ** 2 * machine.var_device + 2 * host * device * machine.covariance;
  return wider(physics.machine_scale[machine.points ? SEEN : NEVER_SEEN] * Math.sqrt(physics.own_sd_ln ** 2 + variance));
};

/** The least seconds by the stated peaks of n devices: for each pass the longer of arithmetic and bytes moved. */
const bound = (pair, hardware, n, batch, input, output) => {
  const [flops_per_s, bytes_per_s] = [n * hardware.flops_per_s, n * hardware.bytes_per_s];
  const { prefill, steps } = leastOf(pair, input, output);
  const weights = readBytes(pair.least.read, batch);
  let [arithmetic_s, bandwidth_s] = [0, 0];
  for (const [flops, moved] of steps) {
    const [of_flops, of_bytes] = [batch * flops / flops_per_s, (weights + batch * moved) / bytes_per_s];
    if (of_flops > of_bytes) arithmetic_s += of_flops;
    else bandwidth_s += of_bytes;
  }
  const first = Math.max(batch * prefill / flops_per_s, readBytes(pair.least.read, batch * input) / bytes_per_s);
  return { prefill_s: first, decode_s: arithmetic_s + bandwidth_s };
};

const leastWork = new WeakMap();

/** The least FLOPs of a sequence's prefill, and FLOPs and bytes of caches in each step; kept for the next question. */
const leastOf = (pair, input, output) => {
  const kept = leastWork.get(pair);
  if (kept?.input === input && kept.output === output) return kept;
  const { a, least } = pair;
  const attended = (tokens) => least.pairs.reduce((sum, [rate, every, base, block]) => {
    const entries = Math.floor(tokens / every);
    return sum + rate * Math.min(entries, 1 + (base ?? Infinity) + (entries - 1) % block);
  }, 0);
  const read = (tokens) => least.caches.reduce((sum, [size, every, base, block]) => {
    const entries = Math.floor(tokens / every);
    return sum + size * Math.min(entries, (base ?? Infinity) + entries % block);
  }, least.fixed_bytes);
  let prefill = a + least.per_token * input;
  for (let tokens = 1; tokens <= input; tokens += 1) prefill += attended(tokens);
  const steps = Array.from({ length: output - 1 }, (_, i) =>
    [a + least.per_token + attended(input + i + 1), read(input + i)]);
  const made = { input, output, prefill, steps };
  leastWork.set(pair, made);
  return made;
};

/** Bytes that each of n devices needs for a call: fixtures/core/cost/memory.py for a GPU. */
const neededBytes = (footprint, n, batch, input, output, margin) => {
  const { weight_bytes: weights, whole_bytes: whole, tied, chunk } = footprint;
  const share = n === 1 || !whole ? Math.ceil(weights / n) : Math.ceil((tied ? weights : weights - whole) / n) + whole;
  const live = (moments, tokens) => Math.max(...moments.map(([once, t, t2, b, bt, bt2]) =>
    Math.ceil(once + t * tokens + t2 * tokens ** 2 + batch * (b + bt * tokens + bt2 * tokens ** 2))));
  const cache = (tokens, limited) => Math.ceil(batch * footprint.caches.reduce((sum, [size, begun, every, most]) => {
    const kept = limited ? Math.min(tokens, most ?? Infinity) : tokens;
    return sum + Math.floor(kept / every) * size + kept % every * begun;
  }, footprint.fixed_bytes) / n);
  const padded = Math.ceil(input / chunk) * chunk;
  const prefill = cache(input, false) + live(footprint.prefill.findLast(([from]) => from <= padded)[1], padded);
  const before = input + output - 2;
  const decode = cache(before, true) + live(footprint.decode, Math.min(before, footprint.reach ?? Infinity));
  return share + margin + (output > 1 ? Math.max(prefill, decode) : prefill);
};
