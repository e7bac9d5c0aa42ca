// The table as CSV and Markdown, and copying to the clipboard.

/** Raw values in SI units as RFC 4180; a quote before a name keeps a spreadsheet from reading it as a formula. */
const asCsv = (data, cases) => {
  const fields = data.fields.filter((field) => field.file);
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    return typeof value === "number" ? String(value) : quoted(/^[=+\-@\t\r]/.test(value) ? `'${value}` : value);
  };
  const rows = cases.map((record) => [record.id, ...fields.map((field) => record.value(field.name))].map(cell));
  return [["case", ...fields.map((field) => field.name)], ...rows].map((row) => `${row.join(",")}\r\n`).join("");
};

/** Text that Markdown shows literally, in tables too: code, unless it is a plain word. Mirrors ci/report/markdown.py. */
const escaped = (text) => {
  if (/^(?!www\.)[A-Za-z0-9]+([_.-][A-Za-z0-9]+)*$/.test(text)) return text;
  const line = text.replace(/(?! )[\p{C}\p{Z}]/gu, " ") || " ";
  const runs = (line.match(/`+/g) ?? []).map((run) => run.length);
  let length = 1;
  while (runs.includes(length)) length += 1;
  const fence = "`".repeat(length);
  const room = line.trim() !== "" && /^[` ]|[` ]$/.test(line) ? " " : "";
  return `${fence}${room}${line}${room}${fence}`.replaceAll("|", "\\|");
};

/** The columns of the table; numbers need no escaping. */
const asMarkdown = (fields, cases) => {
  const line = (cells) => `| ${cells.join(" | ")} |\n`;
  const cell = (field, text) => (field.numeric || text === "" ? text : escaped(text));
  return [
    line(fields.map(({ field }) => field.label)),
    line(fields.map(({ field }) => (field.numeric ? "---:" : "---"))),
    ...cases.map((record) => line(fields.map(({ field, place }) => cell(field, record.texts[place])))),
  ].join("");
};

/** Copy text by the clipboard API, else by a selection; returns whether it worked. */
const copied = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const box = element("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
    box.value = text;
    const focused = document.activeElement;
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    focused?.focus();
    return done;
  }
};
