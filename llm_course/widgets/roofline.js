// The roofline: sliders on the left, the roof on log axes on the right, a table below.
const NEW = "http://www.w3.org/2000/svg", LEFT = 56, WIDE = 460, HIGH = 220;
const WORK = [0.25, 2048], SPEED = [1, 100000]; // the ends of the axes, which stay

function draw(parent, tag, attributes = {}, text = "") {
  const made = parent.appendChild(document.createElementNS(NEW, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

const part = (value, [from, to]) => Math.log(value / from) / Math.log(to / from);
const place = (work, speed) => [LEFT + WIDE * part(work, WORK), 10 + HIGH * (1 - part(speed, SPEED))];
const digits = (n) => Number(n.toPrecision(3)).toLocaleString("en");

function show(svg, { roof, chosen, kinds }) {
  svg.replaceChildren();
  for (const speed of [1, 10, 100, 1000, 10000, 100000]) {
    const y = place(1, speed)[1];
    draw(svg, "line", { x1: LEFT, x2: LEFT + WIDE, y1: y, y2: y, class: "rl-grid" });
    draw(svg, "text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, speed.toLocaleString("en"));
  }
  for (const work of [0.5, 2, 8, 32, 128, 512, 2048]) {
    draw(svg, "text", { x: place(work, 1)[0], y: HIGH + 26, "text-anchor": "middle" }, String(work));
  }
  draw(svg, "text", { x: LEFT + WIDE, y: HIGH + 42, "text-anchor": "end" }, "FLOPs for each byte of weights");
  draw(svg, "text", { x: LEFT + 6, y: 26 }, "GFLOP/s");
  draw(svg, "polyline", { class: "rl-roof", points: roof.map(([w, s]) => place(w, s).join(",")).join(" ") });
  kinds.forEach((kind, i) => {
    const [x, y] = place(kind.work, kind.gflops);
    const above = y - 8 - 12 * i; // one above the other, also where the roof is flat
    draw(svg, "line", { x1: x, x2: x, y1: y, y2: above - 8, class: "rl-grid" });
    draw(svg, "circle", { cx: x, cy: y, r: 4, class: "rl-kind" });
    draw(svg, "text", { x: x - 3, y: above, "text-anchor": "end" }, kind.name);
  });
  const [x, y] = place(chosen.work, chosen.gflops);
  draw(svg, "line", { x1: x, x2: x, y1: y, y2: HIGH + 10, class: "rl-drop" });
  draw(svg, "circle", { cx: x, cy: y, r: 6, class: "rl-chosen" });
  const late = x > LEFT + WIDE / 2; // no room at its right
  draw(svg, "text", { x: x + (late ? -9 : 9), y: y + 15, "text-anchor": late ? "end" : "start" }, "your bits");
}

function render(context) {
  const { model } = context, lab = new Lab(context);
  lab.root.classList.add("rl");
  const body = make(lab.fields, "div", { class: "rl-body" }), left = make(body, "div");
  lab.slider(left, "rows", "rows", { min: 1, max: 256, step: 1 });
  lab.slider(left, "bits", "bits a weight", { min: 2, max: 32, step: 0.5, show: (v) => v.toFixed(1) });
  lab.slider(left, "bandwidth", "GB/s", { min: 5, max: 400, step: 1 });
  lab.slider(left, "peak", "GFLOP/s", { min: 20, max: 4000, step: 10, show: (v) => v.toLocaleString("en") });
  const told = make(left, "p", { role: "status", class: "rl-told" });
  const svg = draw(body, "svg", { viewBox: `0 0 540 ${HIGH + 46}`, role: "img", "aria-label": "roofline", class: "rl-picture" });
  const table = make(lab.fields, "table", { class: "rl-table", "aria-label": "bounds by kind" });
  const head = make(make(table, "thead"), "tr");
  for (const text of ["kind", "bits", "a step, at least", "tokens a second, at most", "limit"]) make(head, "th", { scope: "col" }, text);
  const rows = make(table, "tbody");
  lab.results(svg, told, table);
  lab.watch("chart", () => {
    const { chosen, kinds, turn } = model.get("chart");
    show(svg, model.get("chart"));
    const least = Math.max(1, Math.ceil(turn));
    told.textContent = `At ${chosen.bits.toFixed(1)} bits a step takes at least ${digits(chosen.ms)} ms, for ${digits(chosen.tokens)} tokens a second; the limit is ${chosen.limit}. It is arithmetic from ${least === 1 ? "the first row" : `${least.toLocaleString("en")} rows`} on.`;
    rows.replaceChildren();
    for (const kind of kinds) {
      const line = make(rows, "tr");
      for (const text of [kind.name, String(kind.bits), `${digits(kind.ms)} ms`, digits(kind.tokens), kind.limit]) make(line, "td", {}, text);
    }
  });
}

export default { render };
