"""A notebook in JupyterLab itself: opened in a browser, run, its sliders moved, its
text streamed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest

from tests import lab as jupyter
from tests.notebook_tools import NOTEBOOKS, PLAYGROUND, ROOT, code, read

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Lab]:
    """A server on a copy of the notebooks; kernels import the package of this
    repository."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".*"))
    with jupyter.serve(folder, tmp_path_factory.mktemp("home")) as server:
        yield server


def assert_all_ran(nb: Any) -> None:
    cells = [cell for cell in code(nb) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    failed = [
        out for cell in cells for out in cell.outputs if out.output_type == "error"
    ]
    assert failed == []


def test_the_first_notebook_runs_in_jupyterlab(lab: jupyter.Lab, page: Any) -> None:
    name = "01_rmsnorm.ipynb"
    jupyter.open_notebook(page, lab, name)
    ran = jupyter.run_all_and_save(page, lab, name)
    assert_all_ran(ran)
    stored = read(ROOT / "notebooks" / name)
    assert [len(cell.outputs) for cell in code(ran)] == [
        len(c.outputs) for c in code(stored)
    ]
    assert page.locator(".jp-OutputArea-output img").count() > 0


ALWAYS = ("01_rmsnorm.ipynb", "05_generate.ipynb")  # by tests of their own
OTHERS = [path.name for path in (*NOTEBOOKS, PLAYGROUND) if path.name not in ALWAYS]


@pytest.mark.browser
@pytest.mark.parametrize("name", OTHERS)
def test_a_notebook_runs_in_jupyterlab(lab: jupyter.Lab, page: Any, name: str) -> None:
    """To its end, without an error in a cell or in the console, and without a request
    that fails or leaves this machine (the fixture `page` sees to these)."""
    lab.end_kernels()
    jupyter.open_notebook(page, lab, name)
    ran = jupyter.run_all_and_save(page, lab, name)
    assert_all_ran(ran)
    stored = read(ROOT / "notebooks" / name)
    outputs = [[bool(cell.outputs) for cell in code(nb)] for nb in (ran, stored)]
    assert outputs[0] == outputs[1]


CELL = """from llm_course.checkpoints import load_pretrained
from llm_course.widgets import Playground

Playground(*load_pretrained("smollm2-135m-instruct"))"""
LENGTH = "200"  # about ten seconds of text


class View:
    """The playground of an open notebook, as a reader sees it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.root = page.get_by_role("region", name="Sampling playground")
        self.root.wait_for()

    def slider(self, name: str) -> Any:
        return self.root.get_by_role("slider", name=name)

    def click(self, name: str) -> None:
        self.root.get_by_role("button", name=name, exact=True).click()

    def count(self) -> int:
        return self.root.locator(".pg-token").count()

    def note(self) -> str:
        return self.root.locator(".pg-note").first.inner_text()

    def busy(self) -> bool:
        return self.root.get_attribute("aria-busy") == "true"

    def start(self) -> None:
        """Generate a long text, and wait for its first tokens."""
        self.slider("length").fill(LENGTH)
        self.click("Generate")
        jupyter.wait_until(lambda: self.busy() and self.count() > 3, "nothing streamed")

    def ended(self, words: str) -> None:
        """Wait for the end of a run; it ended early, for these reasons."""
        jupyter.wait_until(lambda: not self.busy(), "the run did not end")
        assert words in self.note()
        count = self.count()
        self.page.wait_for_timeout(1500)
        assert self.count() == count < int(LENGTH)


def test_notebook_05_plays(lab: jupyter.Lab, page: Any) -> None:
    name = "05_generate.ipynb"
    jupyter.open_notebook(page, lab, name)
    assert_all_ran(jupyter.run_all_and_save(page, lab, name))
    view = View(page)
    view.root.scroll_into_view_if_needed()
    assert view.root.bounding_box()["height"] < 700  # one screen of 900
    cell = page.locator(".jp-CodeCell", has=view.root)
    assert not cell.locator(".jp-RenderedImage img").is_visible()
    numbers = view.root.locator(".pg-number").first
    before = numbers.inner_text()
    view.slider("temperature").press("ArrowRight")
    jupyter.wait_until(lambda: numbers.inner_text() != before, "no answer to a move")
    view.start()
    view.click("Stop")
    view.ended("stopped")


def run_cell(lab: jupyter.Lab, page: Any, name: str, source: str) -> Any:
    """A notebook of one cell, opened, run and saved -> what was saved."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3 (ipykernel)",
    }
    nbformat.write(notebook, lab.folder / name)
    jupyter.open_notebook(page, lab, name)
    return jupyter.run_all_and_save(page, lab, name)


@pytest.fixture
def played(lab: jupyter.Lab, page: Any) -> View:
    """A notebook of one cell, which shows the playground."""
    run_cell(lab, page, "one.ipynb", CELL)
    return View(page)


