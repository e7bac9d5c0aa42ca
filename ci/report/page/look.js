// Answers a question with measured and estimated rows, as ci/pick/estimates.py and rows.py do, in the form of
// `python -m ci.pick --estimate --json`. A test asks both the same questions.

const [MEETS, ESTIMATED, MAY, NOT] = ["meets", "meets, estimated", "may meet", "does not meet"];
const CLASSES = [MEETS, ESTIMATED, MAY, NOT];
const HOST_TOKENS = 32; // that a point at batch 1 needs at the least, to tell the host's time

/**
 * Rows, the best first, and what is not estimated. A question has a model's name, lengths, and `latency_s`,
 * `output_tokens_per_s`, `ttft_s` or `tpot_s` (null where not asked), `rank` and `batches` (empty: any). A machine is
 * [number, place of its hardware].
 */
const look = (data, question, prices, machines = data.estimates.machines) => {
  const { input, output } = question;
  const values = data.estimates;
  const estimator = makeEstimator(values);
  const model = values.models.find((one) => one.name === question.model);
  const curves = data.curves.filter((curve) =>
    curve.model === model.name && curve.input_len === input && curve.output_len === output);
  const better = (a, b) => compared(keyOf(a, question), keyOf(b, question));
  const rows = curves.map((curve) => first(measuredRows(data, question, curve, prices), better)).filter((row) => row !== null);
  const filled = new Set(rows.filter((row) => row.verdict === MEETS).map((row) => `${row.hardware} ${row.engine}`));
  const refused = [];
  for (const [n, place] of machines) {
    const hardware = values.hardware[place];
    const here = curves.filter((curve) => curve.device === hardware.name && curve.devices === n);
    const chosen = new Map(here.map((curve) => [curve.engine, curve.pair]));
    const usual = model.usual[n];
    for (const pair of (chosen.size ? [...chosen.values()] : [usual]).map((one) => values.pairs[one])) {
      const curve = here.find((one) => one.engine === pair.engine) ?? null;
      const asked = { pair, hardware, n, model, input, output };
      const found = bestEstimate(data, question, asked, curve, estimator, prices, better);
      if (typeof found === "string") refused.push({ machine: `${n}x${hardware.name} ${pair.engine}`, reason: found });
      else if (found !== null && (found.verdict === ESTIMATED || !filled.has(`${found.hardware} ${found.engine}`))) rows.push(found);
    }
  }
  return { rows: rows.sort(better), refused };
};

/** What is to be small: the class, then how well a row ranks in it, or how far it misses. */
const keyOf = (row, question) => {
  const speed = question.output_tokens_per_s === null ? -row.output_tokens_per_s : row.latency_s;
  const place = CLASSES.indexOf(row.verdict);
  if (row.verdict === NOT) return [place, missedBy(row, question)];
  const ranked = {
    tokens: 0,
    device: -row.output_tokens_per_s / row.devices,
    cost: row.usd_per_million_output_tokens ?? Infinity,
    fewest: row.devices,
  };
  return [place, ranked[question.rank], speed];
};

const missedBy = (row, question) => {
  for (const name of ["latency_s", "ttft_s", "tpot_s"]) {
    if (question[name] !== null && row[name] !== null) return row[name] / question[name];
  }
  return question.output_tokens_per_s === null ? 0 : question.output_tokens_per_s / row.output_tokens_per_s;
};

/** Less than 0 where the first key is the smaller one; equal parts, infinite ones too, decide nothing. */
const compared = (a, b) => {
  const i = a.findIndex((part, place) => part !== b[place]);
  return i < 0 ? 0 : (a[i] < b[i] ? -1 : 1);
};

/** The first of the best; null of none. */
const first = (rows, better) => rows.reduce((best, row) => (best === null || better(row, best) < 0 ? row : best), null);

const meets = (question, tokens, latency_s, ttft_s, tpot_s) =>
  (question.latency_s === null || latency_s <= question.latency_s)
  && (question.output_tokens_per_s === null || tokens / latency_s >= question.output_tokens_per_s)
  && (question.ttft_s === null || (ttft_s !== null && ttft_s <= question.ttft_s))
  && (question.tpot_s === null || (tpot_s !== null && tpot_s <= question.tpot_s));

/** A row in the form of the command's; `number` is of the devices that are paid for. */
const rowOf = (verdict, curveOrCase, batch, { latency_s, high_s, ttft_s, tpot_s }, price, rest) => {
  const { device, devices, number, engine, source, caseId, input, output, tdp_w, joules } = curveOrCase;
  const output_tokens_per_s = batch * output / latency_s;
  const usd = price === undefined ? null : price * number / 3600 / output_tokens_per_s * 1e6;
  const shared = usd === null || ttft_s === null ? null : price * number / 3600;
  const at_most = joules === null && tdp_w !== null ? 1000 * tdp_w * number * high_s / (batch * output) : null;
  return {
    verdict,
    hardware: `${devices}x${device}`,
    devices,
    engine,
    source,
    case: caseId,
    batch_size: batch,
    input_len: input,
    output_len: output,
    latency_s,
    output_tokens_per_s,
    output_tokens_per_s_per_device: output_tokens_per_s / devices,
    ttft_s,
    tpot_s,
    usd_per_million_output_tokens: usd,
    usd_per_million_output_tokens_at_most: usd && usd * high_s / latency_s,
    usd_per_million_input_tokens_of_prefill: shared && shared * ttft_s / (batch * input) * 1e6,
    usd_per_million_output_tokens_of_decode: shared && shared * (latency_s - ttft_s) / (batch * output) * 1e6,
    joules_per_1000_output_tokens: joules === null ? at_most : 1000 * joules,
    joules_are: joules !== null ? "measured" : (at_most === null ? null : "at most, by TDP"),
    estimate: null,
    measure: [],
    ...rest,
  };
};

