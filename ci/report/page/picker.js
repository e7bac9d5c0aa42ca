// The question (a model, its lengths, a target) and the answer of each hardware that has a curve for it.

const makePicker = (data, records) => {
  const form = byId("question");
  const { model, input, output, kind, goal, estimate, rank } = form.elements;
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

  /** What is asked, with a message for each field that is not valid. */
  const read = () => {
    const wished = wishOf(kind.value, goal.value);
    const wrong = wished === null ? [[goal, `Write ${TARGETS[kind.value].unit} above zero, such as ${TARGETS[kind.value].usual}.`]] : [];
    if (!estimate.checked) return { wished, wrong };
    const lengths = ["any_input", "any_output"].map((name) => wholeNumbers(form.elements[name].value));
    const batches = wholeNumbers(form.elements.batches.value);
    for (const [i, name] of ["any_input", "any_output"].entries()) {
      if (lengths[i]?.length !== 1) wrong.push([form.elements[name], "Write a whole number of tokens above zero, such as 512."]);
    }
    if (batches === null) wrong.push([form.elements.batches, "Write whole numbers of sequences, such as 1, 8; or none for any."]);
    const [[any_input], [any_output]] = lengths.map((found) => found ?? []);
    return { wished: { ...wished, model: model.value, input: any_input, output: any_output, rank: rank.value, batches }, wrong };
  };

  const answer = () => {
    const { wished, wrong } = read();
    for (const field of form.querySelectorAll("[aria-describedby]")) {
      field.setAttribute("aria-invalid", String(wrong.some(([other]) => other === field)));
    }
    byId("question-error").textContent = wrong.map(([, message]) => message)[0] ?? "";
    const answers = () => (estimate.checked ? estimatesOf(data, records, wished, prices)
      : answersOf(data, records, pick(here(), wished, prices), wished));
    byId("answer").replaceChildren(...(wrong.length ? [] : answers()));
  };

  /** The fields of measured cases alone, or those of estimates too. */
  const showMode = () => {
    for (const node of form.querySelectorAll("[data-mode]")) node.hidden = (node.dataset.mode === "estimate") !== estimate.checked;
    const targets = Object.entries(TARGETS).filter(([, { measured }]) => measured || estimate.checked);
    const target = targets.some(([name]) => name === kind.value) ? kind.value : "latency";
    kind.replaceChildren(...targets.map(([value, { label }]) => element("option", { value }, label)));
    kind.value = target;
    const models = estimate.checked ? data.estimates.models.map(({ name }) => name) : data.curves.map((curve) => curve.model);
    fill(model, models, model.value || richest(data.curves).model);
    if (estimate.checked) [form.elements.any_input.value, form.elements.any_output.value] = [input.value, output.value];
  };

  const ask = (changed) => {
    if (changed === estimate) showMode();
    if (changed === estimate || changed === model) input.value = output.value = "";
    if ([estimate, model, input].includes(changed) && ofModel().length) lengthsOfModel();
    if (changed === kind || (changed === estimate && kind.value === "latency")) goal.value = usualGoal(here(), kind.value);
    if (changed === kind && kind.value === "fits") rank.value = "fewest";
    byId("goal-label").textContent = TARGETS[kind.value].short;
    goal.closest("label").hidden = kind.value === "fits";
    answer();
  };

  if (!data.curves.length) {
    form.hidden = true;
    byId("answer").replaceChildren(element("p", {}, "No case of one input length on an empty cache has a number."));
    return;
  }
  showMode();
  lengthsOfModel();
  goal.value = usualGoal(here(), kind.value);
  const measured = data.curves.map((curve) => curve.device);
  byId("price-inputs").append(...priceInputs(measured, data.estimates.hardware.map(({ name }) => name), prices, answer));
  showMode();
  form.addEventListener("submit", (event) => event.preventDefault());
  // what is typed is answered as it is typed; its change comes when the focus leaves, and would replace what is clicked on
  form.addEventListener("change", (event) => { if (event.target.matches("select, [type=checkbox]")) ask(event.target); });
  for (const field of [goal, ...form.querySelectorAll("input[data-mode], [data-mode] > input")]) {
    field.addEventListener("input", debounced(200, answer));
  }
  ask(null);
};

