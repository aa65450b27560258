// The chart of the playground: tokens before and after a filter, and a table of filters.

/** A probability in few characters: 12.3 %, 0.45 %, 3e-5. */
function percent(p) {
  if (p === 0) return "0";
  const hundred = 100 * p;
  if (hundred >= 9.95) return `${hundred.toFixed(1)} %`;
  return hundred >= 0.01 ? `${hundred.toPrecision(2)} %` : p.toExponential(0);
}

/** How far along a fixed axis a probability lies, from 0 to 1. */
function along(p, log, least) {
  return log ? Math.max(0, 1 - Math.log10(Math.max(p, least)) / Math.log10(least)) : p;
}

class Chart {
  /** `pick(id)` is called with the token of a row that was chosen. */
  constructor(lab, parent, pick) {
    Object.assign(this, { lab, pick, stage: "all", rows: [] });
    this.root = make(parent, "div", { class: "pg-chart" });
    const top = make(this.root, "div", { class: "pg-top" });
    this.title = make(top, "div", { class: "pg-title" });
    const label = make(top, "label", { class: "lab-check" });
    this.log = make(label, "input", { type: "checkbox" });
    make(label, "span", {}, "log axis");
    lab.on(this.log, "change", () => this.draw());
    this.axis = make(this.root, "div", { class: "pg-axis", "aria-hidden": "true" });
    this.list = make(this.root, "div", { class: "pg-rows", role: "group",
      "aria-label": "Next tokens; Enter branches to the other text" });
    roving(this.list, "button", lab.signal);
    this.hint = make(this.root, "div", { class: "lab-quiet" });
  }

  /** The table of filters: one row each, by which the bars are chosen. */
  table(parent) {
    const table = make(parent, "table", { class: "pg-table" });
    const head = make(make(table, "thead"), "tr");
    for (const text of ["bars show", "kept in turn", "cut", "tokens left"]) {
      make(head, "th", { scope: "col" }, text);
    }
    this.body = make(table, "tbody");
    this.there = this.lab.results(this.root, table);
  }

  tableRow(name, value) {
    const row = make(this.body, "tr");
    const label = make(make(row, "th", { scope: "row" }), "label");
    const input = make(label, "input", { type: "radio", name: `stage-${this.lab.page}`, value });
    make(label, "span", {}, name);
    input.checked = value === this.stage;
    this.lab.on(input, "change", () => { this.stage = value; this.draw(); });
    return [0, 1, 2].map(() => make(row, "td"));
  }

  show(data) {
    this.data = data;
    this.there(data.rows);
    if (data.rows) this.draw();
  }

  draw() {
    const { data } = this, { stages } = data, last = stages.length - 1;
    if (!this.cells) {
      const names = stages.slice(1).map((s, i) => [s.name, String(i + 1)]);
      this.cells = [["all filters", "all"], ...names].map((row) => this.tableRow(...row));
    }
    const share = (p) => percent(p < 1e-6 ? 0 : p); // less than that is float32's rounding
    const numbers = (kept, left) => [percent(kept), share(1 - kept), left.toLocaleString("en")];
    const kept = stages.reduce((product, s) => product * s.kept, 1);
    const lines = [numbers(kept, stages[last].left), ...stages.slice(1).map((s) =>
      [percent(s.kept), share(s.cut), s.left.toLocaleString("en")])];
    lines.forEach((line, i) => line.forEach((text, j) => { this.cells[i][j].textContent = text; }));
    this.drawBars(this.stage === "all" ? [0, last] : [this.stage - 1, Number(this.stage)]);
  }

  drawBars([from, to]) {
    const { data } = this, log = this.log.checked;
    this.title.textContent = `next token after “…${data.tail}”`;
    const other = data.column === "A" ? "B" : "A"; // where a branch is written
    this.hint.textContent = `A click on a bar goes on with its token in text ${other}, and replaces that text.`;
    const ticks = log ? [1e-4, 1e-3, 1e-2, 0.1, 1] : [0, 0.25, 0.5, 0.75, 1];
    this.axis.replaceChildren();
    for (const p of ticks) {
      const tick = make(this.axis, "span", {}, `${Number((100 * p).toPrecision(2))} %`);
      tick.style.left = `${100 * along(p, log, data.least)}%`;
    }
    const all = [...data.rows, { label: "all others", probs: data.others }];
    all.forEach((row, i) => this.bar((this.rows[i] ??= this.makeRow(i < data.rows.length)), row, {
      before: row.probs[from], after: row.probs[to], log }));
  }

  makeRow(isToken) {
    const tag = isToken ? "button" : "div", tabindex = this.rows.length ? -1 : 0;
    const root = make(this.list, tag, { class: "pg-row", ...(isToken ? { type: "button", tabindex } : {}) });
    const label = make(root, "span", { class: "pg-label" });
    const track = make(root, "span", { class: "pg-track" });
    const [after, before] = ["pg-after", "pg-before"].map((name) => make(track, "span", { class: name }));
    const made = { root, label, before, after, number: make(root, "span", { class: "pg-number" }) };
    if (isToken) this.lab.on(root, "click", () => this.pick(made.id));
    return made;
  }

  bar(made, row, { before, after, log }) {
    const { data } = this, width = (p) => `${100 * along(p, log, data.least)}%`;
    const chosen = row.id !== undefined && row.id === data.chosen;
    made.id = row.id;
    made.label.textContent = row.label;
    made.before.style.width = width(before);
    made.after.style.width = width(after);
    made.number.textContent = `${percent(before)} → ${percent(after)}`;
    made.root.classList.toggle("pg-gone", after === 0);
    made.root.classList.toggle("pg-chosen", chosen);
    const by = after === 0 && row.cut ? `, cut by ${data.stages[row.cut].name}` : "";
    const said = `${row.label}: ${percent(before)} before, ${percent(after)} after${by}`;
    made.root.title = said + (chosen ? ", drawn here" : "");
    if (row.id !== undefined) made.root.setAttribute("aria-label", made.root.title);
  }
}
