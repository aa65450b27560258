"""A notebook in JupyterLab itself: opened in a browser, run, its sliders moved, its
text streamed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests import lab as jupyter
from tests.notebook_tools import ROOT, code, read

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


def test_sliders_move_the_figure_and_text_streams(lab: jupyter.Lab, page: Any) -> None:
    name = "05_generate.ipynb"
    if "sampler" not in (lab.folder / name).read_text(encoding="utf-8"):
        pytest.skip(jupyter.required("notebook 05 has no sampler yet"))
    jupyter.open_notebook(page, lab, name)
    assert_all_ran(jupyter.run_all_and_save(page, lab, name))
    move_the_slider(page)
    stream_and_stop(page)


def move_the_slider(page: Any) -> None:
    """One step of the temperature draws another distribution."""
    figure = page.locator("img.sampler-figure")
    before = figure.get_attribute("src")
    page.locator(".sampler-temperature .noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    jupyter.wait_until(
        lambda: figure.get_attribute("src") != before, "the figure stayed as it was"
    )
    assert figure.evaluate("image => image.naturalWidth") > 100


def stream_and_stop(page: Any) -> None:
    """The button starts a text that grows; the other button ends it."""
    page.locator(".sampler-generate").click()
    jupyter.grows(page, ".sampler-output", times=3)
    page.locator(".sampler-stop").click()
    page.wait_for_timeout(3000)  # one step may still be under way
    stopped = page.locator(".sampler-output").inner_text()
    page.wait_for_timeout(3000)
    assert page.locator(".sampler-output").inner_text() == stopped