/** What can be asked for; without estimates only what is measured everywhere. */
const TARGETS = {
  latency: { label: "latency at most, s", short: "Latency, s", unit: "seconds", usual: "2", measured: true },
  throughput: { label: "output tokens/s at least", short: "Tokens/s", unit: "tokens/s", usual: "500", measured: true },
  ttft: { label: "time to first token at most, s", short: "TTFT, s", unit: "seconds", usual: "0.5", measured: false },
  tpot: { label: "time per output token at most, ms", short: "TPOT, ms", unit: "milliseconds", usual: "50", measured: false },
  fits: { label: "none: that it fits", short: "", unit: "", usual: "", measured: false },
};

/** Whole numbers above zero, separated by commas or spaces, rising; null for anything else. */
const wholeNumbers = (written) => {
  const words = written.split(/[\s,]+/).filter(Boolean);
  if (!words.every((word) => /^[1-9]\d{0,6}$/.test(word))) return null;
  return [...new Set(words.map(Number))].sort((a, b) => a - b);
};

/** A curve of the model and lengths that have the most curves. */
const richest = (curves) => {
  const number = new Map();
  const key = (curve) => `${curve.model} ${curve.input_len} ${curve.output_len}`;
  for (const curve of curves) number.set(key(curve), (number.get(key(curve)) ?? 0) + 1);
  return curves.reduce((best, curve) => (number.get(key(curve)) > number.get(key(best)) ? curve : best));
};

/** The median of what the curves reach, rounded to 1, 2 or 5 times a power of ten on its easier side. */
const usualGoal = (curves, kind) => {
  if (!curves.length || !TARGETS[kind].measured) return TARGETS[kind].usual;
  const reached = curves.flatMap((curve) => curve.samples.map(([batch, latency]) =>
    (kind === "latency" ? latency : batch * curve.output_len / latency))).sort((a, b) => a - b);
  const middle = reached[Math.floor(reached.length / 2)];
  const ten = 10 ** Math.floor(Math.log10(middle));
  const steps = [1, 2, 5, 10].map((step) => step * ten);
  const goal = kind === "latency" ? steps.find((step) => step >= middle) : steps.findLast((step) => step <= middle);
  return significant(goal, 1);
};

/** The target as typed; null unless it is a number above zero, or nothing is to be typed. */
const wishOf = (kind, written) => {
  const none = { latency_s: null, output_tokens_per_s: null, ttft_s: null, tpot_s: null };
  if (kind === "fits") return none;
  const number = /^\s*(\d+(\.\d*)?|\.\d+)\s*$/.test(written) ? Number(written) : 0;
  if (!(number > 0 && number < Infinity)) return null;
  const field = { latency: "latency_s", throughput: "output_tokens_per_s", ttft: "ttft_s", tpot: "tpot_s" }[kind];
  return { ...none, [field]: kind === "tpot" ? number / 1000 : number };
};

/** A price field per device; anything but a number above zero counts as no price. Only estimates are of the others. */
const priceInputs = (measured, others, prices, changed) => inOrder([...measured, ...others]).map((device) => {
  const take = (event) => {
    const number = Number(event.target.value.trim() || "0");
    const valid = number > 0 && number < Infinity;
    if (valid) prices[device] = number;
    else delete prices[device];
    event.target.setAttribute("aria-invalid", String(event.target.value.trim() !== "" && !valid));
    changed();
  };
  const box = element("input", { inputmode: "decimal", size: 6, "data-device": device, oninput: take });
  return element("label", { "data-mode": measured.includes(device) ? null : "estimate" }, element("span", {}, device), box);
});

