// What all widgets of the lab share on the page: controls, and talk with Python. The files
// of a widget are joined after elements.js and this one into a single ES module.
const BUSY = 60, LATE = 250, SILENT = 3000, TYPING = 400; // milliseconds
const GONE = "The kernel was restarted or has ended: run this cell again.";
const MUTE = "No answer yet. The kernel is at work on this or on another cell; if it was" +
  " restarted, run this cell again.";

class Lab {
  constructor({ model, el, signal }) {
    Object.assign(this, { model, signal, controls: {}, serial: 0, moving: 0 });
    this.page = Math.random().toString(36).slice(2); // tells two tabs apart
    this.root = make(el, "section", { class: "lab", "aria-label": model.get("name") });
    make(this.root, "div", { class: "lab-busy", "aria-hidden": "true" });
    this.note = make(this.root, "div", { class: "lab-note", role: "alert" });
    this.fields = make(this.root, "fieldset", { class: "lab-fields" });
    this.place = () => ({}); // what goes with a move beside the settings
    this.on(this.root, "keydown", (event) => {
      // JupyterLab would move to another cell; what has a modifier is for it
      const forLab = event.ctrlKey || event.metaKey || (event.shiftKey && event.key === "Enter");
      if (!forLab) event.stopPropagation();
    });
    model.on("change:answered", () => this.heard());
    model.on("change:error change:running", () => this.mark());
    this.watchKernel(el);
    this.mark();
  }

  on(target, type, handler) {
    target.addEventListener(type, handler, { signal: this.signal });
  }

  /** Call now, and whenever one of these traits changes. */
  watch(names, call) {
    for (const name of names.split(" ")) this.model.on(`change:${name}`, call);
    call();
  }

  /** Elements that show what Python computed: they fade while an answer is late. When
   *  there is nothing to show they keep their place, or the page would jump. */
  results(...elements) {
    for (const element of elements) element.classList.add("lab-result");
    return (there) => elements.forEach((e) => e.classList.toggle("lab-none", !there));
  }

  settings() {
    return Object.fromEntries(Object.entries(this.controls).map(([n, c]) => [n, c.read()]));
  }

  /** Let the controls show these settings, without a message. */
  write(settings) {
    for (const [name, value] of Object.entries(settings)) this.controls[name]?.write(value);
  }

  send(action, more = {}) {
    const message = { action, more, page: this.page, serial: ++this.serial };
    this.model.send({ ...message, settings: this.settings() });
    // what is being typed goes with this message: one of its own would wipe the answer
    for (const timer of [this.silence, this.wait, this.lateness, this.typing]) clearTimeout(timer);
    this.wait = setTimeout(() => this.mark(), BUSY);
    this.lateness = setTimeout(() => this.root.classList.add("lab-late"), LATE);
    this.silence = setTimeout(() => { this.mute = true; this.mark(); }, SILENT);
  }

  /** A control moved. One message is on its way at a time, and the latest follows. */
  moved() {
    if (this.moving) { this.again = true; return; }
    this.moving = this.serial + 1;
    this.send("show", this.place());
  }

  heard() {
    const { page, serial } = this.model.get("answered");
    if (page !== this.page) { this.write(this.model.get("settings")); return; }
    this.done = Math.max(serial, this.done ?? 0); // Stop overtakes
    clearTimeout(this.silence);
    this.mute = false;
    if (this.moving && serial >= this.moving) {
      this.moving = 0;
      if (this.again) { this.again = false; this.moved(); }
    }
    this.mark();
  }

  /** Say what goes on: busy, an error, a kernel that is gone or does not answer. */
  mark() {
    const waiting = this.serial !== (this.done ?? 0);
    const busy = !this.gone && (waiting || this.model.get("running"));
    this.root.setAttribute("aria-busy", String(busy));
    if (this.gone || !waiting) {
      clearTimeout(this.lateness);
      this.root.classList.remove("lab-late");
    }
    const text = this.gone ? GONE : waiting && this.mute ? MUTE : this.model.get("error");
    this.note.textContent = text ?? "";
    this.fields.disabled = Boolean(this.gone);
  }

  /** Notice that the kernel is gone: by its status, where the page can see it. */
  watchKernel(el) {
    const lost = () => { this.gone = true; this.mark(); };
    const ends = ["restarting", "autorestarting", "terminating", "dead"];
    const changed = (_kernel, status) => ends.includes(status) && lost();
    const kernel = this.model.widget_manager?.kernel; // JupyterLab's
    kernel?.statusChanged?.connect(changed);
    this.signal.addEventListener("abort", () => kernel?.statusChanged?.disconnect(changed));
    this.model.on("comm:close", lost);
    if (el.closest(".jupyter-widgets-disconnected")) lost();
  }

  /** Register a control: `input` is read and written as text unless told otherwise. */
  control(name, input, options = {}) {
    const { read = () => input.value, write = (v) => { input.value = v; }, typed } = options;
    this.controls[name] = { read, write, input };
    this.on(input, "input", () => {
      clearTimeout(this.typing);
      if (typed) this.typing = setTimeout(() => this.moved(), TYPING);
      else this.moved();
    });
    write(this.model.get("settings")[name]);
    return input;
  }

  /** A slider with its value beside it, as `show` writes it. */
  slider(parent, name, text, { show = String, ...range }) {
    const row = make(parent, "label", { class: "lab-row" });
    make(row, "span", {}, text);
    const input = make(row, "input", { type: "range", name, ...range });
    const value = make(row, "output");
    const shown = () => {
      value.textContent = show(Number(input.value));
      input.setAttribute("aria-valuetext", value.textContent);
    };
    this.on(input, "input", shown);
    return this.control(name, input, {
      read: () => Number(input.value),
      write: (v) => { input.value = v; shown(); },
    });
  }

  /** Move the ends of a slider; what it reads never lies beyond them. */
  limit(name, ends) {
    const { input, read, write } = this.controls[name], before = read();
    Object.assign(input, ends);
    write(before);
    if (read() !== before) this.moved();
  }

  /** A choice from a few: `options` are [value, text] pairs. */
  choice(parent, name, text, options) {
    const row = make(parent, "label", { class: "lab-row" });
    make(row, "span", {}, text);
    const input = make(row, "select", { name });
    for (const [value, words] of options) make(input, "option", { value }, words);
    return this.control(name, input);
  }

  check(parent, name, text) {
    const row = make(parent, "label", { class: "lab-check" });
    const input = make(row, "input", { type: "checkbox", name });
    make(row, "span", {}, text);
    return this.control(name, input, {
      read: () => input.checked,
      write: (v) => { input.checked = v; },
    });
  }

  /** A text box; a message goes out when the typing pauses. */
  text(parent, name, text, rows = 2) {
    const row = make(parent, "label", { class: "lab-text" });
    make(row, "span", {}, text);
    const input = make(row, "textarea", { name, rows, spellcheck: "false" });
    return this.control(name, input, { typed: true });
  }

  button(parent, text, action, more = () => ({})) {
    const made = make(parent, "button", { type: "button", class: "lab-button" }, text);
    this.on(made, "click", () => this.send(action, more()));
    return made;
  }
}
