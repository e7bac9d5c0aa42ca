// The whole record of a case: next to a mark while the pointer is on it, and in a dialog.

const makeRecords = (data) => {
  const dialog = byId("record");
  const hover = byId("hover");
  byId("record-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  /** Open the dialog; `extra` are fields of a figure's point that the record lacks. */
  const open = (record, extra = []) => {
    hide();
    byId("record-heading").textContent = record.id;
    byId("record-body").replaceChildren(...groupsOf(data, record, extra));
    dialog.showModal();
    byId("record-body").scrollTop = 0;
  };

  let beside = null;

  /** Show the record next to a mark, inside the window. */
  const show = (record, extra, mark) => {
    hover.replaceChildren(element("strong", {}, record.id), element("div", { class: "record" }, ...groupsOf(data, record, extra)));
    hover.hidden = false;
    beside = mark;
    lay();
  };

  const lay = () => {
    const { left, right, top } = beside.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = hover;
    const wished = right + 14 + width < innerWidth ? right + 14 : left - 14 - width;
    hover.style.left = `${Math.max(6, Math.min(wished, innerWidth - width - 6))}px`;
    hover.style.top = `${Math.max(6, Math.min(top - height / 3, innerHeight - height - 6))}px`;
  };

  const hide = () => {
    hover.hidden = true;
    beside = null;
  };

  // A focused mark keeps its record when it scrolls into sight; the pointer is elsewhere then.
  addEventListener("scroll", () => {
    if (beside !== null && beside === document.activeElement) lay();
    else hide();
  }, { passive: true });
  const shownFor = () => beside;
  return { open, show, hide, shownFor };
};

/** One list of terms per group, without unknown values. */
const groupsOf = (data, record, extra) => {
  const groups = new Map();
  if (extra.length) groups.set("this point", extra);
  data.fields.forEach((field, place) => {
    const text = record.texts?.[place];
    if (!text || !field.label) return;
    if (!groups.has(field.group)) groups.set(field.group, []);
    groups.get(field.group).push([field.label, text]);
  });
  return [...groups].map(([name, pairs]) => element("section", {}, element("h3", {}, name),
    element("dl", {}, ...pairs.map(([label, text]) => element("div", {}, element("dt", {}, label), element("dd", {}, text))))));
};

/** The record in one line, for a screen reader. */
const spoken = (record) => {
  const latency = record.value?.("latency_mean_s");
  if (latency === undefined) return record.id;
  if (latency === null) return `${record.id}: out of memory, ${record.source}`;
  return `${record.id}: ${seconds(latency)}, ${significant(record.value("output_tokens_per_s"))} tokens/s, ${record.source}`;
};
