// Predict, then run: the choices are buttons, and the output stands below after a click.
function draw(parent, { text, png }) {
  if (text) make(parent, "pre", { tabindex: 0, "aria-label": "text" }, text);
  else make(parent, "img", { src: `data:image/png;base64,${png}`, alt: "figure" });
}

function render(context) {
  const { model } = context, lab = new Lab(context);
  lab.root.classList.add("pr");
  const asked = make(lab.fields, "p", { class: "lab-quiet" }, "What do you predict? The output comes after your choice.");
  const group = make(lab.fields, "div", { role: "group", "aria-label": "choices", class: "pr-choices" });
  const buttons = model.get("choices").map((text, choice) =>
    lab.button(group, text, "choose", () => ({ choice })));
  const verdict = make(lab.root, "p", { role: "status", class: "pr-verdict" });
  const output = make(lab.root, "div", { role: "group", "aria-label": "output", class: "pr-output" });
  lab.watch("picked", () => {
    const picked = model.get("picked");
    asked.hidden = picked >= 0;
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", String(i === picked));
      // The output tells the answer; `disabled` would take the keyboard's place away.
      button.setAttribute("aria-disabled", String(picked >= 0));
    });
  });
  lab.watch("verdict", () => { verdict.textContent = model.get("verdict"); });
  lab.watch("shown", () => {
    output.replaceChildren();
    output.hidden = !model.get("shown").length;
    for (const part of model.get("shown")) draw(output, part);
  });
}

export default { render };
