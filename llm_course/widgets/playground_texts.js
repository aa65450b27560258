// The two texts of the playground: tokens tinted by how little the model expected them.

class Texts {
  /** `choose(name, at)` is called with a text and a token, or with a text alone. */
  constructor(lab, parent, choose) {
    Object.assign(this, { lab, choose, active: "A" });
    this.root = make(parent, "div", { class: "pg-texts" });
    this.parts = { A: this.column("A"), B: this.column("B") };
    lab.controls.column = { read: () => this.active, write: (name) => this.activate(name) };
    this.activate(lab.model.get("settings").column);
  }

  column(name) {
    const root = make(this.root, "div", { class: "pg-text" });
    const head = make(root, "label", { class: "pg-head" });
    const radio = make(head, "input", { type: "radio", name: `column-${this.lab.page}`, "aria-label": `Text ${name}` });
    make(head, "b", {}, name);
    const caption = make(head, "span", { class: "lab-quiet" });
    this.lab.on(radio, "change", () => this.choose(name));
    const body = make(root, "div", { class: "pg-body", role: "group", "aria-label": `Text ${name}: tokens` });
    const prompt = make(body, "span", { class: "lab-quiet" });
    const note = make(root, "div", { class: "pg-note lab-quiet", role: "status" });
    roving(body, "[role=button]", this.lab.signal);
    const token = (event) => event.target.closest?.("[role=button]");
    this.lab.on(body, "click", (event) => token(event) && this.choose(name, Number(token(event).dataset.at)));
    this.lab.on(body, "keydown", (event) => {
      if (token(event) && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        this.choose(name, Number(token(event).dataset.at));
      }
    });
    return { root, radio, caption, body, prompt, note, tokens: [], shown: [] };
  }

  activate(name) {
    this.active = name;
    for (const [key, part] of Object.entries(this.parts)) {
      part.radio.checked = key === name;
      part.root.classList.toggle("pg-active", key === name);
    }
  }

  show(texts, shared) {
    for (const name of ["A", "B"]) this.showOne(this.parts[name], texts[name], shared);
  }

  showOne(part, text, shared) {
    part.prompt.textContent = text.head;
    part.note.textContent = text.note;
    part.caption.textContent = caption(text.settings);
    const same = text.tokens.findIndex((t, i) => String(t) !== String(part.shown[i]));
    const keep = same < 0 ? text.tokens.length : same;
    for (const old of part.tokens.splice(keep)) old.remove();
    for (let at = keep; at < text.tokens.length; at++) part.tokens.push(this.token(part, at, text.tokens[at]));
    part.shown = text.tokens;
    part.tokens.forEach((span, at) => {
      span.classList.toggle("pg-fork", shared > 0 && at === shared);
    });
    if (part.tokens.length && !part.tokens.some((s) => s.tabIndex === 0)) part.tokens[0].tabIndex = 0;
    part.body.scrollTop = keep < text.tokens.length ? part.body.scrollHeight : part.body.scrollTop;
  }

  token(part, at, [text, model, drawn]) {
    const said = `“${text}”: ${percent(model)} for the model, drawn with ${percent(drawn)}`;
    const span = make(part.body, "span", { class: "pg-token", role: "button", tabindex: -1,
      "data-at": at, title: said, "aria-label": said }, text);
    span.style.setProperty("--doubt", 1 - model);
    if (!text) span.classList.add("pg-part"); // part of a character that a later token ends
    return span;
  }

  /** Bring the place where the texts part into view. */
  showFork() {
    for (const { body, tokens } of Object.values(this.parts)) {
      const fork = tokens.find((span) => span.classList.contains("pg-fork"));
      if (fork) body.scrollTop = Math.min(body.scrollTop, fork.offsetTop - body.offsetTop - 20);
    }
  }

  /** Mark the token whose distribution the chart shows. */
  mark({ column, at }) {
    for (const [name, part] of Object.entries(this.parts)) {
      part.tokens.forEach((span, i) => span.toggleAttribute("data-here", name === column && i === at));
    }
  }
}

/** The settings of a text in one line; those that are off are left out. */
function caption(s) {
  if (s.seed === undefined) return "empty";
  const parts = [`T ${s.temperature}`, s.top_k > 0 && `k ${s.top_k}`, s.top_p < 1 && `p ${s.top_p}`,
    s.min_p > 0 && `min-p ${s.min_p}`, s.repetition_penalty !== 1 && `penalty ${s.repetition_penalty}`];
  return [...parts.filter(Boolean), `seed ${s.seed}`].join(" · ");
}
