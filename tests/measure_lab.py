"""How long a slider's move takes, and a redraw; the table in docs/lab.md.

    python -m tests.measure_lab

A move is measured in JupyterLab, from the page's event to the frame after Python's
answer is drawn. A redraw is the page's share: from a trait that changes to the layout
of what was drawn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_notebook

from tests import lab
from tests.browser.bare import Bare

MOVES, WARM_UP = 100, 10
FIRST = """from llm_course.checkpoints import load_pretrained
from llm_course.widgets import CacheMemory, ParameterLab, Playground, Roofline, RopeLab

model, tokenizer = load_pretrained("smollm2-135m-instruct")"""
# What shows the widget; the slider, its ends; the trait that is drawn.
WIDGETS = {
    "Sampling playground": (
        "Playground(model, tokenizer)",
        ("temperature", 0.3, 2.0, "chart"),
    ),
    "RoPE lab": (
        'RopeLab(model, tokenizer, "The keys were gone.", layer=16)',
        ("position", 0, 4000, "chart"),
    ),
    "Parameters by part": ("ParameterLab()", ("layers", 2, 80, "parts")),
    "Memory of caches": (
        'CacheMemory({"SmolLM2": (model.config, 134_515_008)})',
        ("rows", 1, 128, "models"),
    ),
    "Roofline": ("Roofline(134_515_008)", ("rows", 1, 256, "chart")),
}
MOVE = """async (root, { name, values }) => {
  const slider = root.querySelector(`input[name=${name}]`), times = [];
  const answered = () => new Promise((done) => {
    const seen = new MutationObserver(() => {
      if (root.getAttribute("aria-busy") !== "false") return;
      seen.disconnect();
      requestAnimationFrame(() => setTimeout(done));
    });
    seen.observe(root, { attributeFilter: ["aria-busy"] }); // written at each answer
  });
  for (const value of values) {
    const start = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await answered();
    times.push(performance.now() - start);
    await new Promise((rest) => setTimeout(rest, 100));
  }
  return times;
}"""
REDRAW = """async ({ name, times }) => {
  const found = [], value = window.model.get(name);
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    window.model.change(name, structuredClone(value));
    document.body.getBoundingClientRect(); // lays out what was drawn
    found.push(performance.now() - start);
    await new Promise((rest) => setTimeout(rest, 20));
  }
  return found;
}"""


def in_jupyterlab(browser: Any, home: Path) -> dict[str, list[float]]:
    """Milliseconds of each move, by widget."""
    folder = home / "notebooks"
    folder.mkdir()
    cells = [FIRST, *(source for source, _ in WIDGETS.values())]
    notebook = new_notebook(cells=[*map(new_code_cell, cells)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "all.ipynb")
    times = {}
    with lab.serve(folder, home) as server, lab.page_of(browser) as page:
        lab.open_notebook(page, server, "all.ipynb")
        lab.run_all_and_save(page, server, "all.ipynb")
        for widget, (_, (name, low, high, _)) in WIDGETS.items():
            root = page.get_by_role("region", name=widget)
            root.scroll_into_view_if_needed()
            values = np.linspace(low, high, WARM_UP + MOVES).round(2).tolist()
            times[widget] = root.evaluate(MOVE, {"name": name, "values": values})
    return {widget: found[WARM_UP:] for widget, found in times.items()}


def on_the_page(browser: Any) -> dict[str, list[float]]:
    """Milliseconds of each redraw, by widget."""
    names: dict[str, Any] = {}
    exec(FIRST, names)
    times = {}
    for widget, (source, (_, _, _, trait)) in WIDGETS.items():
        with lab.page_of(browser) as page:
            Bare(page, eval(source, names))
            given = {"name": trait, "times": WARM_UP + MOVES}
            times[widget] = page.evaluate(REDRAW, given)
    return {widget: found[WARM_UP:] for widget, found in times.items()}


def main() -> None:
    with lab.browser() as browser, tempfile.TemporaryDirectory() as home:
        moves, redraws = in_jupyterlab(browser, Path(home)), on_the_page(browser)
    print(
        "| widget, slider | a move: median | 95 of 100 | a redraw: median | 95 of 100 |"
    )
    print("|---|---|---|---|---|")
    for widget, (_, (name, *_)) in WIDGETS.items():
        both = [np.percentile(t[widget], q) for t in (moves, redraws) for q in (50, 95)]
        print(
            f"| {widget}, {name} |",
            " | ".join(f"{ms:.{int(ms < 10)}f} ms" for ms in both),
            "|",
        )


if __name__ == "__main__":
    main()