/** The points of a curve that have the figures asked for. */
const measuredRows = (data, question, curve, prices) => {
  const spec = data.estimates.hardware.find((one) => one.name === curve.device);
  return curve.samples.flatMap(([batch, latency_s, place]) => {
    const value = (name) => data.cases[place].value(name) ?? null;
    const ttft_s = curve.output_len === 1 ? latency_s : value("ttft_s");
    const tpot_s = value("tpot_s");
    if ((question.ttft_s !== null && ttft_s === null) || (question.tpot_s !== null && tpot_s === null)) return [];
    const verdict = meets(question, batch * curve.output_len, latency_s, ttft_s, tpot_s) ? MEETS : NOT;
    const of = {
      device: curve.device, devices: curve.devices, number: curve.machines, engine: curve.engine, source: curve.source,
      caseId: data.cases[place].id, input: curve.input_len, output: curve.output_len, tdp_w: spec?.tdp_w ?? null,
      joules: value("joules_per_output_token"),
    };
    return [rowOf(verdict, of, batch, { latency_s, high_s: latency_s, ttft_s, tpot_s }, prices[curve.device], { place })];
  });
};

/** The best unmeasured batch; the reason where nothing is estimated, null where all was measured. */
const bestEstimate = (data, question, asked, curve, estimator, prices, better) => {
  const reason = estimator.refusal(asked);
  if (reason !== null) return reason;
  const { most } = data.estimates;
  const ran_out = Math.min(...(curve?.ran_out ?? []), most + 1);
  const fits = estimator.largestBatch(asked);
  if (fits === null && !question.batches.length) return `device ${asked.hardware.name}: its memory is not known; name batches by --batch`;
  const largest = fits === null ? most : Math.min(fits, ran_out - 1);
  const least = question.batches[0] ?? 1;
  if (largest < least) return `${least === 1 ? "one sequence does" : `${least} sequences do`} not fit its memory, as predicted`;
  const known = new Set(curve === null ? [] : measuredRows(data, question, curve, prices).map((row) => row.batch_size));
  const allowed = question.batches.length ? question.batches : usualBatches(question, largest);
  const batches = allowed.filter((batch) => batch <= largest && !known.has(batch));
  if (!batches.length) return null;
  const rows = new Map();
  const at = (batch) => {
    if (!rows.has(batch)) rows.set(batch, estimatedRow(question, asked, batch, estimator, prices));
    return rows.get(batch);
  };
  batches.forEach(at);
  if (!question.batches.length) refine(batches, at, question, known);
  const best = first([...rows.values()].filter((row) => !known.has(row.batch_size)), better);
  return best.verdict === MAY ? { ...best, measure: toMeasure(best, asked) } : best;
};

/** Powers of two and the largest; where all that is asked is that it fits, one sequence. */
const usualBatches = (question, largest) => {
  if (["latency_s", "output_tokens_per_s", "ttft_s", "tpot_s"].every((name) => question[name] === null)) return [1];
  const found = [];
  for (let batch = 1; batch < largest; batch *= 2) found.push(batch);
  return [...found, largest];
};

/** Between two batches of which one is of a better class, the last whole one that still is, by halving. */
const refine = (batches, at, question, known) => {
  const place = (batch) => CLASSES.indexOf(at(batch).verdict);
  const upwards = question.output_tokens_per_s === null;
  const best = Math.min(...batches.map(place));
  const inside = batches.filter((batch) => place(batch) === best);
  let good = upwards ? Math.max(...inside) : Math.min(...inside);
  const beyond = batches.filter((batch) => (upwards ? batch > good : batch < good));
  if (!beyond.length || best === CLASSES.indexOf(NOT)) return;
  let bad = upwards ? Math.min(...beyond) : Math.max(...beyond);
  while (Math.abs(bad - good) > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (place(middle) === best) good = middle;
    else bad = middle;
  }
  while (known.has(good) && good > 0) {
    good += upwards ? -1 : 1;
    if (good > 0) at(good);
  }
};

const estimatedRow = (question, { pair, hardware, n, model, input, output }, batch, estimator, prices) => {
  const { half_width, ...found } = estimator.of({ pair, hardware, n, model, input, output }, batch);
  const within = (factor) => meets(question, batch * output, found.latency_s * factor, found.ttft_s * factor,
    found.tpot_s === null ? null : found.tpot_s * factor);
  const verdict = within(half_width) ? ESTIMATED : (within(1) ? MAY : NOT);
  const of = {
    device: hardware.name, devices: n, number: n, engine: pair.engine, source: "estimated", caseId: null, input, output,
    tdp_w: hardware.tdp_w, joules: null,
  };
  return rowOf(verdict, of, batch, found, prices[hardware.name], { estimate: found });
};

/** The command that measures what tells most: one sequence for the host, and the row's own batch. */
const toMeasure = (row, { model, input, output }) => [
  `ci/bench --hardware ${row.hardware} --model ${model.name} --set engines=[${row.engine}] `
  + `--set batch_sizes=[${[...new Set([1, row.batch_size])].join(",")}] --set input_lengths=[${input}] `
  + `--set output_lengths=[${Math.max(output, HOST_TOKENS)}]`,
];
