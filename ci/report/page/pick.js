// The best point of each curve under a target. Repeats ci/pick/answers.py operation by operation, so that page and
// command agree to the last bit; a test asks both the same questions.

/**
 * One answer per curve, as `python -m ci.pick --json` gives it: the best first, those that miss the target last.
 * A target has `latency_s` or `output_tokens_per_s`, the other is null; prices are US$ an hour by device.
 */
const pick = (curves, target, prices) => {
  const byLatency = target.latency_s !== null;
  const met = (at) => (byLatency
    ? at.latency_s <= target.latency_s
    : at.output_tokens_per_s >= target.output_tokens_per_s);
  // smaller is better: minus throughput under a latency, latency under a throughput
  const rank = (at) => (byLatency ? -at.output_tokens_per_s : at.latency_s);
  const missedBy = (at) => (byLatency ? at.latency_s : -at.output_tokens_per_s);

  const answers = curves.map((curve) => {
    const points = curve.samples.map(([batch, latency]) => pointAt(curve, batch, latency));
    const best = least(points.filter(met), rank);
    const price = prices[curve.device];
    const place = best === null ? null : curve.samples[points.indexOf(best)][2];
    return {
      hardware: curve.hardware,
      devices: curve.devices,
      engine: curve.engine,
      source: curve.source,
      meets: best !== null,
      place,
      best,
      output_tokens_per_s_per_device: best && best.output_tokens_per_s / curve.devices,
      usd_per_million_output_tokens: best === null || price === undefined
        ? null
        : price * curve.machines / 3600 / best.output_tokens_per_s * 1e6,
      interpolated: between(curve, points, best, met, rank),
      nearest: least(points, missedBy),
      dominated_by: [],
      out_of_memory_at_batch: curve.ran_out.length ? Math.min(...curve.ran_out) : null,
    };
  });
  for (const answer of answers) {
    answer.dominated_by = answers.filter((other) => dominates(other, answer)).map(labelOf);
  }
  const order = (answer) => (answer.meets ? rank(answer.best) : missedBy(answer.nearest));
  return answers.sort((a, b) => (a.meets === b.meets ? order(a) - order(b) : b.meets - a.meets));
};

const labelOf = (answer) => `${answer.hardware} ${answer.engine} (${answer.source})`;

const pointAt = (curve, batch, latency) => ({
  batch_size: batch,
  latency_s: latency,
  output_tokens_per_s: batch * curve.output_len / latency,
});

/** The point with the smallest key, the first of equals; null if there are none. */
const least = (points, key) =>
  points.reduce((best, point) => (best === null || key(point) < key(best) ? point : best), null);

/**
 * The best whole batch between two measured batches of which one meets the target; null if none beats `best`.
 * Assumes latency linear in batch size between neighbours.
 */
const between = (curve, points, best, met, rank) => {
  const candidates = [];
  for (let i = 1; i < points.length; i += 1) {
    const [low, high] = [points[i - 1], points[i]];
    if (met(low) !== met(high)) candidates.push(lastMet(curve, low, high, met));
  }
  const better = candidates.filter((point) => point !== null && (best === null || rank(point) < rank(best)));
  return least(better, rank);
};

/** The whole batch nearest to `outside` that meets the target, by bisection; null if that is a measured one. */
const lastMet = (curve, low, high, met) => {
  const slope = (high.latency_s - low.latency_s) / (high.batch_size - low.batch_size);
  const at = (batch) => pointAt(curve, batch, low.latency_s + slope * (batch - low.batch_size));
  const [inside, outside] = met(low) ? [low, high] : [high, low];
  let [good, bad] = [inside.batch_size, outside.batch_size];
  while (Math.abs(bad - good) > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (met(at(middle))) good = middle;
    else bad = middle;
  }
  return good === inside.batch_size ? null : at(good);
};

/** No worse in latency, tokens/s, tokens/s per device and, if both have a price, cost; better in at least one. */
const dominates = (answer, other) => {
  if (!answer.meets || !other.meets || answer === other) return false;
  const pairs = [
    [answer.best.latency_s, other.best.latency_s],
    [-answer.best.output_tokens_per_s, -other.best.output_tokens_per_s],
    [-answer.output_tokens_per_s_per_device, -other.output_tokens_per_s_per_device],
  ];
  if (answer.usd_per_million_output_tokens !== null && other.usd_per_million_output_tokens !== null) {
    pairs.push([answer.usd_per_million_output_tokens, other.usd_per_million_output_tokens]);
  }
  return pairs.every(([a, b]) => a <= b) && pairs.some(([a, b]) => a < b);
};
