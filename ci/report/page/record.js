// The whole record of a case: beside the pointer while it is on a mark, and in a dialog that stays.

const makeRecords = (data) => {
  const dialog = byId("record");
  const hover = byId("hover");
  byId("record-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  /** `extra` are fields of a figure's point that no record has. */
  const open = (one, extra = []) => {
    hide();
    byId("record-heading").textContent = one.id;
    byId("record-body").replaceChildren(...groupsOf(data, one, extra));
    dialog.showModal();
    byId("record-body").scrollTop = 0;
  };

  let beside = null;

  /** Next to an element, inside the window. */
  const show = (one, extra, mark) => {
    hover.replaceChildren(element("strong", {}, one.id), element("div", { class: "record" }, ...groupsOf(data, one, extra)));
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

  // The mark that has the focus keeps its record when it is scrolled into sight; the pointer is elsewhere then.
  addEventListener("scroll", () => {
    if (beside !== null && beside === document.activeElement) lay();
    else hide();
  }, { passive: true });
  const shownFor = () => beside;
  return { open, show, hide, shownFor };
};

/** A list of terms a group; what is not known is left out. */
const groupsOf = (data, one, extra) => {
  const groups = new Map();
  if (extra.length) groups.set("this point", extra);
  data.fields.forEach((field, place) => {
    const text = one.texts?.[place];
    if (!text || !field.label) return;
    if (!groups.has(field.group)) groups.set(field.group, []);
    groups.get(field.group).push([field.label, text]);
  });
  return [...groups].map(([name, pairs]) => element("section", {}, element("h3", {}, name),
    element("dl", {}, ...pairs.map(([label, text]) => element("div", {}, element("dt", {}, label), element("dd", {}, text))))));
};

/** One line for a screen reader. */
const spoken = (one) => {
  const latency = one.value?.("latency_mean_s");
  if (latency === undefined) return one.id;
  if (latency === null) return `${one.id}: out of memory, ${one.source}`;
  return `${one.id}: ${seconds(latency)}, ${significant(one.value("output_tokens_per_s"))} tokens/s, ${one.source}`;
};
