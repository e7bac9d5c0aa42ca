// Filters the cases: by facet, any of the ticked values (none ticked: all), and by a text in the id.

const makeFilters = (data, changed) => {
  const ticked = Object.fromEntries(data.facets.map((facet) => [facet, new Set()]));
  const menus = data.facets.map((facet) => facetMenu(facet, data.cases, ticked[facet], () => update()));
  const find = byId("find");
  let text = "";

  const passes = (record) =>
    record.id.toLowerCase().includes(text) &&
    data.facets.every((facet) => !ticked[facet].size || ticked[facet].has(record.facets[facet]));

  const update = () => {
    text = find.value.trim().toLowerCase();
    for (const menu of menus) menu.describe();
    byId("reset").hidden = !text && data.facets.every((facet) => !ticked[facet].size);
    changed(data.cases.filter(passes));
  };

  const reset = () => {
    find.value = "";
    for (const menu of menus) menu.clear();
    update();
    find.focus();
  };

  byId("facets").append(...menus.map((menu) => menu.node));
  find.addEventListener("input", debounced(120, update));
  byId("reset").addEventListener("click", reset);
  closeMenus();
  update();
};

const facetMenu = (facet, cases, ticked, update) => {
  const summary = element("summary", {}, facet);
  const boxes = inOrder(cases.map((record) => record.facets[facet])).map((name) => {
    const number = cases.filter((record) => record.facets[facet] === name).length;
    const tick = (event) => {
      if (event.target.checked) ticked.add(name);
      else ticked.delete(name);
      update();
    };
    const box = element("input", { type: "checkbox", value: name, onchange: tick });
    return element("label", {}, box, element("span", {}, name), element("small", { class: "muted" }, String(number)));
  });
  const node = element("details", { class: "facet", "data-facet": facet }, summary,
    element("fieldset", { class: "menu" }, element("legend", { class: "unseen" }, facet), ...boxes));
  return {
    node,
    describe: () => {
      const shown = ticked.size === 1 ? [...ticked][0] : `${ticked.size} chosen`;
      summary.textContent = ticked.size ? `${facet}: ${shown}` : facet;
      node.classList.toggle("active", ticked.size > 0);
    },
    clear: () => {
      ticked.clear();
      for (const box of node.querySelectorAll("input")) box.checked = false;
    },
  };
};

/** Escape closes an open menu and returns the focus; a click or focus elsewhere closes it too. */
const closeMenus = () => {
  const open = () => [...document.querySelectorAll("details[open]:has(> .menu)")];
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of open()) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of open()) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("focusin", (event) => {
    for (const menu of open()) if (!menu.contains(event.target)) menu.open = false;
  });
};
