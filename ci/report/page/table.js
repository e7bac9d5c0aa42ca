// The cases as a table: sorted by any column, some hundred rows at first, copied as a whole.

const ROWS = 150;

const makeTable = (data, records) => {
  const table = byId("table");
  const fields = data.fields.map((field, place) => ({ field, place }))
    .filter(({ field, place }) => field.table && data.cases.some((one) => one.texts[place]));
  let [chosen, sorted, by, descending, all] = [[], [], null, false, false];

  const order = () => {
    sorted = [...chosen];
    if (by === null) return;
    const { field, place } = by;
    const value = (one) => (field.numeric ? one.value(field.name) : one.texts[place] || null);
    const compare = (a, b) => (field.numeric ? a - b : collator.compare(a, b));
    sorted.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null); // what is not known comes last either way
      return descending ? compare(b, a) : compare(a, b);
    });
  };

  const rowOf = (one) => element("tr", {}, ...fields.map(({ field, place }, i) => {
    if (i === 0) {
      const open = element("button", { type: "button", class: "link", "aria-label": `Record of ${one.id}`, onclick: () => records.open(one) },
        one.texts[place]);
      return element("th", { scope: "row" }, open);
    }
    const text = one.texts[place];
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

  const headings = fields.map((one) => {
    const sort = () => {
      [by, descending] = by === one ? (descending ? [null, false] : [one, true]) : [one, false];
      for (const [i, heading] of headings.entries()) {
        heading.setAttribute("aria-sort", by !== fields[i] ? "none" : descending ? "descending" : "ascending");
      }
      order();
      show();
    };
    return element("th", { scope: "col", "aria-sort": "none", class: one.field.numeric ? "number" : null },
      element("button", { type: "button", class: "sort", onclick: sort }, one.field.label));
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
    say(byId("said"), done ? `${counted(sorted.length, "row")} copied as ${what}.` : "The browser did not let it be copied.");
  };
  byId("copy-csv").addEventListener("click", () => copy("CSV", asCsv(data, sorted)));
  byId("copy-markdown").addEventListener("click", () => copy("Markdown", asMarkdown(fields, sorted)));

  return (cases) => {
    chosen = cases;
    order();
    show();
  };
};
