// Start here: unpack the data, make the parts; the filters tell them the chosen cases.

const start = async () => {
  const data = await unpacked();
  const timed = data.cases.filter((record) => record.value("latency_mean_s") !== null);
  const number = (source) => timed.filter((record) => record.source === source).length;
  const parts = inOrder(timed.map((record) => record.source)).map((source) => `${number(source).toLocaleString("en")} ${source}`);
  if (timed.length < data.cases.length) parts.push(`${data.cases.length - timed.length} out of memory`);
  byId("summary").textContent = `${counted(data.cases.length, "case")} of ${counted(data.runs, "run")}: ${parts.join(", ")}`
    + (data.newest ? `. Newest: ${data.newest.slice(0, 10)}` : "");
  byId("term-list").append(...data.terms.map(({ name, What, Formula, Unit }) => element("div", {}, element("dt", {}, name),
    element("dd", {}, What.replaceAll("`", "")), element("dd", {}, element("code", {}, `${Formula}, in ${Unit}`)))));

  const records = makeRecords(data);
  const showCases = makeTable(data, records);
  const showFigures = makeFigures(data, records);
  makePicker(data, records);
  makeFilters(data, (chosen) => {
    showCases(chosen);
    const figures = showFigures(chosen);
    byId("count").textContent =
      `${chosen.length} of ${counted(data.cases.length, "case")}, ${figures} of ${counted(data.figures.length, "figure")}`;
  });
  window.benchmarks = Object.freeze({ data, pick, look }); // for the browser's console
  document.documentElement.dataset.ready = "yes";
};

start().catch((error) => {
  byId("failure").textContent = `This page cannot be shown: ${error.message}.`;
  byId("failure").hidden = false;
  throw error;
});