@pytest.mark.browser
def test_a_run_ends_by_interrupt_rerun_and_restart(played: View) -> None:
    page = played.page
    played.start()
    jupyter.menu(page, "Kernel", "Interrupt Kernel")
    played.ended("stopped")
    played.start()
    jupyter.menu(page, "Run", "Run All Cells")  # the cell again: a fresh widget
    jupyter.wait_until(lambda: played.count() == 0, "the old widget stayed")
    assert not played.busy()
    page.wait_for_timeout(1500)
    assert played.count() == 0
    played.start()  # a new one is free to start
    jupyter.menu(page, "Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    played.root.get_by_text("run this cell again").wait_for()
    assert played.root.get_by_role("button", name="Generate").is_disabled()
    assert not played.busy()


@pytest.mark.browser
def test_a_second_tab_shows_and_does_the_same(played: View, lab: jupyter.Lab) -> None:
    with jupyter.page_of(played.page.context.browser) as tab:
        tab.goto(lab.url("lab/tree/one.ipynb"))
        other = View(tab)
        played.slider("temperature").fill("0.35")
        slider = other.slider("temperature")
        jupyter.wait_until(lambda: slider.input_value() == "0.35", "no move in the tab")
        assert not other.busy()
        played.start()
        jupyter.wait_until(lambda: other.count() > 3, "no text in the tab")
        other.click("Stop")  # what the first one began
        played.ended("stopped")
        jupyter.wait_until(lambda: other.count() == played.count(), "another text")
        assert not other.busy()
        assert tab.troubles == []


@pytest.mark.browser
def test_a_text_is_there_after_a_reload(played: View, lab: jupyter.Lab) -> None:
    page = played.page
    prompt = played.root.get_by_role("textbox", name="prompt")
    prompt.press_sequentially(" bad")  # in JupyterLab b and a make cells, dd deletes
    assert page.locator(".jp-CodeCell").count() == 1
    assert prompt.input_value().endswith(" bad")
    played.slider("temperature").fill("0.35")
    played.slider("length").fill("5")
    played.click("Generate")
    jupyter.wait_until(lambda: played.count() == 5, "no text")
    page.goto(lab.url("lab/tree/one.ipynb"))
    again = View(page)
    jupyter.wait_until(lambda: again.count() == 5, "the text is gone")
    assert again.slider("temperature").input_value() == "0.35"
    again.click("One token")
    jupyter.wait_until(lambda: again.count() == 6, "no token more")


WIDGETS = {  # what shows it, and a slider or a button to use
    "Attention explorer": (
        'AttentionExplorer(model, tokenizer, "A cat sat.")',
        "button",
    ),
    "RoPE lab": ('RopeLab(model, tokenizer, "A cat sat.", 16)', "slider"),
    "Layer lens": ('LayerLens(model, tokenizer, "A cat sat")', "checkbox"),
    "Parameters by part": ("ParameterLab()", "slider"),
    "Memory of caches": (
        'CacheMemory({"SmolLM2": (model.config, 134_515_008)})',
        "slider",
    ),
    "Budget of caches": ("BudgetLab(model.config)", "button"),
    "Cache lab": ('CacheLab(model, tokenizer, "A cat sat")', "button"),
    "Roofline": ("Roofline(10**8)", "slider"),
    "Prediction": ('Prediction(["1", "2"], lambda: 2)', "button"),
}


QUESTION = """from llm_course.widgets import Prediction

def legs():
    print("the printed answer")
    return 8

Prediction([6, 8], legs)"""


@pytest.mark.browser
def test_an_output_waits_for_a_choice(lab: jupyter.Lab, page: Any) -> None:
    still, _ = code(run_cell(lab, page, "ask.ipynb", QUESTION))[0].outputs
    assert still.data["text/plain"] == "the printed answer\n"
    root = page.get_by_role("region", name="Prediction")
    answer = page.locator(".jp-OutputArea").get_by_text("the printed answer")

    def visible() -> int:
        return sum(one.is_visible() for one in answer.all())

    root.get_by_role("button", name="8").wait_for()
    assert visible() == 0
    assert not page.locator("ul.prediction").is_visible()  # what is for no kernel
    root.get_by_role("button", name="6").click()
    root.get_by_text("“6”, is wrong; “8” is right").wait_for()
    assert visible() == 1
    jupyter.menu(page, "Run", "Run All Cells")
    page.get_by_text("[2]:").wait_for()
    root.get_by_text("“6”, is wrong").wait_for()  # it goes on where it was
    assert visible() == 1


@pytest.mark.browser
def test_every_widget_lives_and_answers(lab: jupyter.Lab, page: Any) -> None:
    first = CELL.splitlines()[0] + "\nfrom llm_course.widgets import *\n"
    first += 'model, tokenizer = load_pretrained("smollm2-135m-instruct")'
    cells = [first, *(source for source, _ in WIDGETS.values())]
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3 (ipykernel)",
    }
    nbformat.write(notebook, lab.folder / "all.ipynb")
    jupyter.open_notebook(page, lab, "all.ipynb")
    assert_all_ran(jupyter.run_all_and_save(page, lab, "all.ipynb"))
    line = page.locator(".jp-CodeCell .cm-line").first
    assert line.evaluate("el => getComputedStyle(el).position") == "static"
    for name, (_, role) in WIDGETS.items():
        root = page.get_by_role("region", name=name)
        root.scroll_into_view_if_needed()
        cell = page.locator(".jp-CodeCell", has=root)
        assert not cell.locator(".jp-RenderedImage img").is_visible()
        before, control = root.inner_text(), root.get_by_role(role).first
        if role == "slider":
            control.press("ArrowRight")
        elif name == "Cache lab":
            root.get_by_role("button", name="Decode one token").click()
        else:
            control = root.get_by_role(role).last if role == "button" else control
            control.click()
        jupyter.wait_until(
            lambda root=root, before=before: (
                root.inner_text() != before
                and root.get_attribute("aria-busy") == "false"
            ),
            f"{name} did not answer",
        )
        assert root.get_by_role("alert").inner_text() == ""
