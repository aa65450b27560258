"""The exercises of a notebook, as they stand in its cells.

They stand in the section `## Exercises`. Its first code cell holds all imports that
they need. Then, for each: a Markdown cell with the heading `### Exercise 1 · title` (or
`### Bug hunt · title`) and the line `*level · 20 minutes*`; for a bug hunt a code cell
with the implementation to suspect; a code cell with a stub, whose last line is the
check; and a Markdown cell with the solution in `<details>`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from llm_course.authoring.sources import ExportError, read_notebook

HEADING = re.compile(
    r"### (?:Exercise \d+|Bug hunt) · (?P<title>[^·\n]+)\n\n"
    r"\*(?P<level>easy|medium|hard)(?P<optional>, optional)?"
    r" · (?P<minutes>\d+) minutes\*\n"
)
SOLUTION = re.compile(
    r"\A<details>\n<summary>Solution</summary>\n\n"
    r"```python\n(?P<code>.*?)\n```\n(?P<why>.*?)</details>\Z",
    re.DOTALL,
)
CHECK = re.compile(r'^check\("(?P<key>[\w.]+)", (?P<name>\w+)\)\Z', re.MULTILINE)


class FormError(ValueError):
    """A notebook's exercises do not have the form above."""


@dataclass(frozen=True)
class ExerciseCells:
    """One exercise: what its heading says, and the sources of its cells.

    `stub` is the reader's cell without its check; `name` is the function that the check
    gets. `places` are the indices of the reader's cell and of the solution's.
    """

    key: str
    title: str
    level: str
    minutes: int
    text: str
    given: str
    stub: str
    name: str
    solution: str
    why: str
    places: tuple[int, int]

    @property
    def is_hunt(self) -> bool:
        return self.text.startswith("### Bug hunt")


@dataclass(frozen=True)
class Section:
    """The exercises of one notebook, and the cell of imports that all of them need."""

    imports: str
    exercises: tuple[ExerciseCells, ...]


def section_of(nb: Any, name: str = "the notebook") -> Section | None:
    """The section of exercises of a notebook, None if it has none. Raises FormError."""
    cells = nb.cells
    starts = [i for i, cell in enumerate(cells) if _heads(cell, r"## Exercises\b")]
    if not starts:
        return None
    after = range(starts[0] + 1, len(cells))
    end = next((i for i in after if _heads(cells[i], r"##? ")), len(cells))
    heads = [i for i in range(starts[0] + 1, end) if _heads(cells[i], r"### ")]
    before = [
        cell.source
        for cell in cells[starts[0] : heads[0] if heads else end]
        if _code(cell)
    ]
    if len(before) != 1 or not heads:
        raise FormError(f"{name}: the exercises start with one code cell of imports")
    exercises = [
        _read(cells, start, stop, name)
        for start, stop in zip(heads, [*heads[1:], end], strict=True)
    ]
    return Section(before[0], tuple(exercises))


def read_section(path: Path) -> Section | None:
    """As `section_of`, of a file."""
    try:
        return section_of(nbformat.from_dict(read_notebook(path)), path.name)
    except ExportError as error:
        raise FormError(str(error)) from None


def defined(source: str, name: str) -> ast.FunctionDef:
    """The definition of the function `name` at the top of `source`. Raises FormError
    without one."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise FormError(f"no `def {name}` at the top of:\n{source}")


def _code(cell: Any) -> bool:
    return cell.cell_type == "code"


def _heads(cell: Any, pattern: str) -> bool:
    return cell.cell_type == "markdown" and re.match(pattern, cell.source) is not None


def _read(cells: Any, start: int, stop: int, notebook: str) -> ExerciseCells:
    text = cells[start].source
    label = f"{notebook}, {text.splitlines()[0]!r}"
    heading = HEADING.match(text + "\n")
    if not heading:
        raise FormError(
            f"{label} is not `### Exercise 1 · title`, then `*level · 20 minutes*`"
        )
    checked = [
        i
        for i in range(start, stop)
        if _code(cells[i]) and CHECK.search(cells[i].source)
    ]
    solved = [i for i in range(start, stop) if cells[i].source.startswith("<details>")]
    if len(checked) != 1 or len(solved) != 1 or checked[0] > solved[0]:
        raise FormError(
            f"{label}: one cell that ends in a check, then one with the solution"
        )
    check = CHECK.search(cells[checked[0]].source)
    solution = SOLUTION.match(cells[solved[0]].source)
    if not check or not solution:
        raise FormError(
            f"{label}: the solution is not one block of Python in <details>"
        )
    return ExerciseCells(
        key=check["key"],
        title=heading["title"],
        level=heading["level"] + (heading["optional"] or ""),
        minutes=int(heading["minutes"]),
        text=text,
        given="\n\n".join(c.source for c in cells[start : checked[0]] if _code(c)),
        stub=cells[checked[0]].source[: check.start()].rstrip() + "\n",
        name=check["name"],
        solution=solution["code"],
        why=solution["why"].strip(),
        places=(checked[0], solved[0]),
    )
