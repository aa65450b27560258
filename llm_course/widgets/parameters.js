// The configurator: a model's shape on the left, its parameters by part on the right.

/** Bytes in three digits. */
function size(bytes) {
  const [unit, name] = bytes >= 1e9 ? [1e9, "GB"] : [1e6, "MB"];
  return `${Number((bytes / unit).toPrecision(3))} ${name}`;
}

function render(context) {
  const { model } = context, lab = new Lab(context), shapes = model.get("shapes");
  lab.root.classList.add("pa");
  const left = make(lab.fields, "div"), right = make(lab.fields, "div");
  lab.fields.classList.add("pa-body");
  const row = make(left, "label", { class: "lab-row" });
  make(row, "span", {}, "shape of");
  const known = make(row, "select");
  for (const name of [...Object.keys(shapes), "–"]) make(known, "option", {}, name);
  lab.on(known, "change", () => {
    if (!shapes[known.value]) return;
    lab.write(shapes[known.value]);
    lab.moved();
  });
  const show = (v) => v.toLocaleString("en"), pairs = (values) => values.map((v) => [String(v), show(v)]);
  lab.slider(left, "layers", "layers", { min: 1, max: 96, step: 1 });
  lab.slider(left, "hidden", "hidden width", { min: 64, max: 8192, step: 64, show });
  lab.slider(left, "inner", "MLP width", { min: 64, max: 28672, step: 64, show });
  lab.slider(left, "kv_heads", "K/V heads", { min: 1, max: 64, step: 1 });
  lab.choice(left, "group", "queries for each", pairs([1, 2, 3, 4, 8]));
  lab.choice(left, "head_dim", "width of a head", pairs([32, 64, 128]));
  lab.choice(left, "vocab", "vocabulary", pairs([32000, 49152, 128256]));
  lab.check(left, "tied", "head and embedding are one matrix");
  const total = make(right, "div", { role: "status", class: "pa-total" });
  const list = make(right, "div", { role: "list", "aria-label": "parts" });
  lab.results(right);
  lab.watch("parts", () => {
    const parts = model.get("parts"), sum = model.get("total"), now = lab.settings();
    known.value = Object.keys(shapes).find((name) => Object.keys(now).every((key) => shapes[name][key] === now[key])) ?? "–";
    total.textContent = `${show(sum)} parameters: ${size(4 * sum)} in float32, ${size(2 * sum)} in bfloat16; ${show(now.kv_heads * now.group)} query heads`;
    list.replaceChildren();
    for (const [name, count] of Object.entries(parts)) {
      const line = make(list, "div", { role: "listitem", class: "pa-part" }), share = count / sum;
      make(line, "span", {}, name);
      const bar = make(make(line, "span", { class: "pa-track" }), "span", { class: "pa-bar" });
      bar.style.width = `${100 * share}%`;
      make(line, "span", { class: "pa-number" }, `${show(count)}, ${(100 * share).toFixed(1)} %`);
    }
  });
}

export default { render };
