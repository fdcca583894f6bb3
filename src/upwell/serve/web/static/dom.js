// Small hands for the document. Nothing is written that is there already: focus, selection and
// screen readers are disturbed by every change.

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** An element with class, text and children. */
export function element(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export function part(tile, name) {
  return tile.querySelector(`[data-part="${name}"]`);
}

/** A change as arrow, hidden word and figure in `node`, which is filled once and then updated. */
export function showChange(node, { way, arrow, words, text }) {
  if (!node.childElementCount) {
    const mark = element("span");
    mark.setAttribute("aria-hidden", "true");
    node.replaceChildren(mark, element("span", "unseen"), element("span"));
  }
  setAttribute(node, "data-way", way);
  const [mark, word, figure] = node.children;
  setText(mark, arrow ? `${arrow} ` : "");
  setText(word, words ? `${words} ` : "");
  setText(figure, text);
}

/** The colour of a custom property as the canvas understands it. */
export function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const probe = element("span");
probe.hidden = true;
document.body.append(probe);
