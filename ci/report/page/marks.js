// The marks of a figure's cases: pointer and keyboard open their records.

const NEAR = 26; // pixels around a mark that count as on it
// fields of a point that its case's record shows too
const TOLD = new Set(["source", "batch_size", "output_len", "tokens_per_s", "latency_ms", "low_ms", "high_ms"]);
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/** Listens on the drawing in `place`; call `refresh` after each drawing. */
const makeMarks = (data, records, place) => {
  let marks = [];
  let current = null;

  const rowOf = (mark) => mark.__data__.datum; // Vega keeps the row of a mark there
  const caseOf = (mark) => data.caseOf(rowOf(mark).case, rowOf(mark).source) ?? { id: String(rowOf(mark).case) };
  /** What the record lacks: fields of the point that are not the case's own, such as a prediction. */
  const extraOf = (mark) => Object.entries(rowOf(mark))
    .filter(([key, value]) => key !== "case" && key !== "series" && !key.startsWith("_") && value !== null && typeof value !== "object")
    .filter(([key]) => !TOLD.has(key) || caseOf(mark).source !== rowOf(mark).source)
    .map(([key, value]) => [key.replaceAll("_", " "), typeof value === "number" ? significant(value, 4) : String(value)]);
  const labelOf = (mark) => {
    const [record, extra] = [caseOf(mark), extraOf(mark)];
    return [record.source === rowOf(mark).source ? spoken(record) : record.id, ...extra.map((pair) => pair.join(" "))].join(", ");
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

/** The mark nearest to the pointer; null if none is near. */
const nearest = (marks, { clientX, clientY }) => {
  let [closest, least] = [null, NEAR];
  for (const mark of marks) {
    const { left, right, top, bottom } = mark.getBoundingClientRect();
    const distance = Math.hypot(clientX - (left + right) / 2, clientY - (top + bottom) / 2);
    if (distance < least) [closest, least] = [mark, distance];
  }
  return closest;
};
