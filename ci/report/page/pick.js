// The best point of each curve under a target: ci/pick/answers.py once more, operation by operation, so that the
// page and the command give the same numbers to the last bit. A test asks both the same questions.

/**
 * An answer a curve, in the form of `python -m ci.pick --json`: the best first, those that miss the target last.
 * A target has `latency_s` or `output_tokens_per_s`, the other is null; prices are in US$ an hour by device.
 */
const pick = (curves, target, prices) => {
  const byLatency = target.latency_s !== null;
  const met = (at) => (byLatency
    ? at.latency_s <= target.latency_s
    : at.output_tokens_per_s >= target.output_tokens_per_s);
  // what is to be small: less throughput for a latency, latency for a throughput
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
  for (const one of answers) {
    one.dominated_by = answers.filter((other) => dominates(other, one)).map(labelOf);
  }
  const order = (one) => (one.meets ? rank(one.best) : missedBy(one.nearest));
  return answers.sort((a, b) => (a.meets === b.meets ? order(a) - order(b) : b.meets - a.meets));
};

const labelOf = (one) => `${one.hardware} ${one.engine} (${one.source})`;

const pointAt = (curve, batch, latency) => ({
  batch_size: batch,
  latency_s: latency,
  output_tokens_per_s: batch * curve.output_len / latency,
});

/** The first of the smallest; null of none. */
const least = (points, key) =>
  points.reduce((found, one) => (found === null || key(one) < key(found) ? one : found), null);

/**
 * The best whole batch between two measured ones of which one meets the target, null without one that is better
 * than the best. Latency is taken to be linear along batch size between neighbours.
 */
const between = (curve, points, best, met, rank) => {
  const found = [];
  for (let i = 1; i < points.length; i += 1) {
    const [low, high] = [points[i - 1], points[i]];
    if (met(low) !== met(high)) found.push(lastMet(curve, low, high, met));
  }
  const better = found.filter((one) => one !== null && (best === null || rank(one) < rank(best)));
  return least(better, rank);
};

/** The whole batch next to where the target is just met, on the side that meets it; by halving. */
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

/** No worse in latency, tokens/s, tokens/s a device and, where both have a price, cost; better in one. */
const dominates = (one, other) => {
  if (!one.meets || !other.meets || one === other) return false;
  const pairs = [
    [one.best.latency_s, other.best.latency_s],
    [-one.best.output_tokens_per_s, -other.best.output_tokens_per_s],
    [-one.output_tokens_per_s_per_device, -other.output_tokens_per_s_per_device],
  ];
  if (one.usd_per_million_output_tokens !== null && other.usd_per_million_output_tokens !== null) {
    pairs.push([one.usd_per_million_output_tokens, other.usd_per_million_output_tokens]);
  }
  return pairs.every(([a, b]) => a <= b) && pairs.some(([a, b]) => a < b);
};
