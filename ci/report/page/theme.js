// Fits a figure's spec to the page: its width, and colours legible on its background.

const dark = matchMedia("(prefers-color-scheme: dark)");
const DARK_GROUND = 0.0116; // relative luminance of --card in dark mode
const LEAST_CONTRAST = 4.2; // of a mark in dark mode; WCAG 2.2, 1.4.11 asks for 3

/** Relative luminance of RGB values, 0 to 255 each; WCAG 2.2. */
const luminance = (parts) => {
  const [r, g, b] = parts.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

/** Black becomes the text colour, white the background; dark mode lightens a colour until it has contrast. */
const tinted = (colour) => {
  const named = { black: "#000000", white: "#ffffff" }[colour] ?? colour;
  let parts = [1, 3, 5].map((i) => parseInt(named.slice(i, i + 2), 16));
  const isGrey = Math.max(...parts) - Math.min(...parts) < 12;
  if (isGrey && luminance(parts) < 0.3) return "currentColor";
  if (isGrey && luminance(parts) > 0.95) return "var(--card)";
  if (!dark.matches) return named;
  while ((luminance(parts) + 0.05) / (DARK_GROUND + 0.05) < LEAST_CONTRAST) {
    parts = parts.map((value) => Math.min(255, Math.ceil(value + 0.08 * (255 - value))));
  }
  return `#${parts.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
};

const isColour = (value) => typeof value === "string" && /^(#[0-9a-f]{6}|black|white)$/i.test(value);

/** The spec with this page's colours, legend columns that fit, and marks that screen readers see. */
const adapted = (value, room) => {
  if (Array.isArray(value)) return value.map((item) => adapted(item, room));
  if (isColour(value)) return tinted(value.toLowerCase());
  if (value === null || typeof value !== "object") return value;
  const fitted = {};
  for (const [key, inside] of Object.entries(value)) {
    if (key === "datasets" || key === "data" || key === "domain") fitted[key] = inside;
    else fitted[key] = adapted(inside, room);
  }
  const names = fitted.scale?.domain;
  if (fitted.type === "nominal" && fitted.legend !== null && Array.isArray(names)) {
    const longest = Math.max(1, ...names.map((name) => String(name).length));
    const columns = Math.max(1, Math.min(names.length, Math.floor(room / (7 * longest + 34))));
    fitted.legend = { ...fitted.legend, columns, labelLimit: Math.floor(room / columns) - 30 };
  }
  if (fitted.type === "point" && fitted.aria === false) delete fitted.aria;
  return fitted;
};

const COMPOUND = ["facet", "repeat", "concat", "hconcat", "vconcat"];

/** The spec to draw, `room` pixels wide, with the rows for which `keep` is true. */
const drawable = (spec, room, keep) => {
  const { title, background, datasets, ...rest } = spec;
  const fitted = adapted(rest, room - 70); // the legend begins where the axis does
  const sets = Object.entries(datasets ?? {}).map(([name, rows]) => [name, rows.filter(keep)]);
  const text = { labelColor: "currentColor", titleColor: "currentColor" };
  const config = {
    background: "transparent",
    font: "system-ui, sans-serif",
    axis: {
      ...text, labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", gridColor: "currentColor", gridOpacity: 0.12,
      domainColor: "currentColor", domainOpacity: 0.5, tickColor: "currentColor", tickOpacity: 0.5,
    },
    legend: {
      ...text, orient: "bottom", direction: "horizontal", labelFontSize: 11, titleFontSize: 11, titleFontWeight: 600,
      symbolBaseFillColor: "currentColor", symbolBaseStrokeColor: "currentColor", rowPadding: 4, columnPadding: 14,
      offset: 10, layout: { bottom: { anchor: "start", direction: "vertical", margin: 12 } },
    },
    view: { stroke: "transparent" },
    text: { color: "currentColor" },
  };
  const own = fitted.config ?? {};
  const merged = Object.fromEntries(Object.keys({ ...own, ...config }).map((key) => [key,
    typeof config[key] === "object" ? { ...own[key], ...config[key] } : config[key] ?? own[key]]));
  const fits = typeof fitted.width === "number" && !COMPOUND.some((key) => key in fitted);
  return {
    ...fitted,
    ...(fits ? { width: room, autosize: { type: "fit-x", contains: "padding" } } : {}),
    datasets: Object.fromEntries(sets),
    config: merged,
  };
};
