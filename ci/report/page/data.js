// The page's own values: unpacked once, with a case's fields by name.

const unpacked = async () => {
  if (!("DecompressionStream" in window)) throw new Error("this browser is too old to unpack it");
  const bytes = Uint8Array.from(atob(byId("data").textContent.trim()), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return withNames(JSON.parse(await new Response(stream).text()));
};

/**
 * A case gets `place`, `source`, `facets` and `value(name)`. The data get `caseOf(id, source)`: the case, else one of
 * that id from elsewhere (a prediction is of a measured or published case), else null.
 */
const withNames = (data) => {
  const columns = data.fields.filter((field) => field.table || field.file);
  const places = new Map(columns.map((field, place) => [field.name, place]));
  const cases = data.cases.map((one, place) => {
    const value = (name) => one.values[places.get(name)];
    const facets = Object.fromEntries(data.facets.map((facet) => [facet, value(facet) ?? "none"]));
    return { ...one, place, value, facets, source: facets.source };
  });
  const keyed = new Map(cases.map((one) => [`${one.id} ${one.source}`, one]));
  const byName = new Map();
  for (const one of cases) if (!byName.has(one.id)) byName.set(one.id, one);
  const caseOf = (id, source) => keyed.get(`${id} ${source}`) ?? byName.get(id) ?? null;
  return { ...data, cases, caseOf };
};
