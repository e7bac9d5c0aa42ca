// Draws each figure of the chosen cases when it comes into sight.

const makeFigures = (data, records) => {
  const figures = data.figures.map((drawing) => makeFigure(data, records, drawing));
  const kinds = [...new Set(figures.map((figure) => figure.kind))].map((kind, i) => makeKind(`kind-${i}`, figures.filter((figure) => figure.kind === kind)));
  byId("kinds").append(...kinds.map((kind) => kind.link));
  byId("drawings").append(...kinds.map((kind) => kind.node));
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const figure = figures.find((figure) => figure.node === target);
      figure.seen = isIntersecting;
      if (isIntersecting) figure.draw();
    }
  }, { rootMargin: "300px" });
  for (const figure of figures) sight.observe(figure.node);

  const redraw = () => {
    for (const figure of figures) figure.stale = true;
    for (const figure of figures) if (figure.seen) figure.draw();
  };
  let width = innerWidth;
  addEventListener("resize", debounced(150, () => { if (innerWidth !== width) { width = innerWidth; redraw(); } }));
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => { for (const figure of figures) figure.draw(); });

  /** Show these cases; returns the number of figures that have some. */
  return (chosen) => {
    const keys = new Set(chosen);
    const keep = (row) => row.case === undefined || keys.has(data.caseOf(row.case, row.source)) || !data.caseOf(row.case, row.source);
    for (const figure of figures) figure.choose(keep);
    byId("no-figures").hidden = figures.some((figure) => !figure.node.hidden);
    for (const kind of kinds) kind.describe();
    redraw();
    return figures.filter((figure) => !figure.node.hidden).length;
  };
};

/** The section of one kind, headed by the common start of its titles, and the link to it. */
const makeKind = (id, figures) => {
  const name = figures[0].title.split(":")[0];
  const number = element("small", {}, "");
  const link = element("a", { href: `#${id}` }, name, " ", number);
  const node = element("section", { id, class: "kind", "aria-labelledby": `${id}-heading` }, element("h3", { id: `${id}-heading` }, name),
    element("div", { class: "drawings" }, ...figures.map((figure) => figure.node)));
  const describe = () => {
    const left = figures.filter((figure) => !figure.node.hidden).length;
    number.textContent = String(left);
    node.hidden = link.hidden = left === 0;
  };
  return { node, link, describe };
};

const makeFigure = (data, records, { kind, name, title, spec }) => {
  const place = element("div", { class: "drawing" });
  const marks = makeMarks(data, records, place);
  const notes = [spec.title?.subtitle ?? []].flat();
  const node = element("figure", { id: `figure-${name}` },
    element("figcaption", {}, title, ...notes.map((note) => element("span", { class: "note muted" }, note))), place);
  const rows = Object.values(spec.datasets ?? {}).flat();
  let keep = () => true;
  let view = null;
  const figure = {
    node,
    kind,
    title,
    seen: false,
    stale: true,
    choose: (isChosen) => {
      const kept = new Set(rows.filter((row) => row.case !== undefined && isChosen(row)).map((row) => row.series));
      // a curve's bound and estimate go with its points
      keep = (row) => (row.case === undefined && row.series ? kept.has(row.series) : isChosen(row));
      node.hidden = rows.some((row) => row.case !== undefined) && !kept.size;
    },
    draw: async () => {
      if (!figure.stale || node.hidden || !place.clientWidth) return;
      figure.stale = false;
      const description = `${title}. ${counted(rows.filter((row) => row.case !== undefined && keep(row)).length, "point")}.`;
      const options = { mode: "vega-lite", ast: true, actions: false, defaultStyle: false, renderer: "svg", tooltip: () => {} };
      view?.finalize();
      place.style.minHeight = `${place.clientHeight}px`; // keeps what is below in place while it redraws
      records.hide();
      view = (await vegaEmbed(place, { ...drawable(spec, place.clientWidth, keep), description }, options)).view;
      place.style.minHeight = "";
      marks.refresh();
    },
  };
  return figure;
};
