"""The stored form of a notebook: what refresh keeps, drops and puts back."""

from __future__ import annotations

import base64
import copy
import io
from typing import Any

import nbformat
from PIL import Image

from llm_course.authoring.normal_form import WIDGET_VIEW, normal_form
from llm_course.authoring.pictures import strip_png

SOURCE = 'print("some output")'


def notebook(*outputs: Any, tags: tuple[str, ...] = ()) -> Any:
    """A notebook of one code cell with these outputs."""
    cell = nbformat.v4.new_code_cell(SOURCE, id="one", outputs=list(outputs))
    cell.metadata = nbformat.from_dict({"tags": list(tags), "trusted": True})
    return nbformat.v4.new_notebook(cells=[cell])


def stream(text: str) -> Any:
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def display(**data: Any) -> Any:
    return nbformat.v4.new_output(
        "display_data", data={k.replace("__", "/"): v for k, v in data.items()}
    )


def cell_after(nb: Any, before: Any = None, timing: bool = False) -> Any:
    """The cell as it would be stored."""
    return nbformat.reads(normal_form(nb, "01_x", before, timing), 4).cells[0]


def png(level: int, grey: int = 100) -> str:
    """The same pixels for every level of compression, in different bytes."""
    buffer = io.BytesIO()
    picture = Image.linear_gradient("L").point(lambda v: v * grey // 255)
    picture.save(buffer, format="png", compress_level=level)
    return strip_png(base64.b64encode(buffer.getvalue()).decode())


def test_normal_form_is_its_own_normal_form() -> None:
    nb = notebook(stream("in /tmp/x/y: 0x7f0000000000\n"), tags=("timing",))
    nb.cells.append(nbformat.v4.new_code_cell("  \n"))
    once = normal_form(nb, "01_x")
    assert "/tmp/x" not in once
    assert normal_form(nbformat.reads(once, 4), "01_x") == once
    cell = nbformat.reads(once, 4).cells[0]
    assert (cell.execution_count, dict(cell.metadata)) == (1, {"tags": ["timing"]})


def test_a_stored_text_stays_while_only_its_measurements_differ() -> None:
    before = notebook(stream("3 steps in 1.2 s\n"))
    same = cell_after(notebook(stream("3 steps in 9.9 s\n")), copy.deepcopy(before))
    assert same.outputs[0].text == "3 steps in 1.2 s\n"
    other = cell_after(notebook(stream("4 steps in 9.9 s\n")), before)
    assert other.outputs[0].text == "4 steps in 9.9 s\n"


def test_a_stored_picture_stays_while_its_pixels_do() -> None:
    assert png(1) != png(9)
    before = notebook(display(image__png=png(1)))
    same = cell_after(notebook(display(image__png=png(9))), copy.deepcopy(before))
    assert same.outputs[0].data["image/png"] == png(1)
    other = cell_after(notebook(display(image__png=png(9, grey=101))), before)
    assert other.outputs[0].data["image/png"] == png(9, grey=101)


def test_numbers_of_one_run_do_not_stand_beside_those_of_another() -> None:
    """Asked for new measurements, a cell takes all of them."""
    before = notebook(stream("2 threads read 45.6 GB/s\n"), tags=("timing",))
    new = notebook(stream("2 threads read 74.1 GB/s\n"), tags=("timing",))
    assert "74.1" in cell_after(new, before, timing=True).outputs[0].text
    new = notebook(stream("2 threads read 74.1 GB/s\n"), tags=("timing",))
    assert "45.6" in cell_after(new, before).outputs[0].text


def test_a_timing_cell_keeps_its_outputs_unless_asked() -> None:
    before = notebook(stream("old\n"), display(image__png=png(1)), tags=("timing",))
    new = notebook(stream("new\n"), tags=("timing",))
    kept = cell_after(copy.deepcopy(new), copy.deepcopy(before))
    assert [out.output_type for out in kept.outputs] == ["stream", "display_data"]
    assert kept.outputs[0].text == "old\n"
    assert cell_after(new, before, timing=True).outputs[0].text == "new\n"
    first = notebook(stream("first\n"), tags=("timing",))
    assert cell_after(first, notebook(tags=("timing",))).outputs[0].text == "first\n"


def test_a_widget_leaves_its_text_and_a_tag() -> None:
    view = {"text/plain": "IntSlider(value=0)", WIDGET_VIEW: {"model_id": "random"}}
    cell = cell_after(notebook(nbformat.v4.new_output("display_data", data=view)))
    assert cell.metadata.tags == ["widget"]
    assert set(cell.outputs[0].data) == {"text/plain"}


def test_what_a_progress_bar_drew_over_is_gone() -> None:
    nb = notebook(stream("10%\r50%\rdone\n"), stream("\r   \r"))
    assert [out.text for out in cell_after(nb).outputs] == ["done\n"]


def test_ids_are_stable_and_unique() -> None:
    nb = notebook()
    nb.cells += [
        copy.deepcopy(nb.cells[0]),
        nbformat.v4.new_markdown_cell("# T", id="own"),
    ]
    ids = [cell.id for cell in nbformat.reads(normal_form(nb, "01_x"), 4).cells]
    assert ids == ["one", "01-001", "own"]
