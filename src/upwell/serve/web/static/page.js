// The page of a dashboard: keeps what is shown equal to the live stream of the view in the address.

import { Age } from "./age.js";
import { Bars } from "./bars.js";
import { element, part, setAttribute, setText } from "./dom.js";
import { clock, periodName, wholeNumber } from "./format.js";
import { connectMenu } from "./menu.js";
import { showNumber } from "./numbers.js";
import { Palette } from "./palette.js";
import { Stream } from "./stream.js";
import { Timeline } from "./timeline.js";
import { query, readView, toggled } from "./view.js";

const byId = (id) => document.getElementById(id);
const setup = JSON.parse(byId("setup").textContent);
const times = clock(setup.zone);

let view = readView(location.search, setup);
let payload = JSON.parse(byId("payload").textContent);
const tiles = new Map();
const palettes = new Map();
const age = new Age({
  late: (since, why) => {
    const { said, next } = told(why);
    showNotice(`These numbers are as of ${times.hourLong(since)}. ${said} ${next || "They catch up by themselves."}`);
  },
  // New data comes in, and yet some of what is shown stands still.
  stuck: (why) => showNotice(Object.values(told(why)).filter(Boolean).join(" ")),
  fresh: () => showNotice(""),
});

const stream = new Stream({
  view: (next) => {
    payload = next;
    document.body.classList.remove("switching");
    show();
  },
  age: (next) => age.hear(next),
  lost: () => age.lose(),
  refused: (problem) => showNotice([problem.title, problem.detail].filter(Boolean).join(": ")),
});

function choose(dimension, key) {
  go(toggled(view, dimension, key));
}

/** Look at something else. */
function go(next) {
  view = next;
  const search = query(view, setup).toString();
  history.pushState(null, "", search ? `?${search}` : location.pathname);
  follow();
}

function follow() {
  document.body.classList.toggle("switching", payload !== null);
  const parameters = query(view, setup);
  byId("export").href = `/api/v1/dashboards/${encodeURIComponent(setup.dashboard)}.csv?${parameters}`;
  parameters.set("dashboard", setup.dashboard);
  showControls();
  stream.open(document.hidden ? "" : `/live?${parameters}`);
}

// ── what is shown ──────────────────────────────────────────────────────────────────────────────

function show() {
  if (!payload) return;
  byId("board").classList.toggle("uncompared", !isCompared());
  showWindow();
  takeColours();
  payload.tiles.forEach((data, index) => {
    const tile = document.querySelector(`[data-tile="${index}"]`);
    const metric = setup.metrics[data.metric];
    if (data.kind === "number") showNumber(tile, data, metric);
    else if (data.kind === "timeline") timeline(tile, index, data).show(data, metric, payload.window);
    else bars(tile, index, data).show(data, metric, view);
  });
}

// One palette for each dimension that a chart is split by; its ranked list has the same colours.
function takeColours() {
  const charts = payload.tiles.filter((each) => each.kind === "timeline");
  for (const by of new Set(charts.map((each) => each.by))) {
    if (!palettes.has(by)) palettes.set(by, new Palette());
    palettes.get(by).take(charts.flatMap((each) => (each.by === by ? each.series : [])));
  }
}

function timeline(tile, index, data) {
  if (!tiles.has(index)) tiles.set(index, new Timeline(tile, setup, palettes.get(data.by)));
  return tiles.get(index);
}

function bars(tile, index, data) {
  const canFilter = setup.filters.includes(data.by);
  if (!tiles.has(index)) {
    tiles.set(index, new Bars(tile, { canFilter, palette: palettes.get(data.by), choose }));
  }
  const hasShares = data.rows.some((row) => row.share !== null); // ratios are parts of nothing
  const columns = [canFilter ? "choose to filter" : "", hasShares ? "share" : "", isCompared() ? "change" : ""];
  setText(part(tile, "caption"), capitalised(columns.filter(Boolean).join(" · ")));
  return tiles.get(index);
}

function isCompared() {
  return payload.window.previous_starts_ms !== null;
}

function showWindow() {
  const { rows_left_out: leftOut } = payload.window;
  const said = [
    span(),
    isCompared() ? `against the ${periodName(payload.period)} before` : "",
    leftOut ? `${leftOut === 1 ? "1 row" : `${wholeNumber(leftOut)} rows`} left out, not dated from 1990 to now` : "",
    `${setup.zone} time`,
  ];
  setText(byId("window"), said.filter(Boolean).join(" · "));
}

