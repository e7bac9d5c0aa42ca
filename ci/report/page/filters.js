// Which cases are chosen: of each facet any of the ticked values (none ticked: all), and a text in the id.

const makeFilters = (data, changed) => {
  const ticked = Object.fromEntries(data.facets.map((facet) => [facet, new Set()]));
  const menus = data.facets.map((facet) => facetMenu(facet, data.cases, ticked[facet], () => update()));
  const find = byId("find");
  let text = "";

  const passes = (one) =>
    one.id.toLowerCase().includes(text) &&
    data.facets.every((facet) => !ticked[facet].size || ticked[facet].has(one.facets[facet]));

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

  byId("facets").append(...menus.map((menu) => menu.made));
  find.addEventListener("input", settled(120, update));
  byId("reset").addEventListener("click", reset);
  closeMenus();
  update();
};

const facetMenu = (facet, cases, ticked, update) => {
  const summary = element("summary", {}, facet);
  const boxes = inOrder(cases.map((one) => one.facets[facet])).map((name) => {
    const number = cases.filter((one) => one.facets[facet] === name).length;
    const tick = (event) => {
      if (event.target.checked) ticked.add(name);
      else ticked.delete(name);
      update();
    };
    const box = element("input", { type: "checkbox", value: name, onchange: tick });
    return element("label", {}, box, element("span", {}, name), element("small", { class: "muted" }, String(number)));
  });
  const made = element("details", { class: "facet", "data-facet": facet }, summary,
    element("fieldset", { class: "menu" }, element("legend", { class: "unseen" }, facet), ...boxes));
  return {
    made,
    describe: () => {
      const shown = ticked.size === 1 ? [...ticked][0] : `${ticked.size} chosen`;
      summary.textContent = ticked.size ? `${facet}: ${shown}` : facet;
      made.classList.toggle("active", ticked.size > 0);
    },
    clear: () => {
      ticked.clear();
      for (const box of made.querySelectorAll("input")) box.checked = false;
    },
  };
};

/** An open menu closes by Escape, which gives the focus back, by a click elsewhere, and when another opens. */
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
