// The table of cases: sorts by any column, shows the first rows until asked for all, copies all.

const ROWS = 150;

const makeTable = (data, records) => {
  const table = byId("table");
  const fields = data.fields.map((field, place) => ({ field, place }))
    .filter(({ field, place }) => field.table && data.cases.some((record) => record.texts[place]));
  let [chosen, sorted, by, descending, all] = [[], [], null, false, false];

  const order = () => {
    sorted = [...chosen];
    if (by === null) return;
    const { field, place } = by;
    const value = (record) => (field.numeric ? record.value(field.name) : record.texts[place] || null);
    const compare = (a, b) => (field.numeric ? a - b : collator.compare(a, b));
    sorted.sort((left, right) => {
      const [a, b] = [value(left), value(right)];
      if (a === null || b === null) return (a === null) - (b === null); // unknown values come last either way
      return descending ? compare(b, a) : compare(a, b);
    });
  };

  const rowOf = (record) => element("tr", {}, ...fields.map(({ field, place }, i) => {
    if (i === 0) {
      const open = element("button", { type: "button", class: "link", "aria-label": `Record of ${record.id}`, onclick: () => records.open(record) },
        record.texts[place]);
      return element("th", { scope: "row" }, open);
    }
    const text = record.texts[place];
    return element("td", { class: field.numeric ? "number" : null }, field.name === "source" ? badge(text) : text);
  }));

  const show = () => {
    const shown = all ? sorted : sorted.slice(0, ROWS);
    table.tBodies[0].replaceChildren(...shown.map(rowOf));
    byId("more").hidden = shown.length === sorted.length;
    byId("more").textContent = `Show all ${counted(sorted.length, "row")}`;
    table.caption.textContent = `Cases, ${shown.length} of ${counted(sorted.length, "row")}`
      + (by === null ? "" : `, sorted by ${by.field.label}, ${descending ? "descending" : "ascending"}`);
  };

  const headings = fields.map((column) => {
    const sort = () => {
      [by, descending] = by === column ? (descending ? [null, false] : [column, true]) : [column, false];
      for (const [i, heading] of headings.entries()) {
        heading.setAttribute("aria-sort", by !== fields[i] ? "none" : descending ? "descending" : "ascending");
      }
      order();
      show();
    };
    return element("th", { scope: "col", "aria-sort": "none", class: column.field.numeric ? "number" : null },
      element("button", { type: "button", class: "sort", onclick: sort }, column.field.label));
  });
  table.tHead.append(element("tr", {}, ...headings));

  byId("more").addEventListener("click", () => {
    all = true;
    const first = table.tBodies[0].rows.length;
    show();
    table.tBodies[0].rows[first]?.querySelector("button").focus();
  });
  const copy = async (what, text) => {
    const done = await copied(text);
    say(byId("copy-status"), done ? `${counted(sorted.length, "row")} copied as ${what}.` : "The browser refused to copy.");
  };
  byId("copy-csv").addEventListener("click", () => copy("CSV", asCsv(data, sorted)));
  byId("copy-markdown").addEventListener("click", () => copy("Markdown", asMarkdown(fields, sorted)));

  return (cases) => {
    chosen = cases;
    order();
    show();
  };
};