function span() {
  const { starts_ms: starts, last_day_ms: lastDay, is_running: isRunning, is_empty: isEmpty } = payload.window;
  if (isEmpty) return "No data yet";
  if (payload.period.endsWith("h")) return `${times.hourLong(starts)} until now`;
  const isLong = !payload.period.endsWith("d");
  return `${times.days(starts, lastDay, isLong)}${isRunning ? ", today so far" : ""}`;
}

function showNotice(text) {
  const notice = byId("notice");
  setText(notice, text);
  notice.hidden = !text;
}

// What is wrong, without the details that are for whoever runs Upwell, and what to do if anything.
function told(why) {
  const [what, ...more] = why.split("\n");
  const step = more.find((line) => line.startsWith("  next:"));
  return { said: sentence(what), next: step ? sentence(`next: ${step.slice("  next:".length).trim()}`) : "" };
}

function sentence(text) {
  const said = text.trim();
  return `${capitalised(said)}${/[.!?]$/.test(said) ? "" : "."}`;
}

function capitalised(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}

function showControls() {
  for (const button of document.querySelectorAll(".period")) {
    setAttribute(button, "aria-pressed", `${button.dataset.period === view.period}`);
  }
  showChips();
}

function showChips() {
  const chips = byId("chips");
  const wanted = [...view.filters].flatMap(([dimension, keys]) =>
    [...keys].map((key) => ({ dimension, key, id: `${dimension}\u0000${key}` })));
  const there = new Map([...chips.querySelectorAll("[data-id]")].map((chip) => [chip.dataset.id, chip]));
  for (const [id, chip] of there) {
    if (wanted.some((each) => each.id === id)) continue;
    const next = chip.nextElementSibling ?? byId("board").querySelector(".period");
    if (chip === document.activeElement) next.focus();
    chip.remove();
  }
  for (const each of wanted) {
    if (!there.has(each.id)) chips.insertBefore(createChip(each), chips.querySelector(".clear"));
  }
  if (wanted.length && !chips.querySelector(".clear")) {
    const clear = element("button", "chip clear", "Clear all");
    clear.type = "button";
    clear.addEventListener("click", () => {
      go({ ...view, filters: new Map() });
      document.querySelector(".period[aria-pressed=true]")?.focus({ focusVisible: false });
    });
    chips.append(clear);
  }
  chips.hidden = wanted.length === 0;
}

function createChip({ dimension, key, id }) {
  const label = labelOf(dimension, key);
  const name = element("span", "", `${setup.dimensions[dimension]} `);
  const cross = element("span", "chip-cross", "×");
  cross.setAttribute("aria-hidden", "true");
  const chip = element("button", "chip", element("span", "chip-text", name, label), cross);
  chip.type = "button";
  chip.dataset.id = id;
  chip.setAttribute("aria-label", `Remove filter ${setup.dimensions[dimension]}: ${label}`);
  chip.addEventListener("click", () => choose(dimension, key));
  return chip;
}

// A key stands for NULL as "~" and has one "~" more before a text that begins with one.
function labelOf(dimension, key) {
  if (key === "~") return "(none)";
  const text = key.startsWith("~") ? key.slice(1) : key;
  return text.trim() ? text : "(empty)";
}

// ── what one can do ────────────────────────────────────────────────────────────────────────────

for (const button of document.querySelectorAll(".period")) {
  button.addEventListener("click", () => {
    if (view.period !== button.dataset.period) go({ ...view, period: button.dataset.period });
  });
}

window.addEventListener("popstate", () => {
  view = readView(location.search, setup);
  follow();
});

document.addEventListener("visibilitychange", follow);
window.addEventListener("pagehide", () => stream.close());

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll(".definition:hover, .definition:focus-within")) {
    open.classList.add("dismissed");
    open.addEventListener("pointerleave", () => open.classList.remove("dismissed"), { once: true });
    open.addEventListener("focusout", () => open.classList.remove("dismissed"), { once: true });
  }
});

connectMenu(() => {
  for (const tile of tiles.values()) tile.redraw?.();
});

show();
follow();
document.body.classList.remove("switching"); // what is shown is what the address asks for
