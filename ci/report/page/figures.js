// The figures, each drawn when it comes into sight, out of the chosen cases; their marks tell their records.

const makeFigures = (data, records) => {
  const figures = data.figures.map((one) => makeFigure(data, records, one));
  byId("drawings").append(...figures.map((one) => one.made));
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const figure = figures.find((one) => one.made === target);
      figure.seen = isIntersecting;
      if (isIntersecting) figure.draw();
    }
  }, { rootMargin: "300px" });
  for (const one of figures) sight.observe(one.made);

  const redraw = () => {
    for (const one of figures) one.stale = true;
    for (const one of figures) if (one.seen) one.draw();
  };
  let width = innerWidth;
  addEventListener("resize", settled(150, () => { if (innerWidth !== width) { width = innerWidth; redraw(); } }));
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => { for (const one of figures) one.draw(); });

  /** Show what these cases have; how many figures that leaves. */
  return (chosen) => {
    const keys = new Set(chosen);
    const keep = (row) => row.case === undefined || keys.has(data.caseOf(row.case, row.source)) || !data.caseOf(row.case, row.source);
    for (const one of figures) one.choose(keep);
    byId("no-figures").hidden = figures.some((one) => !one.made.hidden);
    redraw();
    return figures.filter((one) => !one.made.hidden).length;
  };
};

const makeFigure = (data, records, { name, title, spec }) => {
  const place = element("div", { class: "drawing" });
  const marks = makeMarks(data, records, place);
  const notes = [spec.title?.subtitle ?? []].flat();
  const made = element("figure", { id: `figure-${name}` },
    element("figcaption", {}, title, ...notes.map((note) => element("span", { class: "note muted" }, note))), place);
  const rows = Object.values(spec.datasets ?? {}).flat();
  let keep = () => true;
  let view = null;
  const figure = {
    made,
    seen: false,
    stale: true,
    choose: (kept) => {
      keep = kept;
      made.hidden = rows.some((row) => row.case !== undefined) && !rows.some((row) => row.case !== undefined && keep(row));
    },
    draw: async () => {
      if (!figure.stale || made.hidden || !place.clientWidth) return;
      figure.stale = false;
      const description = `${title}. ${counted(rows.filter((row) => row.case !== undefined && keep(row)).length, "point")}.`;
      const options = { mode: "vega-lite", ast: true, actions: false, defaultStyle: false, renderer: "svg", tooltip: () => {} };
      view?.finalize();
      records.hide();
      view = (await vegaEmbed(place, { ...drawable(spec, place.clientWidth, keep), description }, options)).view;
      marks.refresh();
    },
  };
  return figure;
};
