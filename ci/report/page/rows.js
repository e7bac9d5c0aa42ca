// The answers with estimates: a table by class, what to measure first, and what is not estimated.

const COLUMNS = [
  { name: "tokens/s" }, { name: "latency s" }, { name: "90 % interval s" }, { name: "batch" }, { name: "TTFT s" }, { name: "TPOT s" },
  { name: "tokens/s per device" }, { name: "$/M tokens", priced: true },
];
const WORDS = ["engine", "source", "set by", "new"];
const HEADLINES = {
  [MEETS]: "meets: measured",
  [ESTIMATED]: "meets, estimated: the upper end of the interval does",
  [MAY]: "may meet: the estimate does, the upper end does not",
  [NOT]: "does not meet",
};

/** The target in words. */
const askedFor = (target) => {
  if (target.latency_s !== null) return `a latency of ${seconds(target.latency_s)}`;
  if (target.output_tokens_per_s !== null) return `${significant(target.output_tokens_per_s)} tokens/s`;
  if (target.ttft_s !== null) return `a TTFT of ${seconds(target.ttft_s)}`;
  return target.tpot_s === null ? "the memory" : `a TPOT of ${significant(1000 * target.tpot_s)} ms`;
};

const estimatesOf = (data, records, question, prices) => {
  const { rows, refused } = look(data, question, prices);
  const goal = askedFor(question);
  const of = (verdict) => rows.filter((row) => row.verdict === verdict);
  const asTable = (classes, name) => tableOf(data, records, rows.filter((row) => classes.includes(row.verdict)), name);
  const meeting = rows.some((row) => row.verdict !== NOT);
  return [
    verdictOf(rows, goal),
    meeting ? asTable([MEETS, ESTIMATED, MAY], `Hardware for ${goal}, the best first`) : null,
    folded(of(MAY).length, `Measure first, on the machine itself (${of(MAY).length})`,
      () => element("ul", {}, ...of(MAY).flatMap((row) => row.measure.map((command) => element("li", {}, element("code", {}, command)))))),
    folded(of(NOT).length, `Does not meet (${of(NOT).length})`, () => asTable([NOT], `Hardware that misses ${goal}, the nearest first`), !meeting),
    folded(refused.length, `Not estimated (${refused.length})`, () => reasonsOf(refused)),
    element("p", { class: "muted" }, "Estimated by the latency formula with its 90 % interval, from what this page's runs say of a machine; "
      + "what was measured is not estimated. These are the answers of ", element("code", {}, "ci.pick --estimate"), "."),
  ].filter((node) => node !== null);
};

/** The best row in a sentence, and how many are of each class. */
const verdictOf = (rows, goal) => {
  const number = (verdict) => rows.filter((row) => row.verdict === verdict).length;
  const counts = [[MEETS, "measured"], [ESTIMATED, "estimated"]].filter(([verdict]) => number(verdict))
    .map(([verdict, how]) => `${number(verdict)} ${how}`);
  const others = [[MAY, "may"], [NOT, "miss it"]].filter(([verdict]) => number(verdict)).map(([verdict, how]) => `${number(verdict)} ${how}`);
  const total = [counts.length ? `${counts.join(" and ")} meet ${goal}` : "", ...others].filter(Boolean).join(", ");
  const best = rows[0];
  if (!best || best.verdict === NOT || best.verdict === MAY) {
    const nothing = best?.verdict === MAY ? `Nothing surely meets ${goal}. ` : `Nothing meets ${goal}. `;
    return element("p", { class: "verdict" }, nothing, element("span", { class: "muted" }, total ? `${total}.` : ""));
  }
  const interval = best.estimate === null ? "" : ` (90 % interval ${intervalOf(best)})`;
  return element("p", { class: "verdict" }, element("strong", {}, best.hardware), ` at batch ${best.batch_size}: `,
    element("strong", {}, `${significant(best.output_tokens_per_s, 4)} tokens/s`),
    ` in ${seconds(best.latency_s)}${interval}, ${best.estimate === null ? "measured" : "estimated"}. `,
    element("span", { class: "muted" }, `${total}.`));
};

const intervalOf = (row) => `${significant(row.estimate.low_s)} to ${significant(row.estimate.high_s)} s`;

/** Made when it is opened; null for nothing. */
const folded = (number, title, make, open = false) => {
  if (!number) return null;
  const node = element("details", { open }, element("summary", {}, title));
  const fill = () => { if (node.open && node.children.length < 2) node.append(make()); };
  node.addEventListener("toggle", fill);
  fill();
  return node;
};

const tableOf = (data, records, rows, name) => {
  const priced = rows.some((row) => row.usd_per_million_output_tokens !== null);
  const columns = COLUMNS.filter((column) => priced || !column.priced);
  const most = Math.max(...rows.map((row) => row.output_tokens_per_s));
  const head = element("tr", {}, element("th", { scope: "col" }, "hardware"),
    ...columns.map((column) => element("th", { scope: "col", class: "number" }, column.name)),
    ...WORDS.map((word) => element("th", { scope: "col" }, word)));
  const width = 1 + columns.length + WORDS.length;
  const bodies = CLASSES.map((verdict) => rows.filter((row) => row.verdict === verdict)).filter((group) => group.length)
    .map((group) => element("tbody", {},
      element("tr", { class: "class" }, element("th", { scope: "rowgroup", colspan: width }, HEADLINES[group[0].verdict])),
      ...group.map((row) => rowNode(data, records, row, most, priced))));
  return element("div", { class: "scroller short", role: "region", "aria-label": name, tabindex: "0" },
    element("table", { class: "answers priced estimates" }, element("caption", { class: "unseen" }, name), element("thead", {}, head), ...bodies));
};

const rowNode = (data, records, row, most, priced) => {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${100 * row.output_tokens_per_s / most}%`;
  const measured = row.estimate === null;
  const open = () => records.open(data.cases[row.place]);
  const name = measured
    ? element("button", { type: "button", class: "link", "aria-haspopup": "dialog", onclick: open }, row.hardware)
    : row.hardware;
  const known = (value) => number(value === null ? "" : significant(value));
  return element("tr", { class: measured ? "measured" : "estimated" },
    element("th", { scope: "row" }, name),
    element("td", { class: "number barred" }, bar, significant(row.output_tokens_per_s, 4)),
    number(significant(row.latency_s, 4)), number(measured ? "" : intervalOf(row).slice(0, -2)), number(String(row.batch_size)),
    known(row.ttft_s), known(row.tpot_s), number(significant(row.output_tokens_per_s_per_device, 4)),
    ...(priced ? [known(row.usd_per_million_output_tokens)] : []),
    element("td", {}, row.engine), element("td", {}, badge(row.source)),
    element("td", {}, measured ? "" : row.estimate.set_by), element("td", { class: "remark" }, measured ? "" : row.estimate.novelty));
};

/** Machines by the reason for which they are not estimated. */
const reasonsOf = (refused) => {
  const reasons = [...new Set(refused.map(({ reason }) => reason))];
  const machinesOf = (reason) => refused.filter((other) => other.reason === reason).map(({ machine }) => machine);
  return element("dl", {}, ...reasons.flatMap((reason) => [element("dt", {}, reason), element("dd", {}, machinesOf(reason).join(", "))]));
};
