// A metric over time as stacked areas. Series keep their identity and only data changes, so a tooltip
// stays open while numbers move; there is no animation on data. The last point is marked as partial.

import { init } from "./charts.js";
import { colour, element, part, setAttribute, setText } from "./dom.js";
import { axis, clock, full, weekOf } from "./format.js";
import { timeLabels } from "./timeaxis.js";

const REDRAW_MS = 400;
const TABLE_MS = 2000;
const DENSE_POINTS = 60; // from here on lines between layers would hide them, if they were not thin
const CROWDED_POINTS = 180; // and from here on thin ones would
const OTHER = "\u0000other";
const FONT = "Inter, system-ui, sans-serif";
const BESIDE_PLOT = 70; // pixels that the value axis takes
const WORDS = {
  hour: { every: "Hourly", one: "Hour", running: "This hour" },
  day: { every: "Daily", one: "Day", running: "Today" },
  week: { every: "Weekly", one: "Week", running: "This week" },
  month: { every: "Monthly", one: "Month", running: "This month" },
};

export class Timeline {
  #tile;
  #chart = null;
  #data = null;
  #metric = null;
  #window = null;
  #labelled = { key: "", labels: new Map() };
  #drawnAt = -Infinity;
  #timer = 0;
  #tableAt = -Infinity;
  #tableTimer = 0;

