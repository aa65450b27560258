// The RoPE lab: controls on the left, clocks, wavelengths and scores on the right, and a
// sentence below.

function render(context) {
  const { model } = context, lab = new Lab(context);
  lab.root.classList.add("rp");
  const top = make(lab.fields, "div", { class: "rp-part" }), left = make(top, "div");
  const power = (v) => short(10 ** v), two = (v) => (2 ** v).toLocaleString("en");
  lab.slider(left, "theta", "base θ", { min: 2, max: 7, step: 0.1, show: power });
  lab.choice(left, "head_dim", "head_dim", ["8", "16", "32", "64", "128"].map((n) => [n, n]));
  lab.slider(left, "context", "context", { min: 6, max: 17, step: 1, show: two });
  lab.choice(left, "scaling", "scaling", [["none", "none"], ["linear", "linear, all ÷ 4"],
    ["llama3", "llama3, slow pairs ÷ 4"]]);
  lab.slider(left, "position", "position of q", { min: 0, max: 8191, step: 1, show: (v) => v.toLocaleString("en") });
  lab.slider(left, "offset", "offset, q − k", { min: 0, max: 128, step: 1 });
  lab.slider(left, "pair", "pair drawn", { min: 0, max: 63, step: 1 });
  lab.check(left, "rounded", "angles in bfloat16");
  const count = make(left, "p", { class: "rp-told", role: "status" });
  const score = make(left, "p", { class: "rp-told", role: "status" });
  const right = make(top, "div", { class: "rp-charts" });
  const section = (text, width, height) => {
    make(right, "div", { class: "lab-quiet" }, text);
    return picture(right, width, height, text);
  };
  const clocks = section("the pairs as clocks and how often q has turned; q bold, k thin; turn one by its hand", 530, 88);
  clocks.classList.add("rp-clocks");
  turnable(lab, clocks, () => model.get("chart"), (position) => {
    lab.write({ position });
    lab.moved();
  });
  const waves = section("positions per turn, pair by pair; dashed: the context", 530, 104);
  const lines = section("q·k by offset, a mean over pairs of length 1", 530, 128);

  const below = make(lab.fields, "div", { class: "rp-part" }), words = make(below, "div");
  lab.text(words, "text", "sentence, 2 to 24 tokens", 2);
  lab.choice(words, "pairs", "pairs", [["adjacent", "adjacent"],
    ["half-split", "half-split, reordered"], ["wrong", "wrong pairs"]]);
  const said = make(words, "p", { class: "rp-told", role: "status" });
  const shown = make(below, "div", { class: "rp-sentence" });
  const figure = make(shown, "div");
  make(figure, "div", { class: "lab-quiet" }, "rows read columns");
  const map = picture(figure, 170, 170, "attention map of one head");
  const next = make(shown, "div");
  const title = make(next, "div", { class: "lab-quiet" });
  const list = make(next, "ol", { class: "rp-next", "aria-label": "next tokens" });

  lab.results(right, count, score);
  const there = lab.results(shown, said);
  lab.watch("chart", () => {
    const chart = model.get("chart"), slow = chart.never.filter(Boolean).length;
    lab.limit("offset", { max: Math.min(128, chart.context - 1) });
    // k does not stand before the text
    lab.limit("position", { min: chart.offset, max: chart.context - 1 });
    lab.limit("pair", { max: chart.turns.length - 1 });
    dials(clocks, chart);
    bars(waves, chart);
    curves(lines, chart);
    count.textContent = `${slow} of ${chart.never.length} pairs never complete a turn in ${chart.context.toLocaleString("en")} positions.`;
    const [m, n] = chart.places.map((place, i) => {
      const read = chart.read_as[i], name = place.toLocaleString("en");
      return read === place ? name : `${name} (${read.toLocaleString("en")} in bfloat16)`;
    });
    score.textContent = `q at ${m}, k at ${n}: q·k = ${chart.score.toFixed(3)} (all pairs)`;
  });
  lab.watch("sentence", () => {
    const sentence = model.get("sentence");
    there(sentence.tokens);
    if (!sentence.tokens) return;
    heads(map, sentence);
    title.textContent = "next token, with this θ, scaling, rounding and pairing in every layer";
    said.textContent = `${sentence.head}: ${sentence.previous.toFixed(2)} of its attention is on the token before.`;
    list.replaceChildren();
    for (const [token, p] of sentence.words) make(list, "li", {}, `“${token}” ${(100 * p).toFixed(1)} %`);
  });
}

export default { render };
