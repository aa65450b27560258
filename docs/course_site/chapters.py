"""What the site knows of each notebook: its sections, exports, times and needs.

All of it is read from the notebooks in `notebooks/`; a new file appears by itself.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from llm_course.authoring.chapters import notebooks_of

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
HEADING = re.compile(r"\A(#{1,3}) (.+)")
EXPORT = re.compile(r"\A#\| export ([\w.]+)")
MINUTES = re.compile(r"^\*.*?(\d+) minutes\*$", re.MULTILINE)


@dataclass
class Section:
    """A heading of a notebook and what stands under it."""

    title: str
    label: str  # the target of links to it: ch03-4, ch03-exercise-2, ch03-recap
    text: str = ""


@dataclass
class Chapter:
    """A notebook as the site sees it."""

    path: Path
    number: str
    title: str
    reading: int  # minutes
    exercises: int  # minutes
    needs: str  # Markdown
    sections: list[Section] = field(default_factory=list)
    exports: dict[str, Section] = field(default_factory=dict)  # models.layers.RMSNorm

    def section(self, name: str) -> Section:
        """The section of a label without its chapter: "4", "exercise-2"."""
        return {s.label.partition("-")[2]: s for s in self.sections}[name]


def label_of(number: str, title: str) -> str:
    """A label that stays when the words of a numbered heading change."""
    if title.startswith(f"{number} · "):  # the notebook's own title
        return f"ch{number}"
    if numbered := re.match(r"(\d+) · ", title):
        return f"ch{number}-{numbered[1]}"
    title = re.sub(r"\A(Exercise \d+) · .*", r"\1", title)
    words = re.findall(r"[a-z0-9]+", title.lower())
    return f"ch{number}-{'-'.join(words)}"


def public_names(source: str) -> list[str]:
    """The documented classes and functions that an export cell defines, except those
    that are called in compiled code alone: the reference cannot show them."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and ast.get_docstring(node)
        and not any(ast.unparse(d) == "intrinsic" for d in node.decorator_list)
    ]


def number_of(notebook: Any) -> str:
    """The number that the notebook's title starts with."""
    match = re.match(r"# (\d\d) · ", notebook.cells[0].source)
    if not match:
        raise ValueError("a notebook's first line must be like `# 01 · Title`")
    return match[1]


def chapter_of(path: Path) -> Chapter:
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    number, first = number_of(notebook), notebook.cells[0].source
    reading = re.search(r"Reading takes about (\d+) minutes", first)
    needs = re.search(r"You need (.+?)\.(?:\s|\Z)", first)
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    chapter = Chapter(
        path=path,
        number=number,
        title=first.splitlines()[0].removeprefix(f"# {number} · "),
        reading=int(reading[1]) if reading else 0,
        exercises=sum(map(int, MINUTES.findall(text))),
        needs=needs[1] if needs else "",
    )
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := HEADING.match(cell.source)):
            title = heading[2]
            chapter.sections.append(Section(title, label_of(number, title)))
        chapter.sections[-1].text += cell.source + "\n\n"
        if cell.cell_type == "code" and (export := EXPORT.match(cell.source)):
            for name in public_names(cell.source):
                chapter.exports[f"{export[1]}.{name}"] = chapter.sections[-1]
    return chapter


@cache
def chapters() -> list[Chapter]:
    """All notebooks, in order."""
    return [chapter_of(path) for path in notebooks_of(NOTEBOOKS)]


@cache
def built_in() -> dict[str, tuple[Chapter, Section]]:
    """Where each exported name is built: "models.layers.RMSNorm" -> its section."""
    return {
        name: (chapter, section)
        for chapter in chapters()
        for name, section in chapter.exports.items()
    }
