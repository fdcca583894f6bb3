// Numbers, changes and times as people read them: in the browser's language, in the business zone.

const LOCALE = navigator.languages?.length ? navigator.languages : undefined;
const NOTHING = "–";
const WHOLE_FROM = 1000; // from here on a fraction is noise beside the number
const COMPACT_FROM = 100_000_000;

const formatters = new Map();

function numberFormat(options) {
  const key = JSON.stringify(options);
  if (!formatters.has(key)) formatters.set(key, new Intl.NumberFormat(LOCALE, options));
  return formatters.get(key);
}

function styleOf(metric) {
  if (metric.format === "percent") return { style: "percent" };
  if (metric.format === "currency" && metric.currency) {
    return { style: "currency", currency: metric.currency };
  }
  return {};
}

function fraction(metric, scale) {
  if (metric.format === "percent") return { maximumFractionDigits: 1 };
  if (Math.abs(scale) >= WHOLE_FROM) return { maximumFractionDigits: 0 };
  if (metric.format !== "currency") return { maximumFractionDigits: 2 };
  return metric.currency ? {} : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
}

/** A value in full: £1,284,392. Values of one list look alike when `scale` is their greatest. */
export function full(metric, value, scale = value) {
  if (value == null) return NOTHING;
  if (Math.abs(value) >= COMPACT_FROM) return compact(metric, value);
  return written(numberFormat({ ...styleOf(metric), ...fraction(metric, scale) }), value);
}

// With a real minus sign, which is as wide as a digit.
function written(formatter, value) {
  return formatter.format(value).replace("-", "\u2212");
}

/** A value in little room: £1.28m. */
export function compact(metric, value) {
  if (value == null) return NOTHING;
  const digits = { notation: "compact", maximumSignificantDigits: 4 };
  return written(numberFormat({ ...styleOf(metric), ...digits }), value);
}

/** How many: 12,345. */
export function wholeNumber(count) {
  return numberFormat({}).format(count);
}

/** A value beside an axis: £20k. */
export function axis(metric, value) {
  const digits = { notation: "compact", minimumFractionDigits: 0, maximumFractionDigits: 1 };
  return written(numberFormat({ ...styleOf(metric), ...digits }), value);
}

/** A share of a whole: 24%. */
export function share(value) {
  if (value == null) return "";
  const digits = value !== 0 && Math.abs(value) < 0.1 ? 1 : 0;
  return numberFormat({ style: "percent", maximumFractionDigits: digits }).format(value);
}

/** A change as arrow, words for those who do not see it, and figure. */
export function change(value) {
  if (value == null) return { way: "none", arrow: "", words: "", text: "" };
  const digits = Math.abs(value) < 10 ? 1 : 0;
  const formatter = numberFormat({
    style: "percent",
    signDisplay: "exceptZero",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  const text = written(formatter, value);
  if (Math.abs(value) < 0.0005) return { way: "same", arrow: "", words: "unchanged", text };
  return value > 0
    ? { way: "up", arrow: "▲", words: "up", text }
    : { way: "down", arrow: "▼", words: "down", text };
}

/** How old something is: 0.4 s, 42 s, 3 min, 2 h. */
export function age(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 0.1) return "under 0.1 s";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** Times of day and dates on the clocks of the business. */
export function clock(zone) {
  const formatter = (options) => new Intl.DateTimeFormat(LOCALE, { timeZone: zone, ...options });
  const format = (options) => {
    const made = formatter(options);
    return (milliseconds) => made.format(milliseconds);
  };
  const numeric = new Intl.DateTimeFormat("en-u-ca-gregory", {
    timeZone: zone, year: "numeric", month: "numeric", day: "numeric",
  });
  const short = { day: "numeric", month: "short" };
  const ranges = [formatter(short), formatter({ ...short, year: "numeric" })];
  const minute = { weekday: "short", ...short, hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const minutes = [format(minute), format({ ...minute, year: "numeric" })];

  /** Year, month (0 to 11) and day as numbers. */
  function date(milliseconds) {
    const parts = numeric.formatToParts(milliseconds);
    const number = (type) => Number(parts.find((each) => each.type === type).value);
    return { year: number("year"), month: number("month") - 1, day: number("day") };
  }
  const isPast = (milliseconds) => date(milliseconds).year !== date(Date.now()).year;

  return {
    date,
    hour: format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
    day: format(short),
    weekday: format({ weekday: "short", day: "numeric" }),
    month: format({ month: "short" }),
    monthLong: format({ month: "long", year: "numeric" }),
    dayLong: format({ weekday: "short", day: "numeric", month: "short", year: "numeric" }),
    hourLong: (at) => minutes[Number(isPast(at))](at),
    /** From one day to another, with the year where asked for or not this one. */
    days: (from, to, withYear) => ranges[Number(withYear || isPast(from) || isPast(to))].formatRange(from, to),
  };
}

/** The seven days from a date on, as people write them. */
export function weekOf({ year, month, day }) {
  const format = new Intl.DateTimeFormat(LOCALE, { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" });
  return format.formatRange(Date.UTC(year, month, day), Date.UTC(year, month, day + 6));
}

const UNITS = { h: "hour", d: "day", m: "month" };

/** "24h" as "24 hours". */
export function periodName(period) {
  const count = Number.parseInt(period, 10);
  return `${count} ${UNITS[period.at(-1)]}${count === 1 ? "" : "s"}`;
}
