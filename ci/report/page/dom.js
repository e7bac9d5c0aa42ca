// Makes elements from text alone: the page shows a history's text literally, never as markup.

const byId = (id) => document.getElementById(id);

/** An element with attributes (`on...`: listeners; true: empty; null or false: left out) and children. */
const element = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
};

/** Show a status line; a screen reader reads a repeated text again. */
const say = (place, text) => {
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
};

/** Debounced: calls once, `milliseconds` after the last request. */
const debounced = (milliseconds, call) => {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds);
  };
};

// Vega clears elements with an empty text; no other text may become markup.
if (window.trustedTypes?.createPolicy) {
  trustedTypes.createPolicy("default", { createHTML: (text) => (text === "" ? "" : null) });
}