  constructor(tile, setup, palette) {
    this.#tile = tile;
    this.setup = setup;
    this.palette = palette;
    this.times = clock(setup.zone);
    part(tile, "details").addEventListener("toggle", () => this.#showTable(true));
    new ResizeObserver(() => this.#resize()).observe(part(tile, "chart"));
  }

  show(data, metric, window) {
    this.#data = data;
    this.#metric = metric;
    this.#window = window;
    const wait = this.#drawnAt + REDRAW_MS - performance.now();
    clearTimeout(this.#timer);
    if (wait <= 0) this.#draw();
    else this.#timer = setTimeout(() => this.#draw(), wait);
  }

  /** Draw again, as after a change of colours. */
  redraw() {
    if (!this.#chart) return;
    this.#chart.dispose();
    this.#chart = null;
    this.#draw();
  }

  #resize() {
    if (!this.#chart) return;
    this.#chart.resize();
    this.#chart.setOption({ xAxis: { axisLabel: this.#labels() } });
  }

  #draw() {
    this.#drawnAt = performance.now();
    const node = part(this.#tile, "chart");
    if (!this.#chart) {
      node.replaceChildren();
      this.#chart = init(node, null, { renderer: "canvas" });
      this.#chart.setOption(this.#frame());
    }
    const { buckets_ms: buckets, series } = this.#data;
    this.#chart.setOption(
      {
        xAxis: { data: buckets, boundaryGap: buckets.length === 1, axisLabel: this.#labels() },
        series: series.map((each, place) => this.#layer(each, place === 0)),
      },
      { replaceMerge: this.#isNewShape() ? ["series"] : [] },
    );
    part(this.#tile, "nothing").hidden = series.length > 0;
    this.#showWords(node);
    this.#showLegend();
    this.#showTable(false);
  }

  #isNewShape() {
    const shape = this.#data.series.map((each) => each.key ?? OTHER).join("\u0001");
    const isNew = shape !== this.shape;
    this.shape = shape;
    return isNew;
  }

  #frame() {
    const faint = colour("--faint");
    return {
      animation: false,
      textStyle: { fontFamily: FONT },
      grid: { left: 8, right: 14, top: 14, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
      tooltip: {
        trigger: "axis",
        confine: true,
        transitionDuration: 0,
        backgroundColor: colour("--raised"),
        borderColor: colour("--line"),
        borderWidth: 1,
        padding: [11, 13],
        extraCssText: "border-radius: 12px; box-shadow: var(--shadow-raised);",
        textStyle: { color: colour("--ink"), fontFamily: FONT, fontSize: 13 },
        axisPointer: { type: "line", lineStyle: { color: colour("--faint"), width: 1, type: "solid" } },
        formatter: (points) => this.#tip(points[0]?.dataIndex),
      },
      xAxis: {
        type: "category",
        axisLine: { lineStyle: { color: colour("--line") } },
        axisTick: { show: false },
        axisLabel: { color: faint, fontSize: 12, lineHeight: 15, margin: 10, hideOverlap: true, alignMaxLabel: "right" },
      },
      yAxis: {
        type: "value",
        splitNumber: 4,
        axisLabel: { color: faint, fontSize: 12, formatter: (value) => axis(this.#metric, value) },
        splitLine: { lineStyle: { color: colour("--hairline") } },
      },
    };
  }

  #layer(series, isFirst) {
    const fill = colour(this.palette.property(series));
    const last = this.#data.buckets_ms.length - 1;
    const separator = last > CROWDED_POINTS ? 0 : last > DENSE_POINTS ? 0.6 : 1.4;
    return {
      id: series.key ?? OTHER,
      name: series.label,
      type: "line",
      stack: "all",
      smooth: 0.22,
      smoothMonotone: "x",
      symbol: last > 0 ? "none" : "circle",
      symbolSize: 9,
      silent: true,
      emphasis: { disabled: true },
      color: fill,
      lineStyle: { width: separator, color: colour("--card") },
      areaStyle: { color: fill, opacity: 0.86 },
      data: series.values,
      markArea: isFirst && last > 0 && this.#data.is_running ? this.#partial(last) : { data: [] },
    };
  }

  #partial(last) {
    return {
      silent: true,
      z: 5,
      itemStyle: { color: colour("--card"), opacity: 0.5 },
      label: {
        show: true, position: "insideTopRight", distance: 4,
        color: colour("--soft"), fontSize: 11.5, formatter: "so far",
      },
      data: [[{ xAxis: last - 1 }, { xAxis: last }]],
    };
  }

  // Worked out anew only when the axis is another: it takes longer than the rest of a drawing.
  #labels() {
    const { buckets_ms: buckets, grain } = this.#data;
    const width = Math.max(1, part(this.#tile, "chart").clientWidth - BESIDE_PLOT);
    const key = [grain, buckets[0], buckets.at(-1), buckets.length, width].join();
    if (key !== this.#labelled.key) {
      this.#labelled = { key, labels: timeLabels(buckets, grain, this.times, width) };
    }
    const { labels } = this.#labelled;
    return { interval: (_, at) => labels.has(Number(at)), formatter: (at) => labels.get(Number(at)) ?? "" };
  }

  #time(place) {
    const at = this.#data.buckets_ms[place];
    const { times } = this;
    switch (this.#data.grain) {
      case "hour": return times.hourLong(at);
      case "day": return times.dayLong(at);
      case "week": return weekOf(times.date(at));
      default: return times.monthLong(at);
    }
  }

  // What is said of a point that holds a part of its time only.
  #partOf(place) {
    const { buckets_ms: buckets, grain, is_running: isRunning } = this.#data;
    const { starts_ms: starts, last_day_ms: lastDay } = this.#window;
    const isLast = place === buckets.length - 1;
    const said = [];
    if (place === 0 && buckets[0] < starts) {
      said.push(`from ${grain === "day" ? this.times.hour(starts) : this.times.day(starts)}`);
    }
    if (isLast && !isRunning && this.#endsEarly(buckets[place], lastDay)) {
      said.push(`until ${this.times.day(lastDay)}`);
    }
    if (isLast && isRunning) return [WORDS[grain].running, ...said, "so far"].join(" ");
    return said.length ? ["Only", ...said].join(" ") : "";
  }

  // Does the last week or month go on after the last day looked at?
  #endsEarly(at, lastDay) {
    const { year, month, day } = this.times.date(at);
    const ends = { week: Date.UTC(year, month, day + 6), month: Date.UTC(year, month + 1, 0) }[this.#data.grain];
    const last = this.times.date(lastDay);
    return ends !== undefined && Date.UTC(last.year, last.month, last.day) < ends;
  }

  #tip(place) {
    const { series, totals, buckets_ms: buckets } = this.#data;
    if (place === undefined || place >= buckets.length) return "";
    const scale = totals[place] ?? 0;
    const total = element("span", "", full(this.#metric, totals[place]));
    const rows = series.map((each) => {
      const swatch = element("span", "swatch");
      swatch.style.backgroundColor = `var(${this.palette.property(each)})`;
      const value = element("span", "", full(this.#metric, each.values[place], scale));
      return element("div", "tip-row", swatch, element("span", "", each.label), value);
    });
    const head = element("div", "tip-head", element("span", "", this.#time(place)), total);
    const tip = element("div", "tip", head, ...rows.reverse());
    const note = this.#partOf(place);
    if (note) tip.append(element("p", "tip-note", note));
    return tip;
  }

  #showWords(node) {
    const { grain, asked } = this.#data;
    const { every } = WORDS[grain];
    const weeks = grain === "week" ? ` from ${this.setup.weekStarts}` : "";
    const finer = asked ? `, ${WORDS[asked].every.toLowerCase()} would be too many points` : "";
    const days = this.setup.dayStarts === "00:00" ? "" : `, days from ${this.setup.dayStarts}`;
    setText(part(this.#tile, "caption"), `${every}${weeks}${finer} · ${this.setup.zone} time${days}`);
    const last = this.#data.buckets_ms.length - 1;
    const span = `${every} from ${this.#time(0)} to ${this.#time(last)}.`;
    setAttribute(node, "aria-label", `${this.#metric.label} over time. ${span} The table below has every value.`);
  }

  #showLegend() {
    const legend = part(this.#tile, "legend");
    const { series } = this.#data;
    while (legend.children.length > series.length) legend.lastElementChild.remove();
    series.forEach((each, place) => {
      let item = legend.children[place];
      if (!item) {
        item = element("li", "", element("span", "swatch"), element("span"));
        legend.append(item);
      }
      item.firstElementChild.style.backgroundColor = `var(${this.palette.property(each)})`;
      setText(item.lastElementChild, each.label);
    });
  }

  #showTable(isAsked) {
    if (!part(this.#tile, "details").open || !this.#data) return;
    clearTimeout(this.#tableTimer);
    const wait = this.#tableAt + TABLE_MS - performance.now();
    if (!isAsked && wait > 0) {
      this.#tableTimer = setTimeout(() => this.#showTable(true), wait);
      return;
    }
    this.#tableAt = performance.now();
    const { series, totals, grain } = this.#data;
    const columns = [...series.map((each) => [each.label, each.values]), ["Total", totals]];
    const head = [WORDS[grain].one, ...columns.map(([label]) => label)];
    const scale = Math.max(...totals.map((value) => Math.abs(value ?? 0)));
    const body = totals.map((_, place) => [
      this.#time(place),
      ...columns.map(([, values]) => full(this.#metric, values[place], scale)),
    ]);
    fillTable(part(this.#tile, "table"), [head, ...body.reverse()]);
  }
}

// Fills a table by changing only the cells that differ; the first row and column are headings.
function fillTable(table, rows) {
  const head = table.tHead ?? table.createTHead();
  const body = table.tBodies[0] ?? table.createTBody();
  while (body.rows.length > rows.length - 1) body.deleteRow(-1);
  rows.forEach((cells, place) => {
    const section = place === 0 ? head : body;
    const row = section.rows[place === 0 ? 0 : place - 1] ?? section.insertRow();
    while (row.cells.length > cells.length) row.lastElementChild.remove();
    cells.forEach((text, column) => {
      const isHeading = place === 0 || column === 0;
      let cell = row.cells[column];
      if (!cell) {
        cell = element(isHeading ? "th" : "td");
        if (isHeading) cell.scope = place === 0 ? "col" : "row";
        row.append(cell);
      }
      setText(cell, text);
    });
  });
}
