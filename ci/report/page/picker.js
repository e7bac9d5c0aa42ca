// The question and its answers: a model, its lengths and a target, asked of every hardware that has a curve there.

const makePicker = (data, records) => {
  const form = byId("question");
  const { model, input, output, kind, goal } = form.elements;
  const prices = {};

  const ofModel = () => data.curves.filter((curve) => curve.model === model.value);
  const ofInput = () => ofModel().filter((curve) => String(curve.input_len) === input.value);
  const here = () => ofInput().filter((curve) => String(curve.output_len) === output.value);

  const fill = (select, values, wished) => {
    const names = inOrder(values.map(String));
    select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    select.value = names.includes(String(wished)) ? String(wished) : names[0];
  };

  const lengthsOfModel = () => {
    const wished = richest(ofModel());
    fill(input, ofModel().map((curve) => curve.input_len), input.value || wished.input_len);
    fill(output, ofInput().map((curve) => curve.output_len), output.value || wished.output_len);
  };

  const answer = () => {
    const wished = wishOf(kind.value, goal.value);
    goal.setAttribute("aria-invalid", String(wished === null));
    byId("question-error").textContent = wished === null
      ? `Write ${kind.value === "latency" ? "seconds" : "tokens/s"} above zero, such as ${kind.value === "latency" ? "2" : "500"}.`
      : "";
    byId("answer").replaceChildren(...(wished === null ? [] : answersOf(data, records, pick(here(), wished, prices), wished)));
  };

  const ask = (changed) => {
    if (changed === model) input.value = output.value = "";
    if (changed === model || changed === input) lengthsOfModel();
    if (changed === kind) goal.value = usualGoal(here(), kind.value);
    byId("goal-label").textContent = kind.value === "latency" ? "Latency, s" : "Tokens/s";
    answer();
  };

  if (!data.curves.length) {
    form.hidden = true;
    byId("answer").replaceChildren(element("p", {}, "No case has a number."));
    return;
  }
  const first = richest(data.curves);
  fill(model, data.curves.map((curve) => curve.model), first.model);
  lengthsOfModel();
  goal.value = usualGoal(here(), kind.value);
  byId("price-inputs").append(...priceInputs(data.curves, prices, answer));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => { if (event.target.form === form && !event.target.dataset.device) ask(event.target); });
  goal.addEventListener("input", settled(200, answer));
  ask(null);
};

/** The curve of the model and lengths that most curves are of. */
const richest = (curves) => {
  const number = new Map();
  const key = (curve) => `${curve.model} ${curve.input_len} ${curve.output_len}`;
  for (const curve of curves) number.set(key(curve), (number.get(key(curve)) ?? 0) + 1);
  return curves.reduce((best, one) => (number.get(key(one)) > number.get(key(best)) ? one : best));
};

/** A target in the middle of what the curves reach, to the next of 1, 2 and 5 times a power of ten. */
const usualGoal = (curves, kind) => {
  const reached = curves.flatMap((curve) => curve.samples.map(([batch, latency]) =>
    (kind === "latency" ? latency : batch * curve.output_len / latency))).sort((a, b) => a - b);
  const middle = reached[Math.floor(reached.length / 2)];
  const ten = 10 ** Math.floor(Math.log10(middle));
  const steps = [1, 2, 5, 10].map((step) => step * ten);
  const goal = kind === "latency" ? steps.find((step) => step >= middle) : steps.findLast((step) => step <= middle);
  return significant(goal, 1);
};

/** The target that was written; null for what is no number above zero. */
const wishOf = (kind, written) => {
  const number = /^\s*(\d+(\.\d*)?|\.\d+)\s*$/.test(written) ? Number(written) : 0;
  if (!(number > 0 && number < Infinity)) return null;
  return kind === "latency"
    ? { latency_s: number, output_tokens_per_s: null }
    : { latency_s: null, output_tokens_per_s: number };
};

/** A field a device; a price that is no number above zero counts as none. */
const priceInputs = (curves, prices, changed) => inOrder(curves.map((curve) => curve.device)).map((device) => {
  const take = (event) => {
    const number = Number(event.target.value.trim() || "0");
    const known = number > 0 && number < Infinity;
    if (known) prices[device] = number;
    else delete prices[device];
    event.target.setAttribute("aria-invalid", String(event.target.value.trim() !== "" && !known));
    changed();
  };
  const box = element("input", { inputmode: "decimal", size: 6, "data-device": device, oninput: take });
  return element("label", {}, element("span", {}, device), box);
});

