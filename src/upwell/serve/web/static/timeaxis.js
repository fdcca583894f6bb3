// Which points of a time axis have a label, and what it says: hours, dates, months or years, as there is
// room. A year stands below the first label of it, unless all is of this year.

const HOURS_MAX = 48; // up to here hours are written
const WEEKDAYS_MAX = 10; // days, each begun by a label
const DATES_MAX = 62;
const DATE_ROOM = 58; // pixels
const MONTH_ROOM = 44;
const MONTHS_APART = [1, 2, 3, 6, 12, 24, 60, 120];
const DAY_MS = 86_400_000;

/** Labels by bucket, for a chart so many pixels wide. `times` is the clock of the business. */
export function timeLabels(buckets, grain, times, width) {
  if (grain === "hour" && buckets.length <= HOURS_MAX) return hours(buckets, times);
  const days = Math.round((buckets.at(-1) - buckets[0]) / DAY_MS) + 1;
  if (grain !== "month" && days <= DATES_MAX) return dates(buckets, grain, times, width, days);
  return months(buckets, grain, times, width);
}

function hours(buckets, times) {
  const every = buckets.length > 26 ? 6 : 3;
  const shown = buckets.filter((at) => Number.parseInt(times.hour(at), 10) % every === 0);
  return new Map(shown.map((at) => [at, times.hour(at)]));
}

// Counted back from the last, so that today is written. Of hours, the first of each day.
function dates(buckets, grain, times, width, days) {
  const isNewDay = (at, place) => place > 0 && times.day(at) !== times.day(buckets[place - 1]);
  const begun = grain === "hour" ? buckets.filter(isNewDay) : buckets;
  const every = Math.ceil((begun.length * DATE_ROOM) / width);
  const shown = begun.filter((_, place) => (begun.length - 1 - place) % every === 0);
  const name = grain === "hour" && days <= WEEKDAYS_MAX ? times.weekday : times.day;
  return withYears(shown, times, name);
}

function months(buckets, grain, times, width) {
  const numbers = buckets.map((at) => {
    const { year, month } = times.date(at);
    return year * 12 + month;
  });
  const count = numbers.at(-1) - numbers[0] + 1;
  const apart = MONTHS_APART.find((each) => (count / each) * MONTH_ROOM <= width) ?? MONTHS_APART.at(-1);
  const begins = (place) =>
    place > 0 ? numbers[place] !== numbers[place - 1] : grain === "month" || times.date(buckets[0]).day === 1;
  const shown = buckets.filter((_, place) => begins(place) && numbers[place] % apart === 0);
  if (apart >= 12) return new Map(shown.map((at) => [at, `${times.date(at).year}`]));
  return withYears(shown, times, times.month);
}

function withYears(shown, times, name) {
  const now = times.date(Date.now()).year;
  const years = shown.map((at) => times.date(at).year);
  const isPlain = years.every((year) => year === now);
  return new Map(shown.map((at, place) => {
    const year = isPlain || years[place] === years[place - 1] ? "" : `\n${years[place]}`;
    return [at, `${name(at)}${year}`];
  }));
}
