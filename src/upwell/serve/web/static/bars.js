// Ranked lists that are filters too. Rows keep their element as long as they live, so focus stays on
// a row while its numbers change; and nothing changes places under a pointer or a focused row.

import { change, full, share } from "./format.js";
import { element, part, setAttribute, setText, showChange } from "./dom.js";
import { isChosen } from "./view.js";

const OTHER = "\u0000other";

export class Bars {
  #rows = new Map();
  #list;
  #leftOut;
  #latest = null;

  /** `choose(dimension, key)` is called for a row; `palette`, if any, colours rows as a chart does. */
  constructor(tile, { canFilter, palette, choose }) {
    this.#list = part(tile, "bars");
    this.#leftOut = part(tile, "left-out");
    this.canFilter = canFilter;
    this.palette = palette;
    this.choose = choose;
    this.#list.replaceChildren();
    this.#list.addEventListener("pointerleave", () => this.#arrange());
    this.#list.addEventListener("focusout", () => queueMicrotask(() => this.#arrange()));
  }

  show(data, metric, view) {
    this.#latest = data;
    const named = data.rows.filter((row) => row.key !== null); // the rest is no rival of one value
    const greatest = Math.max(...named.map((row) => row.value ?? 0), 0);
    const isChoosing = view.filters.has(data.by) && this.canFilter;
    this.#list.classList.toggle("choosing", isChoosing);
    for (const row of data.rows) {
      const bar = this.#row(row, data.by);
      const isSelected = row.key !== null && isChosen(view, data.by, row.key);
      if (bar.node.tagName === "BUTTON") setAttribute(bar.node, "aria-pressed", `${isSelected}`);
      setText(bar.label, row.label);
      setAttribute(bar.label, "title", row.label);
      setText(bar.value, full(metric, row.value, greatest));
      setText(bar.share, share(row.share));
      showChange(bar.change, change(row.change));
      const part = greatest > 0 ? Math.max(0, row.value ?? 0) / greatest : 0;
      bar.fill.style.width = `${(100 * part).toFixed(2)}%`;
      bar.fill.style.backgroundColor = `var(${this.palette?.property(row) ?? "--bar"})`;
    }
    this.#forget(new Set(data.rows.map((row) => row.key ?? OTHER)));
    this.#arrange();
    this.#leftOut.hidden = data.rows.length > 0 && !(data.left_out && data.rows.at(-1).key !== null);
    setText(this.#leftOut, data.rows.length ? `and ${data.left_out} more` : "Nothing in this period yet.");
  }

  #row(row, dimension) {
    const id = row.key ?? OTHER;
    let bar = this.#rows.get(id);
    if (!bar) {
      bar = this.#create(row, dimension);
      this.#rows.set(id, bar);
      this.#list.append(bar.item);
    }
    return bar;
  }

  #create(row, dimension) {
    const label = element("span", "bar-label-text");
    const tick = element("span", "bar-tick", "✓");
    tick.setAttribute("aria-hidden", "true");
    const bar = {
      label,
      value: element("span", "bar-value"),
      share: element("span", "bar-share"),
      change: element("span", "change bar-change"),
      fill: element("span", "bar-fill"),
    };
    const isButton = this.canFilter && row.key !== null;
    bar.node = element(
      isButton ? "button" : "div", "bar",
      element("span", "bar-label", tick, label), bar.value, bar.share, bar.change,
      ...(row.key === null ? [] : [element("span", "bar-track", bar.fill)]),
    );
    if (isButton) {
      bar.node.type = "button";
      bar.node.addEventListener("click", () => this.choose(dimension, row.key));
    }
    bar.item = element("li", "", bar.node);
    return bar;
  }

  #forget(ids) {
    for (const [id, bar] of this.#rows) {
      if (ids.has(id)) continue;
      bar.item.remove();
      this.#rows.delete(id);
    }
  }

  #arrange() {
    if (!this.#latest || this.#list.matches(":hover, :focus-within")) return;
    this.#latest.rows.forEach((row, place) => {
      const { item } = this.#rows.get(row.key ?? OTHER);
      if (this.#list.children[place] !== item) {
        this.#list.insertBefore(item, this.#list.children[place] ?? null);
      }
    });
  }
}
