// Unpacks the page's data and gives each case its fields by name.

const unpacked = async () => {
  if (!("DecompressionStream" in window)) throw new Error("this browser cannot unpack the data (no DecompressionStream)");
  const bytes = Uint8Array.from(atob(byId("data").textContent.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return withNames(JSON.parse(await new Response(stream).text()));
};

/**
 * Adds `place`, `source`, `facets` and `value(name)` to each case, and `caseOf(id, source)` to the data: the case,
 * else a case of that id from another source (predictions have the ids of measured or published cases), else null.
 */
const withNames = (data) => {
  const columns = data.fields.filter((field) => field.table || field.file);
  const places = new Map(columns.map((field, place) => [field.name, place]));
  const cases = data.cases.map((record, place) => {
    const value = (name) => record.values[places.get(name)];
    const facets = Object.fromEntries(data.facets.map((facet) => [facet, value(facet) ?? "none"]));
    return { ...record, place, value, facets, source: facets.source };
  });
  const keyed = new Map(cases.map((record) => [`${record.id} ${record.source}`, record]));
  const anySource = new Map();
  for (const record of cases) if (!anySource.has(record.id)) anySource.set(record.id, record);
  const caseOf = (id, source) => keyed.get(`${id} ${source}`) ?? anySource.get(id) ?? null;
  return { ...data, cases, caseOf };
};
