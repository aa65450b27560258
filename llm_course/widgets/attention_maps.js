// The maps of the attention explorer: all heads small, on one canvas, and one large.

/** Paint values [size, size] of 0 to 1 into a box of a canvas, in the drawing colour. */
function paint(canvas, size, value, [x, y, side]) {
  const small = document.createElement("canvas");
  small.width = small.height = size;
  const pen = small.getContext("2d"), image = pen.createImageData(size, size);
  // a canvas that is not in the page yet has no colour
  const [r, g, b] = (getComputedStyle(canvas).color.match(/\d+/g) ?? [0, 0, 0]).map(Number);
  for (let i = 0; i < size * size; i++) image.data.set([r, g, b, 255 * value(i)], 4 * i);
  pen.putImageData(image, 0, 0);
  const to = canvas.getContext("2d");
  to.imageSmoothingEnabled = size > side;
  to.drawImage(small, x, y, side, side);
}

/** A canvas of this size on the page, sharp on a dense screen. */
function resize(canvas, width, height) {
  const dense = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: width * dense, height: height * dense });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  canvas.getContext("2d").scale(dense, dense);
}

/** Layers downwards, heads across, a gap after each group that shares keys. */
class SmallMaps {
  constructor(lab, parent, pick) {
    Object.assign(this, { lab, pick, buttons: [] });
    this.root = make(parent, "div", { class: "at-small", role: "group",
      "aria-label": "All heads: layers downwards, query heads across" });
    this.canvas = make(this.root, "canvas", { "aria-hidden": "true" });
  }

  place(layer, head) {
    const { cell, group } = this;
    return [22 + head * (cell + 2) + 4 * Math.floor(head / group), layer * (cell + 2), cell];
  }

  show({ layers, heads, group, tokens, head, out }, maps) {
    const size = tokens.length, square = size * size;
    Object.assign(this, { group, cell: Math.max(4, Math.min(15, Math.floor(510 / layers) - 2)) });
    if (!this.buttons.length) this.makeButtons(layers, heads);
    const [right, below, cell] = this.place(layers - 1, heads - 1);
    resize(this.canvas, right + cell + 2, below + cell + 2);
    for (let at = 0; at < layers * heads; at++) {
      const box = this.place(Math.floor(at / heads), at % heads);
      // roots, or most of the weights were too faint for so small a square
      paint(this.canvas, size, (i) => Math.sqrt(maps.getUint8(at * square + i) / 255), box);
    }
    const silent = new Set(out.map(String));
    this.buttons.forEach((button, at) => {
      const here = [Math.floor(at / heads), at % heads];
      const chosen = String(here) === String(head);
      button.setAttribute("aria-pressed", String(chosen));
      button.classList.toggle("at-out", silent.has(String(here)));
      if (!this.root.contains(document.activeElement)) button.tabIndex = chosen ? 0 : -1;
    });
  }

  makeButtons(layers, heads) {
    for (let layer = 0; layer < layers; layer++) {
      const [, top] = this.place(layer, 0);
      if (layer % 5 === 0) {
        make(this.root, "span", { class: "at-layer", style: `top:${top}px` }, String(layer));
      }
      for (let head = 0; head < heads; head++) {
        const [x, y, cell] = this.place(layer, head), name = `layer ${layer}, head ${head}`;
        const button = make(this.root, "button", { type: "button", tabindex: -1, title: name,
          "aria-label": name, style: `left:${x}px;top:${y}px;width:${cell}px;height:${cell}px` });
        this.lab.on(button, "click", () => this.pick(layer, head));
        this.buttons.push(button);
      }
    }
    roving(this.root, "button", this.lab.signal, heads);
  }
}

/** One head: a square for each query and key; `point(query, key)` tells where one is. */
class LargeMap {
  constructor(lab, parent, point) {
    Object.assign(this, { point, room: parent, at: null, size: 0 });
    const frame = make(parent, "div", { class: "at-frame" });
    this.rows = make(frame, "div", { class: "at-rows", "aria-hidden": "true" });
    this.canvas = make(frame, "canvas", { class: "at-large", tabindex: 0, role: "img",
      "aria-label": "Map of one head; the arrow keys move over its squares" });
    this.columns = make(frame, "div", { class: "at-columns", "aria-hidden": "true" });
    this.mark = make(frame, "div", { class: "at-mark" });
    lab.on(this.canvas, "pointermove", (event) => {
      const { left, top } = this.canvas.getBoundingClientRect();
      this.go(Math.floor((event.clientY - top) / this.cell), Math.floor((event.clientX - left) / this.cell));
    });
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    lab.on(this.canvas, "keydown", (event) => {
      if (!moves[event.key]) return;
      event.preventDefault();
      const [query, key] = this.at ?? [this.size - 1, 0], [down, right] = moves[event.key];
      this.go(query + down, key + right);
    });
  }

  go(query, key) {
    const inside = (i) => Math.min(this.size - 1, Math.max(0, i));
    this.at = [inside(query), inside(key)];
    const { cell } = this, { offsetLeft, offsetTop } = this.canvas;
    Object.assign(this.mark.style, { width: `${cell}px`, height: `${cell}px`,
      left: `${offsetLeft + this.at[1] * cell}px`, top: `${offsetTop + this.at[0] * cell}px` });
    [this.rows, this.columns].forEach((side, i) => {
      side.querySelector(".at-here")?.classList.remove("at-here");
      side.children[this.at[i]]?.classList.add("at-here");
    });
    this.point(...this.at);
  }

  /** `value(query, key)` from 0 to 1, or null for what the mask removed. */
  show(tokens, value) {
    const size = (this.size = tokens.length), room = this.room.clientWidth || 380;
    const fits = (width) => Math.min(26, Math.floor(Math.min(400, width) / size));
    // squares too small for a line of text: only those of the marked one are named
    const few = fits(room - 68) < 9, cell = (this.cell = fits(room - (few ? 52 : 68)));
    resize(this.canvas, cell * size, cell * size);
    paint(this.canvas, size, (i) => value(Math.floor(i / size), i % size) ?? 0, [0, 0, cell * size]);
    const pen = this.canvas.getContext("2d");
    pen.fillStyle = "rgba(128, 128, 128, 0.35)"; // what was removed, in both themes
    for (let i = 0; i < size * size; i++) {
      const query = Math.floor(i / size), key = i % size;
      if (value(query, key) === null) pen.fillRect(key * cell, query * cell, cell, cell);
    }
    for (const side of [this.rows, this.columns]) {
      side.replaceChildren();
      side.style.setProperty("--cell", `${cell}px`);
      side.classList.toggle("at-few", few);
      for (const token of tokens) make(side, "span", {}, token);
    }
    this.go(...(this.at ?? [size - 1, 0]));
  }
}
