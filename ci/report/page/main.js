// What comes first: unpack the data, then make the parts and let the filters tell them what is chosen.

const start = async () => {
  const data = await unpacked();
  const number = (source) => data.cases.filter((one) => one.source === source).length;
  const sources = inOrder(data.cases.map((one) => one.source)).map((source) => `${number(source)} ${source}`);
  const ranOut = data.cases.filter((one) => one.value("latency_mean_s") === null).length;
  byId("summary").textContent = `${counted(data.cases.length, "case")} (${sources.join(", ")}${ranOut ? `; ${ranOut} ran out of memory` : ""}) of ${counted(data.runs, "run")}`
    + (data.newest ? `, the newest of ${data.newest.slice(0, 10)}` : "");
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
