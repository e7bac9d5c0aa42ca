// Elements are made here, of text alone: what a history says is shown as it stands and never read as markup.

const byId = (id) => document.getElementById(id);

/** An element with its attributes (`on...` are listeners; true is an empty one, null none) and its children. */
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
};

/** Say what became of something, also to a screen reader that was told the same before. */
const say = (place, text) => {
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
};

/** Call it once, when it has not been asked for again for so many milliseconds. */
const settled = (milliseconds, call) => {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds);
  };
};

// Vega clears an element by an empty text; no other text may become markup anywhere in this page.
if (window.trustedTypes?.createPolicy) {
  trustedTypes.createPolicy("default", { createHTML: (text) => (text === "" ? "" : null) });
}