const HEADINGS = ["hardware", "tokens/s", "latency s", "batch", "tokens/s per device", "$/M tokens", "engine", "source", "remarks"];

/** The answers as a table; interpolated batches are rows marked as such. */
const answersOf = (data, records, answers, target) => {
  const met = answers.filter((answer) => answer.meets);
  const goal = askedFor(target);
  const most = Math.max(...met.map((answer) => answer.best.output_tokens_per_s));
  const priced = met.some((answer) => answer.usd_per_million_output_tokens !== null);
  const names = shortNames(answers);
  const rows = answers.flatMap((answer) => (answer.meets
    ? [bestRow(data, records, answer, most, names), answer.interpolated && betweenRow(answer)]
    : [missedRow(answer, target), answer.interpolated && betweenRow(answer)])).filter(Boolean);
  const headings = HEADINGS.map((name, i) => element("th", { scope: "col", class: i > 0 && i < 6 ? "number" : null }, name));
  const table = element("table", { class: priced ? "answers priced" : "answers" },
    element("caption", { class: "unseen" }, `Hardware for ${goal}, the best first`),
    element("thead", {}, element("tr", {}, ...headings)), element("tbody", {}, ...rows));
  const verdict = met.length
    ? [element("strong", {}, met[0].hardware), ` at batch ${met[0].best.batch_size}: `,
      element("strong", {}, `${significant(met[0].best.output_tokens_per_s, 4)} tokens/s`), ` in ${seconds(met[0].best.latency_s)}. `,
      element("span", { class: "muted" }, `${met.length} of ${answers.length} meet ${goal}.`)]
    : [`Nothing measured meets ${goal}.`];
  return [element("p", { class: "verdict" }, ...verdict),
    element("div", { class: "scroller short", role: "region", "aria-label": "Answers", tabindex: "0" }, table)];
};

/** The shortest name of each label that no other answer shares: hardware, with engine, or the whole label. */
const shortNames = (answers) => {
  const forms = [(answer) => answer.hardware, (answer) => `${answer.hardware} ${answer.engine}`, labelOf];
  const isClear = (form, answer) => answers.filter((other) => form(other) === form(answer)).length === 1;
  return new Map(answers.map((answer) => [labelOf(answer), (forms.find((form) => isClear(form, answer)) ?? labelOf)(answer)]));
};

const bestRow = (data, records, answer, most, names) => {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${100 * answer.best.output_tokens_per_s / most}%`;
  const open = () => records.open(data.cases[answer.place]);
  const name = element("button", { type: "button", class: "link", "aria-haspopup": "dialog", onclick: open }, answer.hardware);
  return answerRow("best", answer, answer.best, name, badge(answer.source),
    answer.dominated_by.length ? `dominated by ${answer.dominated_by.map((name) => names.get(name)).join(", ")}` : "", bar);
};

const betweenRow = (answer) =>
  answerRow("between", answer, answer.interpolated, answer.hardware, badge("interpolated"), "not measured: between two batches");

const missedRow = (answer, target) => answerRow("missed", answer, answer.nearest, answer.hardware, badge(answer.source),
  target.latency_s === null ? "misses it; its most tokens/s" : "misses it; its least latency");

const answerRow = (kind, answer, at, name, source, remark, bar = null) => {
  const cost = kind === "best" ? answer.usd_per_million_output_tokens : null;
  return element("tr", { class: kind },
    element("th", { scope: "row" }, name),
    element("td", { class: "number barred" }, bar, significant(at.output_tokens_per_s, 4)),
    number(significant(at.latency_s, 4)), number(String(at.batch_size)),
    number(significant(at.output_tokens_per_s / answer.devices, 4)), number(cost === null ? "" : significant(cost)),
    element("td", {}, answer.engine), element("td", {}, source), element("td", { class: "remark" }, remark));
};

const number = (text) => element("td", { class: "number" }, text);

const badge = (source) => element("span", { class: "badge", "data-source": source }, source);
