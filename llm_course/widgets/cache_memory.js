// Memory of caches: four controls, and two bars a model on a log axis.
const LEAST = 1e6, MOST = 1e15; // bytes, the ends of the axis

/** How far along the axis a number of bytes lies, in percent. */
function along(bytes) {
  const part = Math.log10(Math.max(bytes, LEAST) / LEAST) / Math.log10(MOST / LEAST);
  return `${100 * Math.min(1, part)}%`;
}

/** Bytes in three digits. */
function size(bytes) {
  const [unit, name] = [[1e15, "PB"], [1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "bytes"]].find(([u]) => bytes >= u);
  return `${Number((bytes / unit).toPrecision(3))} ${name}`;
}

function render(context) {
  const { model } = context, lab = new Lab(context);
  lab.root.classList.add("me");
  const controls = make(lab.fields, "div", { class: "me-controls" });
  const two = (v) => (2 ** v).toLocaleString("en");
  lab.slider(controls, "context", "tokens a row", { min: 6, max: 20, step: 1, show: two });
  lab.slider(controls, "rows", "rows", { min: 1, max: 128, step: 1 });
  lab.choice(controls, "dtype", "numbers", ["float32", "bfloat16", "8 bits"].map((n) => [n, n]));
  lab.choice(controls, "sharing", "K/V heads", [["own", "as the model has them"],
    ["none", "one for each query head"], ["one", "one for all"]]);
  make(lab.fields, "div", { class: "lab-quiet" }, "Bytes on a logarithmic scale: equal lengths are equal factors, and bars do not add up.");
  const axis = make(lab.fields, "div", { class: "me-axis", "aria-hidden": "true" });
  for (const bytes of [1e6, 24e9, 80e9, 1e15]) {
    const tick = make(axis, "span", { class: bytes % 1e9 === 0 && bytes < 1e12 && bytes > 1e9 ? "me-card" : "" }, size(bytes));
    tick.style.left = along(bytes);
  }
  const list = make(lab.fields, "div", { role: "list", "aria-label": "models; room: tokens of all rows together" });
  lab.results(list);
  lab.watch("models", () => {
    list.replaceChildren();
    for (const row of model.get("models")) show(list, row);
  });
}

function show(list, row) {
  const root = make(list, "div", { class: "me-model", role: "listitem" });
  const name = make(root, "div", { class: "me-name" });
  make(name, "b", {}, row.name);
  make(name, "span", { class: "lab-quiet" }, `${row.heads} K/V head${row.heads > 1 ? "s" : ""}, ${size(row.token)} a token`);
  const track = make(root, "div", { class: "me-track" });
  for (const kind of ["weights", "cache"]) {
    const bar = make(track, "div", { class: `me-bar me-${kind}` }, `${kind} ${size(row[kind])}`);
    bar.style.setProperty("--to", along(row[kind]));
  }
  const both = row.weights + row.cache; // what must fit
  const sum = make(track, "div", { class: "me-bar me-sum" }, `together ${size(both)}`);
  sum.style.setProperty("--to", along(both));
  for (const card of [24e9, 80e9]) make(track, "i", { class: "me-line" }).style.left = along(card);
  const room = (tokens) => (tokens ? `up to ${tokens.toLocaleString("en")} tokens` : "the weights leave no room");
  const verdict = (fits, i) => `${fits ? "fits" : "over"} ${[24, 80][i]} GB (${room(row.room[i])})`;
  const told = make(root, "div", { class: "me-fits" });
  row.fits.forEach((fits, i) => make(told, "div", { class: fits ? "" : "me-over" }, verdict(fits, i)));
}

export default { render };
