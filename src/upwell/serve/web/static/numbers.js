// Tiles that show one number, and its change against the period before.

import { change, full } from "./format.js";
import { part, setText, showChange } from "./dom.js";

export function showNumber(tile, data, metric) {
  setText(part(tile, "value"), full(metric, data.value));
  showChange(part(tile, "change"), change(data.change));
  setText(part(tile, "previous"), data.previous == null ? "" : `from ${full(metric, data.previous)}`);
}
