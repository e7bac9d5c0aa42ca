// The rows of the table as text for other programs, and the way to the clipboard.

/** Raw values in SI units, RFC 4180; a name that a spreadsheet would take for a formula gets a quote before it. */
const asCsv = (data, cases) => {
  const fields = data.fields.filter((field) => field.file);
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    return typeof value === "number" ? String(value) : quoted(/^[=+\-@\t\r]/.test(value) ? `'${value}` : value);
  };
  const rows = cases.map((one) => [one.id, ...fields.map((field) => one.value(field.name))].map(cell));
  return [["case", ...fields.map((field) => field.name)], ...rows].map((row) => `${row.join(",")}\r\n`).join("");
};

/** Text that Markdown shows as it stands, in a table too: what could be more than a word is code. As ci/report/markdown.py. */
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

/** What the table shows; numbers need no care. */
const asMarkdown = (fields, cases) => {
  const line = (cells) => `| ${cells.join(" | ")} |\n`;
  const cell = (field, text) => (field.numeric || text === "" ? text : escaped(text));
  return [
    line(fields.map(({ field }) => field.label)),
    line(fields.map(({ field }) => (field.numeric ? "---:" : "---"))),
    ...cases.map((one) => line(fields.map(({ field, place }) => cell(field, one.texts[place])))),
  ].join("");
};

/** Whether the text is on the clipboard now: by the browser's interface for it, else as a selection is copied. */
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
