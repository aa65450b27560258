// The playground: controls on the left, the chart on the right, two texts below.
const off = (from, digits, one) => (v) => (v === from ? "off" : v === one ? "best" : v.toFixed(digits));

function sliders(lab, parent) {
  const add = (name, text, min, max, step, show) =>
    lab.slider(parent, name, text, { min, max, step, show });
  add("temperature", "temperature", 0, 2.5, 0.05, (v) => (v === 0 ? "greedy" : v.toFixed(2)));
  add("top_k", "top-k", 0, 200, 1, off(0, 0));
  add("top_p", "top-p", 0, 1, 0.01, off(1, 2, 0));
  add("min_p", "min-p", 0, 1, 0.01, off(0, 2, 1));
  add("repetition_penalty", "repetition penalty", 1, 2, 0.05, off(1, 2));
  add("seed", "seed", 0, 99, 1);
  add("max_new_tokens", "length", 1, 200, 1);
}

function presets(lab, parent) {
  const row = make(parent, "label", { class: "lab-row" });
  make(row, "span", {}, "preset");
  const select = make(row, "select"), all = lab.model.get("presets");
  for (const name of ["–", ...Object.keys(all)]) make(select, "option", {}, name);
  lab.on(select, "change", () => {
    if (!all[select.value]) return;
    lab.write(all[select.value]);
    lab.moved();
  });
  lab.on(parent.closest(".lab"), "input", (event) => {
    if (event.target.type === "range") select.value = "–"; // no longer that preset
  });
}

function buttons(lab, parent) {
  const generate = lab.button(parent, "Generate", "generate");
  generate.classList.add("lab-main");
  lab.button(parent, "One token", "step");
  const stop = lab.button(parent, "Stop", "stop");
  make(parent, "span", { class: "pg-scale" }, "expected → surprising to the model");
  lab.watch("running", () => { stop.disabled = !lab.model.get("running"); });
}

function render(context) {
  const { model } = context, lab = new Lab(context);
  lab.root.classList.add("pg");
  const top = make(lab.fields, "div", { class: "pg-prompt" });
  lab.text(top, "prompt", "prompt");
  const how = make(top, "div");
  lab.choice(how, "mode", "read as", [["raw", "text to continue"], ["chat", "chat message"]]);
  presets(lab, how);
  const middle = make(lab.fields, "div", { class: "pg-middle" });
  const left = make(middle, "div");
  sliders(lab, left);
  const chart = new Chart(lab, middle, (token) => {
    const { at } = model.get("chart");
    lab.send("branch", { at, token });
  });
  chart.table(left);
  buttons(lab, make(lab.fields, "div", { class: "pg-buttons" }));
  const texts = new Texts(lab, lab.fields, (name, at = 0) => {
    const kept = model.get("texts")[name].settings;
    texts.activate(name);
    lab.write({ ...kept, column: name });
    place = at;
    lab.moved();
  });
  let place = 0; // the token that the chart shows
  lab.place = () => ({ at: place });
  lab.watch("texts shared", () => texts.show(model.get("texts"), model.get("shared")));
  lab.watch("running", () => !model.get("running") && texts.showFork());
  lab.watch("chart texts", () => texts.mark(model.get("chart")));
  lab.watch("chart", () => {
    const data = model.get("chart");
    chart.show(data);
    if (data.rows) place = data.at;
  });
}

export default { render };
