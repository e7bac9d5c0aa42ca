// The marks of a figure that are cases: each tells its record, by pointer and by keyboard.

const NEAR = 26; // pixels from a mark that count as on it
// what a point has that stands in the record of its case
const TOLD = new Set(["source", "batch_size", "output_len", "tokens_per_s", "latency_ms", "low_ms", "high_ms"]);
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/** Listens in the place of a drawing; `refresh` is for each time that it was drawn. */
const makeMarks = (data, records, place) => {
  let marks = [];
  let current = null;

  const rowOf = (mark) => mark.__data__.datum; // Vega leaves there what a mark was drawn from
  const caseOf = (mark) => data.caseOf(rowOf(mark).case, rowOf(mark).source) ?? { id: String(rowOf(mark).case) };
  /** What stands in no record: all of a point that is not the case's own number, such as a prediction. */
  const extraOf = (mark) => Object.entries(rowOf(mark))
    .filter(([key, value]) => key !== "case" && key !== "series" && !key.startsWith("_") && value !== null && typeof value !== "object")
    .filter(([key]) => !TOLD.has(key) || caseOf(mark).source !== rowOf(mark).source)
    .map(([key, value]) => [key.replaceAll("_", " "), typeof value === "number" ? significant(value, 4) : String(value)]);
  const labelOf = (mark) => {
    const [one, extra] = [caseOf(mark), extraOf(mark)];
    return [one.source === rowOf(mark).source ? spoken(one) : one.id, ...extra.map((pair) => pair.join(" "))].join(", ");
  };
  const open = (mark) => records.open(caseOf(mark), extraOf(mark));

  const on = (mark) => {
    if (mark === current && mark === records.shownFor()) return;
    current?.classList.remove("current");
    current = mark;
    if (mark === null) records.hide();
    else {
      mark.classList.add("current");
      records.show(caseOf(mark), extraOf(mark), mark);
    }
  };

  const refresh = () => {
    current = null;
    marks = [...place.querySelectorAll("svg path, svg rect")].filter((mark) =>
      ["symbol", "rect"].includes(mark.__data__?.mark?.marktype) && mark.__data__.datum?.case !== undefined);
    marks.forEach((mark, i) => {
      mark.classList.add("mark");
      mark.setAttribute("tabindex", i === 0 ? "0" : "-1");
      mark.setAttribute("role", "button");
      mark.removeAttribute("aria-roledescription");
      mark.setAttribute("aria-label", labelOf(mark));
    });
  };

  const move = (mark, step) => {
    const to = marks[Math.max(0, Math.min(marks.length - 1, marks.indexOf(mark) + step))];
    mark.setAttribute("tabindex", "-1");
    to.setAttribute("tabindex", "0");
    to.focus();
  };

  place.addEventListener("keydown", (event) => {
    if (!marks.includes(event.target)) return;
    if (event.key === "Escape") on(null);
    else if (event.key in STEPS) move(event.target, STEPS[event.key]);
    else if (event.key === "Enter" || event.key === " ") open(event.target);
    else return;
    event.preventDefault();
  });
  place.addEventListener("focusin", (event) => { if (marks.includes(event.target)) on(event.target); });
  place.addEventListener("focusout", () => on(null));
  place.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") on(nearest(marks, event)); });
  place.addEventListener("pointerleave", () => on(null));
  place.addEventListener("click", (event) => {
    const mark = nearest(marks, event);
    if (mark !== null) open(mark);
  });
  return { refresh };
};

/** The mark next to the pointer, null where none is near. */
const nearest = (marks, { clientX, clientY }) => {
  let [found, least] = [null, NEAR];
  for (const mark of marks) {
    const { left, right, top, bottom } = mark.getBoundingClientRect();
    const away = Math.hypot(clientX - (left + right) / 2, clientY - (top + bottom) / 2);
    if (away < least) [found, least] = [mark, away];
  }
  return found;
};
