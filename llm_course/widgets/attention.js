// The attention explorer: a sentence, all heads small, one large, rankings, knock-outs.

function render(context) {
  const { model } = context, lab = new Lab(context), state = { query: -1, ...model.get("settings") };
  lab.root.classList.add("at");
  lab.text(lab.fields, "sentence", "sentence, 3 to 64 tokens", 1);
  for (const name of ["layer", "head", "out"]) { // set by clicks, not by inputs
    lab.controls[name] = { read: () => state[name], write: (v) => { state[name] = v; } };
  }
  const pick = (layer, head) => {
    Object.assign(state, { layer, head });
    lab.moved();
  };
  const [row, tokens] = tokenRow(lab, state, () => {
    draw();
    const read = [...Array(state.query + 1).keys()].map((key) => weight(state.query, key));
    large.go(state.query, read.indexOf(Math.max(...read))); // the map shows the same token
  });
  const body = make(lab.fields, "div", { class: "at-body" });
  const small = new SmallMaps(lab, body, pick);
  const middle = make(body, "div", { class: "at-middle" });
  const title = make(middle, "b");
  const large = new LargeMap(lab, middle, () => told());
  const readout = make(middle, "output", { class: "at-told", "aria-label": "the square" });
  const right = make(body, "div", { class: "at-right" });
  lab.choice(right, "stage", "show", [["scores", "1 scores"], ["masked", "2 after the mask"],
    ["weights", "3 after softmax"]]);
  const knock = make(right, "button", { type: "button", class: "lab-button" });
  lab.on(knock, "click", () => {
    const here = String([state.layer, state.head]), rest = state.out.filter((h) => String(h) !== here);
    state.out = rest.length < state.out.length ? rest : [...rest, [state.layer, state.head]];
    lab.moved();
  });
  const all = make(right, "button", { type: "button", class: "lab-button" }, "All heads back");
  lab.on(all, "click", () => { state.out = []; lab.moved(); });
  const words = table(right, "Next token", ["next token", "whole model", "now"]);
  lab.choice(right, "rank", "rank by", ["token before", "first token", "itself", "induction",
    "entropy"].map((name) => [name, name === "entropy" ? "entropy, in bits" : name]));
  const ranks = make(right, "div", { class: "at-ranks", role: "group", "aria-label": "Heads, the strongest first" });
  roving(ranks, "button", lab.signal);
  const there = lab.results(row, body);

  const resized = new ResizeObserver(() => { // also when it comes into the page
    if (!numbers) return;
    small.show(model.get("chart"), model.get("maps"));
    draw();
  });
  resized.observe(middle);
  lab.signal.addEventListener("abort", () => resized.disconnect());
  let numbers = null; // Float32Array: scores, then weights
  const score = (query, key) => numbers[query * large.size + key];
  const weight = (query, key) => numbers[large.size ** 2 + query * large.size + key];

  function told() {
    const chart = model.get("chart"), [query, key] = large.at;
    if (!numbers) return;
    const names = `“${chart.tokens[query]}” reads “${chart.tokens[key]}”`;
    const before = `score ${score(query, key).toFixed(2)}`;
    readout.textContent = key > query ? `${names}: removed by the mask (${before})`
      : `${names}: ${before}, weight ${weight(query, key).toFixed(3)}`;
  }

  function draw() {
    const chart = model.get("chart"), size = chart.tokens.length;
    const query = state.query < 0 || state.query >= size ? size - 1 : state.query;
    tokens(chart.tokens, query, weight);
    const scores = numbers.subarray(0, size * size), stage = lab.controls.stage.read();
    const least = Math.min(...scores), most = Math.max(...scores);
    large.show(chart.tokens, (q, k) => {
      if (k > q && stage !== "scores") return null;
      return stage === "weights" ? weight(q, k) : (score(q, k) - least) / (most - least || 1);
    });
  }

  lab.watch("chart", () => {
    const chart = model.get("chart");
    there(chart.tokens);
    if (!chart.tokens) { numbers = null; return; }
    const bytes = model.get("large");
    numbers = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    large.size = chart.tokens.length;
    const [layer, head] = chart.head, silent = chart.out.some((h) => String(h) === String(chart.head));
    title.textContent = `layer ${layer}, query head ${head} (K/V head ${Math.floor(head / chart.group)})`;
    knock.textContent = silent ? "Bring this head back" : "Knock this head out";
    all.disabled = !chart.out.length;
    all.textContent = `All heads back (${chart.out.length} out)`;
    small.show(chart, model.get("maps"));
    words(chart.words.map(([token, before, now]) => [`“${token}”`, ...[before, now].map((p) => `${(100 * p).toFixed(1)} %`)]));
    rankRows(chart);
    draw();
  });
  lab.on(lab.controls.stage.input, "input", () => draw());

  function rankRows({ ranked, head }) {
    while (ranks.children.length < ranked.length) {
      const button = make(ranks, "button", { type: "button", tabindex: ranks.children.length ? -1 : 0 });
      lab.on(button, "click", () => pick(...button.head));
    }
    ranked.forEach(([layer, at, value], i) => {
      const button = ranks.children[i];
      button.head = [layer, at];
      button.textContent = `layer ${layer}, head ${at}: ${value.toFixed(2)}`;
      button.setAttribute("aria-pressed", String(String([layer, at]) === String(head)));
    });
  }
}

/** The sentence as buttons, tinted by where the chosen query looks. */
function tokenRow(lab, state, changed) {
  const row = make(lab.fields, "div", { class: "at-tokens", role: "group",
    "aria-label": "Tokens: choose one to see where it looks" });
  roving(row, "button", lab.signal);
  lab.on(row, "click", (event) => {
    const at = [...row.children].indexOf(event.target.closest("button"));
    if (at >= 0) { state.query = at; changed(); }
  });
  return [row, (tokens, query, weight) => {
    while (row.children.length > tokens.length) row.lastChild.remove();
    tokens.forEach((token, key) => {
      const button = row.children[key] ?? make(row, "button", { type: "button" });
      const share = key > query ? 0 : weight(query, key);
      button.textContent = token.replaceAll("\n", "⏎") || " ";
      button.title = key > query ? "later: not read" : `weight ${share.toFixed(3)}`;
      button.setAttribute("aria-label", `${token}: ${button.title}`);
      button.setAttribute("aria-pressed", String(key === query));
      button.style.setProperty("--share", share);
      button.classList.toggle("at-later", key > query);
      button.tabIndex = key === query ? 0 : -1;
    });
  }];
}

/** A table whose body is written anew by the function that this returns. */
function table(parent, name, head) {
  const made = make(parent, "table", { class: "at-table", "aria-label": name });
  const row = make(make(made, "thead"), "tr");
  for (const text of head) make(row, "th", { scope: "col" }, text);
  const body = make(made, "tbody");
  return (rows) => {
    body.replaceChildren();
    for (const cells of rows) {
      const line = make(body, "tr");
      for (const text of cells) make(line, "td", {}, text);
    }
  };
}

export default { render };
