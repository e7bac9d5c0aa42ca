// Writes numbers as fixtures/core/base/text.py does.

/** The number to `digits` significant digits, never in exponent form. */
const significant = (value, digits = 3) => {
  if (value === 0) return "0";
  const exponent = Number(value.toExponential(digits - 1).split("e")[1]);
  return value.toFixed(Math.max(digits - 1 - exponent, 0));
};

const seconds = (value) => `${significant(value)} s`;

/** "1 case", "2 cases". */
const counted = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

const collator = new Intl.Collator("en", { numeric: true });

/** Unique names in natural order: 4 before 16. */
const inOrder = (names) => [...new Set(names)].sort(collator.compare);
