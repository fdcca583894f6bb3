// The colours of a dimension's values. A value keeps its colour for as long as the page is open, and
// on every other page that draws it; of values that are drawn together no two look alike. What is not
// drawn by itself has the colour of "Other".

const COLOURS = 10; // --series-0 and on; more than a chart has layers
const OTHER = "--series-other";

export class Palette {
  #places = new Map();

  /** Colours for all that is drawn together. Ranks are stable, so another page begins alike. */
  take(series) {
    const different = [...new Map(series.map((each) => [each.key, each])).values()];
    const isNew = ({ key }) => Number(!this.#places.has(key));
    const taken = new Set();
    for (const { key, rank } of different.sort((a, b) => isNew(a) - isNew(b) || a.rank - b.rank)) {
      if (rank < 0) continue;
      let place = this.#places.get(key) ?? rank % COLOURS;
      while (taken.has(place) && taken.size < COLOURS) place = (place + 1) % COLOURS;
      taken.add(place);
      this.#places.set(key, place);
    }
  }

  /** The custom property of a series or row. */
  property({ key, rank }) {
    return rank < 0 || !this.#places.has(key) ? OTHER : `--series-${this.#places.get(key)}`;
  }
}
