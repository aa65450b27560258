// The cache lab: a prompt, the slots of a real cache, and a race.

function render(context) {
  const { model } = context, lab = new Lab(context);
  lab.root.classList.add("cl");
  lab.text(lab.fields, "prompt", "prompt", 1);
  const row = make(lab.fields, "div", { class: "cl-buttons" });
  lab.button(row, "Prefill", "prefill").classList.add("lab-main");
  lab.button(row, "Decode one token", "step");
  lab.button(row, "Truncate", "truncate");
  lab.slider(row, "keep", "keep", { min: 1, max: 63, step: 1 });
  const slots = make(lab.fields, "ol", { class: "cl-slots", "aria-label": "slots" });
  const key = make(lab.fields, "div", { class: "cl-key" });
  for (const kind of ["prompt", "new", "reused", "truncated", "free"]) {
    make(key, "span", { class: `cl-${kind}` }, kind);
  }
  const told = make(lab.fields, "div", { role: "status", class: "cl-told" });
  lab.results(slots, told);
  const counts = make(told, "div"), sums = make(told, "div"), next = make(told, "div");
  const typed = make(told, "div");

  const track = make(lab.fields, "div", { class: "cl-race" });
  const go = make(track, "div", { class: "cl-buttons" });
  lab.button(go, "Race: 32 tokens", "race");
  const stop = lab.button(go, "Stop", "stop");
  const lanes = make(track, "div", { role: "list", "aria-label": "race" });
  const outcome = make(track, "div", { role: "status" });
  lab.watch("outcome", () => { outcome.textContent = model.get("outcome"); });
  lab.watch("running", () => { stop.disabled = !model.get("running"); });

  lab.watch("cells", () => {
    const cells = model.get("cells");
    while (slots.children.length > cells.length) slots.lastChild.remove();
    cells.forEach(([text, kind], i) => {
      const slot = slots.children[i] ?? make(slots, "li");
      slot.className = `cl-${kind}`;
      slot.textContent = text.replaceAll("\n", "⏎");
      slot.title = `slot ${i}: ${kind}`;
      slot.setAttribute("aria-label", `${i}: ${text} ${kind}`);
    });
  });
  lab.watch("counts", () => {
    const c = model.get("counts"), number = (n) => n.toLocaleString("en");
    counts.textContent = `${c.length} of ${c.capacity} slots in use, ${number(c.bytes)} bytes reserved in all layers; the latest pass was fed ${c.fed} token${c.fed === 1 ? "" : "s"}.`;
    sums.textContent = `Positions computed so far: ${number(c.with)} with the cache, ${number(c.without)} had each pass begun anew.`;
    const [held, all] = c.typed ?? [0, 0];
    typed.textContent = held === all ? "" : `The box holds a text of ${all} tokens, of which the cache has the first ${held}: Prefill reads it.`;
    lab.limit("keep", { max: Math.max(1, c.length - 1) });
    next.textContent = c.next === null ? "No logits after a cut: the last token kept is fed again first." : `Likeliest next token: “${c.next}”`;
  });
  lab.watch("race", () => {
    lanes.replaceChildren();
    const longest = Math.max(...model.get("race").map(([, , seconds]) => seconds));
    for (const [name, tokens, seconds, fed] of model.get("race")) {
      const lane = make(lanes, "div", { class: "cl-lane", role: "listitem" });
      make(lane, "span", {}, name);
      const bar = make(make(lane, "div", { class: "cl-track" }), "div", { class: "cl-bar" });
      bar.style.width = `${(100 * seconds) / longest}%`; // time, on one scale
      make(lane, "span", {}, `${tokens} tokens, ${seconds.toFixed(2)} s, ${fed.toLocaleString("en")} positions`);
    }
  });
}

export default { render };
