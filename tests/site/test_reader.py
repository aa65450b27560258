"""A stored notebook as the site shows it."""

from __future__ import annotations

import nbformat
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)

from tests.site import built  # noqa: F401  (finds course_site)

from course_site import reader  # isort: skip


def printed(text: str) -> list[nbformat.NotebookNode]:
    return [new_output("stream", name="stdout", text=text)]


def shown(*cells: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Cells as the site shows them, after a title."""
    title = new_markdown_cell("# 03 · A title")
    text = nbformat.writes(new_notebook(cells=[title, *cells]))
    return reader.read(text).cells[1:]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def test_an_answer_folds_the_outputs_before_it() -> None:
    cells = shown(
        new_markdown_cell("**Predict, then run.** How many?"),
        new_code_cell("print(1)", outputs=printed("1\n")),
        new_markdown_cell("And how many here?"),
        new_code_cell("print(2)", outputs=printed("2\n")),
        new_markdown_cell(
            "<details>\n<summary>Answer</summary>\n\nMany.\n\n</details>"
        ),
        new_code_cell("print(3)", outputs=printed("3\n")),
    )
    assert [
        "hide-output" in tags(cell) for cell in cells if "print" in cell.source
    ] == [
        True,
        True,
        False,
    ]


def test_a_heading_has_a_label_that_its_words_do_not_change() -> None:
    cells = shown(
        new_markdown_cell("## 4 · The weight"),
        new_markdown_cell("### Exercise 2 · Rows"),
        new_markdown_cell("## Fluent but wrong"),
    )
    assert [cell.source.splitlines()[0] for cell in cells] == [
        "(ch03-4)=",
        "(ch03-exercise-2)=",
        "(ch03-fluent-but-wrong)=",
    ]


def test_alt_texts_are_where_the_site_looks_for_them() -> None:
    data, alt = {"image/png": "aGk=", "text/plain": "<Figure>"}, "A red line rises."
    out = new_output("display_data", data, metadata={"image/png": {"alt": alt}})
    (cell,) = shown(new_code_cell("draw()", outputs=[out]))
    assert cell.metadata.mystnb == {"image": {"alt": alt}}
    assert "text/plain" not in cell.outputs[0].data


def test_a_widget_leaves_its_picture_and_a_line() -> None:
    picture = new_output("display_data", {"image/png": "aGk="})
    dead = new_output("display_data", {"text/plain": "Sampler(...)"})
    widget = new_code_cell("Sampler(model)", outputs=[picture, dead])
    widget.metadata["tags"] = ["widget"]
    cell, note = shown(widget)
    assert cell.outputs == [picture]
    assert "With a kernel" in note.source


def test_the_choices_of_a_prediction_stand_and_its_output_is_folded() -> None:
    items = "<li>six</li><li>eight</li>"
    still = {
        "text/html": f'<ul class="prediction">{items}</ul>\n<details>…</details>',
        "text/plain": "8 legs",
    }
    figure = new_output("display_data", {"image/png": "aGk="})
    dead = new_output("display_data", {"text/plain": "Prediction: run this cell"})
    widget = new_code_cell("Prediction(choices, legs)", metadata={"tags": ["widget"]})
    widget.outputs = [new_output("display_data", still), figure, dead]
    question = new_markdown_cell("**Predict, then run.** How many legs?")
    asked, choices, cell = shown(question, widget)
    assert asked.source == question.source
    assert choices.source == f'<ul class="prediction">{items}</ul>'
    assert [out.output_type for out in cell.outputs] == ["stream", "display_data"]
    assert cell.outputs[0].text == "8 legs"
    assert "image/png" in cell.outputs[1].data
    assert tags(cell) == ["hide-output"]


def test_an_export_is_followed_by_its_names() -> None:
    source = (
        '#| export models.x\ndef f():\n    """Doc."""\n\n\ndef _g():\n    """No."""'
    )
    assert [cell.source for cell in shown(new_code_cell(source))] == [
        source,
        "{.cell-note}\n*In the reference:* {py:obj}`~llm_course.models.x.f`.",
    ]


def test_the_cell_for_colab_is_left_out() -> None:
    assert shown(new_code_cell('if "google.colab" in sys.modules: pass')) == []


def test_what_an_alt_text_says_is_not_shown_as_code() -> None:
    (cell,) = shown(new_code_cell("#| fig-alt: A red\n#|   line.\ndraw()"))
    assert cell.source == "draw()"
