// The figures, each drawn when it comes into sight, out of the chosen cases; their marks tell their records.

const makeFigures = (data, records) => {
  const figures = data.figures.map((one) => makeFigure(data, records, one));
  const kinds = [...new Set(figures.map((one) => one.kind))].map((kind, i) => makeKind(`kind-${i}`, figures.filter((one) => one.kind === kind)));
  byId("kinds").append(...kinds.map((one) => one.link));
  byId("drawings").append(...kinds.map((one) => one.made));
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
    for (const one of kinds) one.describe();
    redraw();
    return figures.filter((one) => !one.made.hidden).length;
  };
};

/** The figures of a kind under what their titles begin with, and the link that leads there. */
const makeKind = (id, figures) => {
  const name = figures[0].title.split(":")[0];
  const number = element("small", {}, "");
  const link = element("a", { href: `#${id}` }, name, " ", number);
  const made = element("section", { id, class: "kind", "aria-labelledby": `${id}-heading` }, element("h3", { id: `${id}-heading` }, name),
    element("div", { class: "drawings" }, ...figures.map((one) => one.made)));
  const describe = () => {
    const left = figures.filter((one) => !one.made.hidden).length;
    number.textContent = String(left);
    made.hidden = link.hidden = left === 0;
  };
  return { made, link, describe };
};

const makeFigure = (data, records, { kind, name, title, spec }) => {
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
    kind,
    title,
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
      place.style.minHeight = `${place.clientHeight}px`; // nothing below jumps while it is drawn again
      records.hide();
      view = (await vegaEmbed(place, { ...drawable(spec, place.clientWidth, keep), description }, options)).view;
      place.style.minHeight = "";
      marks.refresh();
    },
  };
  return figure;
};
