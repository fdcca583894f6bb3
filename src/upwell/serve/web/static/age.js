// The badge that says how old the data is. It counts on while nothing is heard; the page says why.

import { age as ageText } from "./format.js";
import { setAttribute, setText } from "./dom.js";

const WORDS = { live: "Live", delayed: "Delayed", waiting: "Waiting", reconnecting: "Reconnecting" };
const STEP_MS = 1000;
const LASTING_MS = 5000; // a connection that is lost and found again is not worth a word

export class Age {
  #badge = document.getElementById("age");
  #state = document.getElementById("age-state");
  #text = document.getElementById("age-text");
  #announce = document.getElementById("announce");
  #heard = null;
  #heardAt = 0;
  #isLost = false;
  #troubledAt = null;

  /** `on` has `late(since, why)`, with the time the data is of, `stuck(why)` and `fresh()`. */
  constructor(on) {
    this.on = on;
    setInterval(() => {
      if (performance.now() - this.#heardAt >= STEP_MS) this.#show();
    }, STEP_MS);
  }

  /** What the server says, every second. */
  hear(age) {
    this.#heard = age;
    this.#heardAt = performance.now();
    this.#isLost = false;
    this.#show();
    this.#troubledAt = age.trouble ? (this.#troubledAt ?? this.#heardAt) : null;
    const isLasting = age.trouble && this.#heardAt - this.#troubledAt >= LASTING_MS;
    if (age.state === "live" && isLasting) this.on.stuck(age.trouble);
    else if (age.state === "live") this.on.fresh();
    else if (age.trouble && age.age_ms !== null) this.on.late(Date.now() - age.age_ms, age.trouble);
  }

  /** The connection to the server is gone. */
  lose() {
    this.#isLost = true;
    this.#show();
  }

  #show() {
    const heard = this.#heard;
    const state = this.#isLost ? "reconnecting" : (heard?.state ?? "waiting");
    const passed = performance.now() - this.#heardAt;
    const old = heard?.age_ms == null ? "" : `data ${ageText(heard.age_ms + passed)} old`;
    const why = state === "waiting" ? (heard?.trouble ?? "") : "";
    setAttribute(this.#badge, "data-state", state);
    setText(this.#state, WORDS[state]);
    setText(this.#text, old || why);
    setText(this.#announce, WORDS[state]);
  }
}
