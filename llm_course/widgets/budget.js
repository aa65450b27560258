// A budget of caches by hand: admit and finish requests, and see the memory after each.

function render(context) {
  const { model } = context, lab = new Lab(context);
  lab.root.classList.add("bu");
  const row = make(lab.fields, "div", { class: "bu-row" });
  const show = (v) => v.toLocaleString("en");
  lab.slider(row, "tokens", "tokens of a request", { min: 20, max: 900, step: 20, show });
  lab.button(row, "Admit", "admit").classList.add("lab-main");
  const running = make(lab.fields, "div", { class: "bu-running", role: "group", "aria-label": "running requests" });
  const chart = make(lab.fields, "div", { class: "bu-chart", role: "list", "aria-label": "memory after each event" });
  const key = make(lab.fields, "div", { class: "bu-key lab-quiet" });
  for (const [kind, text] of [["limit", "the budget"], ["block", "in use, by request"], ["kept", "given back and kept, a block for each cache"]]) {
    make(key, "i", { class: `bu-${kind}` });
    make(key, "span", {}, text);
  }
  const told = make(lab.fields, "p", { class: "bu-told", role: "status" });

  lab.results(chart, told);
  lab.watch("running_now", () => {
    running.replaceChildren();
    for (const [name, tokens] of model.get("running_now")) {
      const text = `Finish ${name} (${show(tokens)} tokens)`;
      lab.button(running, text, "finish", () => ({ name }));
    }
  });
  lab.watch("events stats", () => {
    const stats = model.get("stats"), percent = (mb) => `${(100 * mb) / stats.budget}%`;
    chart.replaceChildren();
    for (const { label, held, kept, refused } of model.get("events")) {
      const sizes = held.map(([name, mb]) => `${name}: ${mb.toFixed(1)} MB`).join(", ");
      const free = kept.map((mb) => mb.toFixed(1)).join(" + ") || "0";
      const said = `${label}${refused ? " refused" : ""}; ${sizes || "nothing in use"}; kept ${free} MB`;
      const column = make(chart, "div", { class: "bu-column", role: "listitem", "aria-label": said, title: said });
      const bar = make(column, "div", { class: "bu-bar" });
      for (const mb of kept) make(bar, "i", { class: "bu-kept" }).style.height = percent(mb);
      for (const [name, mb] of [...held].reverse()) {
        const named = mb / stats.budget > 0.05; // else its number would be cut off
        make(bar, "i", { class: `bu-block bu-${name % 5}` }, named ? name : "").style.height = percent(mb);
      }
      make(column, "span", { class: refused ? "bu-refused" : "" }, refused ? `${label} ✕` : label);
    }
    const { label, refused, source } = model.get("events").at(-1), mb = (refused * stats.token) / 1e6;
    const no = refused ? `Request ${label.slice(1)} was refused: ${show(refused)} tokens take ${mb.toFixed(1)} MB, and ${(stats.budget - stats.in_use).toFixed(1)} MB are not in use. ` : "";
    const [kind, given] = source ?? ["", 0], up = given > 0.05 ? `, and ${given.toFixed(1)} MB of kept memory were given up for it` : "";
    const yes = kind ? `Request ${label.slice(1)} got ${kind} memory${up}. ` : "";
    const earlier = model.get("earlier");
    key.dataset.earlier = earlier ? `${earlier} earlier event${earlier > 1 ? "s" : ""} not drawn` : "";
    told.textContent = `${no}${yes}In use ${stats.in_use?.toFixed(1)} MB, kept ${stats.kept?.toFixed(1)} MB, of ${stats.budget} MB. ` +
      `Handed out ${stats.allocated}, of these ${stats.reused} from kept memory; refused ${stats.refused}.`;
  });
}

export default { render };
