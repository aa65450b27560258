"""Reads a stored notebook for the site: what moves or waits for a reader in JupyterLab
gets a form that a page can have. The file itself stays as it is."""

from __future__ import annotations

import ast
import re
import struct
from base64 import b64decode
from functools import cache
from typing import Any

import nbformat
from nbformat.v4 import new_markdown_cell, new_output

from course_site.chapters import (
    EXPORT,
    HEADING,
    ROOT,
    label_of,
    number_of,
    public_names,
)
from course_site.pages import terms_of
from llm_course.authoring.normal_form import ALT_TEXT

PNG = "image/png"
COLAB = '"google.colab"'
STUB = "raise NotImplementedError"
PREDICT = "**Predict, then run.**"
CHOICES = '<ul class="prediction">'
ANSWER = "<details>\n<summary>Answer</summary>"
ONLINE = "[With a kernel](../online.md)"
WIDE = 700  # pixels: a figure that a telephone would make unreadable scrolls there


def read(text: str) -> nbformat.NotebookNode:
    """The notebook as the site shows it; myst-nb calls this."""
    notebook = nbformat.reads(text, as_version=4)
    number = number_of(notebook)
    notebook.cells = [c for c in notebook.cells if COLAB not in c.source]
    notebook.cells = [one for cell in notebook.cells for one in choices_first(cell)]
    fold_answers(notebook.cells)
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            markdown(cell, number)
            cells.append(cell)
        else:
            code(cell)
            cells += [cell, *notes_after(cell)]
    notebook.cells = cells
    return notebook


def markdown(cell: Any, number: str) -> None:
    """A label before the heading, and what this page lacks after it."""
    cell.source = cell.source.replace("<details>", '<details class="fold">')
    if heading := HEADING.match(cell.source):
        label = label_of(number, heading[2])
        first, _, rest = cell.source.partition("\n")
        cell.source = f"({label})=\n{first}\n{index_of(label)}{rest}".rstrip()
        if heading[2] == "Exercises":
            cell.source += (
                f"\n\n*{ONLINE} each check says whether your version is right, and if"
                " it is not, what is wrong with it. Here the stubs are to be read.*"
            )


def code(cell: Any) -> None:
    """Alt texts where myst-nb looks for them; no output that says nothing here."""
    cell.source = ALT_TEXT.sub("", cell.source).lstrip("\n")
    if STUB in cell.source:
        add_tags(cell, "remove-output")
    if "widget" in cell.metadata.get("tags", []):
        cell.outputs = [out for out in cell.outputs if PNG in out.get("data", {})]
    for out in cell.outputs:
        alt = out.get("metadata", {}).get(PNG, {}).get("alt")
        if PNG in out.get("data", {}):
            out.data.pop("text/plain", None)
            if alt:
                kind = {"classes": "wide"} if width_of(out.data[PNG]) > WIDE else {}
                mystnb(cell)["image"] = {"alt": alt} | kind


def width_of(png: str) -> int:
    """The width of a picture in pixels; 0 for what is none."""
    head = b64decode(png)[16:20]
    return struct.unpack(">I", head)[0] if len(head) == 4 else 0


def index_of(label: str) -> str:
    """The terms of a section as entries of Sphinx's index: the search finds them."""
    entries = "".join(f"   ! single: {term}\n" for term in terms_of(label))
    return f"\n```{{eval-rst}}\n.. index::\n{entries}```\n" if entries else ""


def fold_answers(cells: list[Any]) -> None:
    """Outputs between a prediction and its folded answer are folded too."""
    asked = False
    for cell in cells:
        if cell.cell_type == "markdown":
            asked = PREDICT in cell.source or (asked and ANSWER not in cell.source)
        elif asked and cell.outputs:
            add_tags(cell, "hide-output")
            mystnb(cell)["code_prompt_show"] = "Show the output"
            mystnb(cell)["code_prompt_hide"] = "Hide the output"


def choices_first(cell: Any) -> list[Any]:
    """The choices of a prediction stand before its cell, whose outputs become those of
    a cell without a widget."""
    still, *others = cell.get("outputs") or [{}]
    html = still.get("data", {}).get("text/html", "")
    if not html.startswith(CHOICES):
        return [cell]
    text = new_output("stream", name="stdout", text=still.data["text/plain"])
    cell.outputs = [text, *(out for out in others if PNG in out.data)]
    cell.metadata["tags"] = [t for t in cell.metadata["tags"] if t != "widget"]
    choices = new_markdown_cell(html.splitlines()[0], id=f"{cell.id}-choices")
    return [choices, cell]


def add_tags(cell: Any, *tags: str) -> None:
    cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), *tags})


def mystnb(cell: Any) -> Any:
    """What myst-nb reads of a cell's metadata, to be added to."""
    return cell.metadata.setdefault("mystnb", {})


def notes_after(cell: Any) -> list[Any]:
    """A line after a widget, and one after what went to the package."""
    notes = []
    if "widget" in cell.metadata.get("tags", []):
        notes.append(f"*{ONLINE} this cell is interactive{purpose(cell.source)}.*")
    if export := EXPORT.match(cell.source):
        module = f"llm_course.{export[1]}"
        names = [f"{{py:obj}}`~{module}.{n}`" for n in public_names(cell.source)]
        if names:
            notes.append(f"*In the reference:* {', '.join(names)}.")
    return [
        new_markdown_cell(f"{{.cell-note}}\n{note}", id=f"{cell.id}-{i}")
        for i, note in enumerate(notes)
    ]


def purpose(source: str) -> str:
    """What a widget lets one do, by the first sentence of its class."""
    for name, text in widgets().items():
        if re.search(rf"\b{name}\(", source):
            sentence = " ".join(text.split("\n\n")[0].split()).replace("`", "")
            return f": {sentence[0].lower()}{sentence[1:].rstrip('.')}"
    return ""


@cache
def widgets() -> dict[str, str]:
    """The docstrings of the package's widgets, read without importing them."""
    found = {}
    for path in sorted((ROOT / "llm_course" / "widgets").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (text := ast.get_docstring(node)):
                found[node.name] = text
    return found
