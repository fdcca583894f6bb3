// The live stream of one view. Connects again by itself, and says when it is not connected.

const SILENCE_MS = 6000; // the server speaks every second
const RETRY_MS = 2000;

export class Stream {
  #source = null;
  #address = "";
  #silence = 0;
  #retry = 0;

  /** `on` has `view(payload)`, `age(age)`, `lost()` and `refused(problem)`. */
  constructor(on) {
    this.on = on;
  }

  /** Follow another address; "" follows none. */
  open(address) {
    this.#address = address;
    this.#connect();
  }

  close() {
    clearTimeout(this.#silence);
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #connect() {
    this.close();
    if (!this.#address) return;
    const source = new EventSource(this.#address);
    this.#source = source;
    this.#listen();
    source.addEventListener("open", () => this.#listen());
    source.addEventListener("view", (event) => {
      this.#listen();
      this.on.view(JSON.parse(event.data));
    });
    source.addEventListener("age", (event) => {
      this.#listen();
      this.on.age(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      this.on.lost();
      if (source.readyState === EventSource.CLOSED) this.#explain();
    });
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.on.lost();
      this.#connect();
    }, SILENCE_MS);
  }

  // The server answered, but with no stream: ask why, and try again in a while.
  async #explain() {
    this.close();
    const address = this.#address;
    this.#retry = setTimeout(() => this.#connect(), RETRY_MS);
    const control = new AbortController();
    try {
      const answer = await fetch(address, { signal: control.signal });
      if (!answer.ok && address === this.#address) this.on.refused(await answer.json());
    } catch {
      // not reachable at all: "reconnecting" says so already
    } finally {
      control.abort();
    }
  }
}
