// What comes first: unpack the data, then make the parts and let the filters tell them what is chosen.

const start = async () => {
  const data = await unpacked();
  const told = data.cases.filter((one) => one.value("latency_mean_s") !== null);
  const number = (source) => told.filter((one) => one.source === source).length;
  const parts = inOrder(told.map((one) => one.source)).map((source) => `${number(source).toLocaleString("en")} ${source}`);
  if (told.length < data.cases.length) parts.push(`${data.cases.length - told.length} out of memory`);
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
  window.benchmarks = Object.freeze({ data, pick });  // for the browser's console
  document.documentElement.dataset.ready = "yes";
};

start().catch((error) => {
  byId("failure").textContent = `This page could not be built: ${error.message}.`;
  byId("failure").hidden = false;
  throw error;
});
