// Elements of a page: the first part of every widget's module.

/** A new element at the end of `parent`, with attributes and perhaps a text. */
function make(parent, tag, attributes = {}, text = "") {
  const made = parent.appendChild(document.createElement(tag));
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  if (text) made.textContent = text;
  return made;
}

/** Arrow keys, Home and End move among a group's items, which share one tab stop; of a
 *  grid, `across` stand in a row. */
function roving(group, selector, signal, across = 1) {
  const steps = { ArrowRight: 1, ArrowDown: across, ArrowLeft: -1, ArrowUp: -across };
  group.addEventListener("keydown", (event) => {
    const items = [...group.querySelectorAll(selector)];
    const at = items.indexOf(document.activeElement), last = items.length - 1;
    const to = { Home: 0, End: last }[event.key] ?? at + steps[event.key];
    if (at < 0 || Number.isNaN(to)) return;
    for (const item of items) item.tabIndex = -1;
    const next = items[Math.min(last, Math.max(0, to))];
    next.tabIndex = 0;
    next.focus();
    event.preventDefault();
  }, { signal });
}