const HEADINGS = ["hardware", "tokens/s", "latency s", "batch", "tokens/s a device", "$/M tokens", "engine", "source", "remarks"];

/** The answers as a table, and what stands between measured batches as rows that are marked so. */
const answersOf = (data, records, answers, wished) => {
  const met = answers.filter((one) => one.meets);
  const told = wished.latency_s === null
    ? `${significant(wished.output_tokens_per_s)} tokens/s`
    : `a latency of ${seconds(wished.latency_s)}`;
  const most = Math.max(...met.map((one) => one.best.output_tokens_per_s));
  const priced = met.some((one) => one.usd_per_million_output_tokens !== null);
  const names = shortNames(answers);
  const rows = answers.flatMap((one) => (one.meets
    ? [bestRow(data, records, one, most, names), one.interpolated && betweenRow(one)]
    : [missedRow(one, wished), one.interpolated && betweenRow(one)])).filter(Boolean);
  const headings = HEADINGS.map((name, i) => element("th", { scope: "col", class: i > 0 && i < 6 ? "number" : null }, name));
  const table = element("table", { class: priced ? "answers priced" : "answers" },
    element("caption", { class: "unseen" }, `Hardware for ${told}, the best first`),
    element("thead", {}, element("tr", {}, ...headings)), element("tbody", {}, ...rows));
  const verdict = met.length
    ? [element("strong", {}, met[0].hardware), ` at batch ${met[0].best.batch_size}: `,
      element("strong", {}, `${significant(met[0].best.output_tokens_per_s, 4)} tokens/s`), ` in ${seconds(met[0].best.latency_s)}. `,
      element("span", { class: "muted" }, `${met.length} of ${answers.length} meet ${told}.`)]
    : [`Nothing measured meets ${told}.`];
  return [element("p", { class: "verdict" }, ...verdict),
    element("div", { class: "scroller short", role: "region", "aria-label": "Answers", tabindex: "0" }, table)];
};

/** By whole labels: the hardware alone where no two answers share it, else what tells them apart. */
const shortNames = (answers) => {
  const forms = [(one) => one.hardware, (one) => `${one.hardware} ${one.engine}`, labelOf];
  const isClear = (form, one) => answers.filter((other) => form(other) === form(one)).length === 1;
  return new Map(answers.map((one) => [labelOf(one), (forms.find((form) => isClear(form, one)) ?? labelOf)(one)]));
};

const bestRow = (data, records, one, most, names) => {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${100 * one.best.output_tokens_per_s / most}%`;
  const open = () => records.open(data.cases[one.place]);
  const name = element("button", { type: "button", class: "link", "aria-haspopup": "dialog", onclick: open }, one.hardware);
  return answerRow("best", one, one.best, name, badge(one.source),
    one.dominated_by.length ? `dominated by ${one.dominated_by.map((name) => names.get(name)).join(", ")}` : "", bar);
};

const betweenRow = (one) =>
  answerRow("between", one, one.interpolated, one.hardware, badge("interpolated"), "not measured: between two batches");

const missedRow = (one, wished) => answerRow("missed", one, one.nearest, one.hardware, badge(one.source),
  wished.latency_s === null ? "misses it; its most tokens/s" : "misses it; its least latency");

const answerRow = (kind, one, at, name, source, remark, bar = null) => {
  const cost = kind === "best" ? one.usd_per_million_output_tokens : null;
  return element("tr", { class: kind },
    element("th", { scope: "row" }, name),
    element("td", { class: "number barred" }, bar, significant(at.output_tokens_per_s, 4)),
    number(significant(at.latency_s, 4)), number(String(at.batch_size)),
    number(significant(at.output_tokens_per_s / one.devices, 4)), number(cost === null ? "" : significant(cost)),
    element("td", {}, one.engine), element("td", {}, source), element("td", { class: "remark" }, remark));
};

const number = (text) => element("td", { class: "number" }, text);

const badge = (source) => element("span", { class: "badge", "data-source": source }, source);
