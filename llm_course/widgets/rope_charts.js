// The pictures of the RoPE lab, drawn from the arrays that Python sends.
const TURN = 2 * Math.PI, NEW = "http://www.w3.org/2000/svg";

/** A new SVG element at the end of `parent`. */
function draw(parent, tag, attributes = {}, text = "") {
  const made = parent.appendChild(document.createElementNS(NEW, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

/** An empty picture of this size in its own units, with a name for who cannot see it. */
function picture(parent, width, height, name) {
  return draw(parent, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name,
    class: "rp-picture" });
}

const short = (n) => n < 10 ? n.toFixed(1) : Math.round(n).toLocaleString("en");

/** One dial a pair: the hands start at three o'clock and turn against the clock. The bold
 *  one is that of q, the thin one that of k. */
function dials(svg, { dials: all, never, turns, position }) {
  svg.replaceChildren();
  all.forEach(([pair, angle, full, other], i) => {
    const [x, y] = dialAt(i), tip = [x + 22 * Math.cos(angle), y - 22 * Math.sin(angle)];
    const slow = never[pair] ? "rp-slow" : "rp-fast", wide = angle > Math.PI ? 1 : 0;
    draw(svg, "circle", { cx: x, cy: y, r: 24, class: "rp-dial" });
    draw(svg, "path", { class: `rp-sweep ${slow}`,
      d: `M${x},${y} L${x + 22},${y} A22,22 0 ${wide} 0 ${tip} Z` });
    draw(svg, "line", { x1: x, y1: y, x2: x + 22 * Math.cos(other), y2: y - 22 * Math.sin(other),
      class: "rp-other" });
    const hand = draw(svg, "line", { x1: x, y1: y, x2: tip[0], y2: tip[1], class: `rp-hand ${slow}` });
    draw(svg, "text", { x, y: 68, "text-anchor": "middle" }, `pair ${pair}`);
    draw(svg, "text", { x, y: 82, "text-anchor": "middle" }, full.toLocaleString("en"));
    const name = `pair ${pair} at position ${position}: one turn in ${short(turns[pair])} positions`;
    draw(hand, "title", {}, name);
  });
}

const dialAt = (i) => [32 + 66 * i, 30]; // the middle of dial i

/** Let a pointer turn a dial by its hand; `move` gets the position of q that this means. */
function turnable(lab, svg, chart, move) {
  let grip = null; // the dial that is held, the pointer's angle, and the position so far
  const point = (event, i) => {
    const box = svg.getBoundingClientRect(), scale = 530 / box.width, [x, y] = dialAt(i);
    return [(event.clientX - box.left) * scale - x, y - (event.clientY - box.top) * scale];
  };
  lab.on(svg, "pointerdown", (event) => {
    const { dials: all, position } = chart();
    const i = all.findIndex((_, at) => Math.hypot(...point(event, at)) < 28);
    if (i < 0 || lab.gone) return;
    const [x, y] = point(event, i);
    grip = { i, angle: Math.atan2(y, x), position };
    svg.setPointerCapture(event.pointerId);
    event.preventDefault(); // no text is selected on the way
  });
  lab.on(svg, "pointermove", (event) => {
    if (!grip) return;
    const { dials: all, turns, context } = chart(), [x, y] = point(event, grip.i);
    const angle = Math.atan2(y, x), step = angle - grip.angle;
    const part = step / TURN - Math.round(step / TURN); // the shorter way round
    const to = grip.position + part * turns[all[grip.i][0]];
    grip = { ...grip, angle, position: Math.min(context - 1, Math.max(0, to)) };
    move(Math.round(grip.position));
  });
  for (const end of ["pointerup", "pointercancel"]) lab.on(svg, end, () => { grip = null; });
}

/** Positions per turn of each pair, on a log axis from 1 to 100 million. */
function bars(svg, { turns, never, context }) {
  svg.replaceChildren();
  const top = 8, height = (n) => 96 * Math.min(1, Math.log10(n) / top), wide = 470 / turns.length;
  for (let power = 0; power <= top; power += 1) {
    const y = 100 - height(10 ** power);
    draw(svg, "line", { x1: 52, x2: 524, y1: y, y2: y, class: "rp-grid" });
    if (power % 2 === 0) draw(svg, "text", { x: 46, y: y + 4, "text-anchor": "end" }, ["1", "100", "10,000", "1 M", "100 M"][power / 2]);
  }
  turns.forEach((turn, i) => {
    const bar = draw(svg, "rect", { x: 53 + i * wide, width: Math.max(1, wide - 2), y: 100 - height(turn),
      height: height(turn), class: never[i] ? "rp-slow" : "rp-fast" });
    draw(bar, "title", {}, `pair ${i}: one turn in ${short(turn)} positions`);
  });
  const y = 100 - height(context);
  draw(svg, "line", { x1: 52, x2: 524, y1: y, y2: y, class: "rp-context" });
}

/** q·k by offset, three curves on an axis from -1 to 1, and a mark at one offset. */
function curves(svg, { curves: lines, places }) {
  svg.replaceChildren();
  const far = lines[0][1].length - 1, at = (o, v) => [52 + (472 * o) / far, 56 - 48 * v];
  for (const value of [-1, 0, 1]) {
    const y = at(0, value)[1];
    draw(svg, "line", { x1: 52, x2: 524, y1: y, y2: y, class: "rp-grid" });
    draw(svg, "text", { x: 46, y: y + 4, "text-anchor": "end" }, String(value));
  }
  lines.forEach(([name, values], i) => {
    const line = draw(svg, "polyline", { class: `rp-line rp-line-${i}`, points: values.map((v, o) => at(o, v).map((n) => n.toFixed(1))).join(" ") });
    draw(line, "title", {}, name);
    draw(svg, "text", { x: 110 + 130 * i, y: 124, class: `rp-name rp-line-${i}` }, `— ${name}`);
  });
  draw(svg, "text", { x: 524, y: 124, "text-anchor": "end" }, `offset ${far}`);
  const x = at(places[0] - places[1], 0)[0];
  draw(svg, "line", { x1: x, x2: x, y1: 6, y2: 108, class: "rp-context" });
}

/** The attention map of one head. */
function heads(svg, { tokens, weights }) {
  svg.replaceChildren();
  const cell = 170 / tokens.length;
  weights.forEach((row, q) => row.forEach((weight, k) => {
    if (k > q) return;
    const square = draw(svg, "rect", { x: k * cell, y: q * cell, width: cell, height: cell,
      class: "rp-fast", "fill-opacity": weight });
    draw(square, "title", {}, `“${tokens[q]}” reads “${tokens[k]}”: ${weight.toFixed(3)}`);
  }));
  draw(svg, "rect", { x: 0, y: 0, width: 170, height: 170, class: "rp-dial" });
}
