// The layer lens: a row for each layer, the last on top, with two boxes to leave it or
// its MLP out; a column for each position.
const percent = (p) => `${(100 * p).toFixed(1)} %`, quoted = (token) => `“${token.replaceAll("\n", "⏎")}”`;

function render(context) {
  const { model } = context, lab = new Lab(context), out = { layers: [], mlps: [] };
  lab.root.classList.add("ln");
  lab.text(lab.fields, "prompt", "prompt, up to 14 tokens", 1);
  const body = make(lab.fields, "div", { class: "ln-body" });
  const grid = make(body, "div", { class: "ln-grid" });
  const side = make(body, "div", { class: "ln-side" });
  const place = make(side, "b"), best = make(side, "ol", { "aria-label": "the five best here" });
  make(side, "b", {}, "Next token");
  const words = make(side, "table", { class: "ln-words", "aria-label": "next token" });
  const back = make(side, "button", { type: "button", class: "lab-button" }, "All parts back");
  for (const kind of ["layers", "mlps"]) {
    lab.controls[kind] = { read: () => out[kind], write: (v) => { out[kind] = v; mark(); } };
  }
  Object.assign(out, { layers: model.get("settings").layers, mlps: model.get("settings").mlps });
  lab.on(back, "click", () => { Object.assign(out, { layers: [], mlps: [] }); mark(); lab.moved(); });
  const there = lab.results(body);
  let at = null, boxes = [], cells = [], shape = "", keys = null;

  /** Rows of boxes and cells, made anew only for another number of them. */
  function build({ cells: rows, tokens }) {
    grid.replaceChildren();
    keys?.abort();
    keys = new AbortController();
    roving(grid, "button", keys.signal, tokens.length);
    grid.style.setProperty("--columns", tokens.length);
    boxes = [];
    cells = [];
    for (const text of ["", "layer", "MLP", ...tokens]) make(grid, "span", { class: "ln-head", title: text }, text);
    for (let row = rows.length - 1; row >= 0; row--) {
      const layer = row - 1;
      make(grid, "span", { class: "ln-name" }, layer < 0 ? "embedding" : `layer ${layer}`);
      for (const kind of ["layers", "mlps"]) {
        if (layer < 0) { make(grid, "span"); continue; }
        const box = make(grid, "input", { type: "checkbox", "aria-label": kind === "layers" ? `layer ${layer}` : `MLP of layer ${layer}` });
        lab.on(box, "change", () => {
          out[kind] = box.checked ? out[kind].filter((n) => n !== layer) : [...out[kind], layer];
          mark();
          lab.moved();
        });
        boxes.push([box, kind, layer]);
      }
      rows[row].forEach((_, column) => {
        const cell = make(grid, "button", { type: "button", tabindex: -1 });
        for (const event of ["pointerenter", "focus"]) lab.on(cell, event, () => look(row, column));
        cells.push([cell, row, column]);
      });
    }
  }

  function mark() {
    for (const [box, kind, layer] of boxes) {
      box.disabled = kind === "mlps" && out.layers.includes(layer); // it goes with its layer
      box.checked = !box.disabled && !out[kind].includes(layer);
    }
  }

  function look(row, column) {
    at = [row, column];
    const { cells: rows, tokens } = model.get("grid");
    place.textContent = `${row ? `After layer ${row - 1}` : "The embedding"}, at ${quoted(tokens[column])}`;
    best.replaceChildren();
    for (const [token, p] of rows[row][column]) make(best, "li", {}, `${quoted(token)} ${percent(p)}`);
  }

  lab.watch("grid", () => {
    const data = model.get("grid");
    there(data.cells);
    if (!data.cells) return;
    const now = JSON.stringify([data.cells.length, data.tokens]);
    if (now !== shape) { build(data); shape = now; at = null; }
    for (const [cell, row, column] of cells) {
      const [token, p] = data.cells[row][column][0];
      cell.textContent = token.trim() || token.includes("\n") ? token.replaceAll("\n", "⏎") : "␣";
      cell.style.setProperty("--p", p);
      cell.title = `${quoted(token)} ${percent(p)}`;
      cell.setAttribute("aria-label", `${row ? `layer ${row - 1}` : "embedding"}, ${data.tokens[column]}: ${token} ${percent(p)}`);
      cell.classList.toggle("ln-out", row > 0 && data.out[0].includes(row - 1));
    }
    if (!cells.some(([cell]) => cell.tabIndex === 0)) cells[data.tokens.length - 1][0].tabIndex = 0;
    mark();
    look(...(at ?? [data.cells.length - 1, data.tokens.length - 1]));
    const last = data.cells.at(-1).at(-1);
    words.replaceChildren();
    for (const line of [["whole model", "", "now", ""], ...last.map(([token, p], i) => [quoted(data.whole[i][0]), percent(data.whole[i][1]), quoted(token), percent(p)])]) {
      const row = make(words, "tr");
      for (const text of line) make(row, "td", {}, text);
    }
    back.disabled = !data.out.some((part) => part.length);
  });
}

export default { render };
