// What is looked at (period and filters), kept in the address so that it can be shared and gone back to.

/** The view that an address names. */
export function readView(search, setup) {
  const query = new URLSearchParams(search);
  const filters = new Map();
  for (const dimension of setup.filters) {
    const keys = query.getAll(dimension);
    if (keys.length) filters.set(dimension, new Set(keys));
  }
  return { period: query.get("period") ?? setup.period.default, filters };
}

/** The view as a query; the default period is left out. */
export function query(view, setup) {
  const parameters = new URLSearchParams();
  if (view.period !== setup.period.default) parameters.set("period", view.period);
  for (const [dimension, keys] of view.filters) {
    for (const key of keys) parameters.append(dimension, key);
  }
  return parameters;
}

/** The view with one value of a filter taken in or out. */
export function toggled(view, dimension, key) {
  const filters = new Map([...view.filters].map(([name, keys]) => [name, new Set(keys)]));
  const keys = filters.get(dimension) ?? new Set();
  if (!keys.delete(key)) keys.add(key);
  if (keys.size) filters.set(dimension, keys);
  else filters.delete(dimension);
  return { ...view, filters };
}

export function isChosen(view, dimension, key) {
  return view.filters.get(dimension)?.has(key) ?? false;
}
