"""The rules for stored notebooks: each function returns one line for each offence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_course.authoring.normal_form import RULES
from llm_course.authoring.refresh import refresh
from tests.notebook_tools import code, read

MAX_CELLS = 90
MAX_LINES, LONG_LINES = 22, 15
MAX_BYTES = 3_000_000
MAX_DIGITS = 4  # another CPU changes the fifth significant digit
UNCOMPARED_TAGS = {"timing", "nbval-ignore-output", "nbval-skip", "raises-exception"}
EXPORT_MARK = "#| export"
DECIMAL = re.compile(r"(?<![\w.])-?(\d+\.\d+)(?![\w.]*\.\w)")


def label(cell: Any) -> str:
    """A code cell as messages name it: its count and its first line."""
    return f"cell [{cell.execution_count}] {cell.source.splitlines()[0]!r}"


def texts(cell: Any) -> list[str]:
    """Every stored text output of a code cell; of HTML, what is between the tags."""
    found = [out.text for out in cell.outputs if out.output_type == "stream"]
    for out in cell.outputs:
        data = out.get("data", {})
        if "text/html" in data:
            found.append(
                re.sub(r"<style.*?</style>|<[^>]*>", " ", data["text/html"], flags=re.S)
            )
        elif "text/plain" in data:
            found.append(data["text/plain"])
    return found


def counts(path: Path, nb: Any) -> list[str]:
    """nbval does not compare a cell without a count."""
    found = [cell.execution_count for cell in code(nb)]
    return (
        []
        if found == list(range(1, len(found) + 1))
        else [f"execution counts are {found}"]
    )


def errors(path: Path, nb: Any) -> list[str]:
    """No stored error, and nothing on stderr."""
    return [
        f"{label(cell)} holds an error or a warning"
        for cell in code(nb)
        for out in cell.outputs
        if out.output_type == "error" or out.get("name") == "stderr"
    ]


def widgets(path: Path, nb: Any) -> list[str]:
    """Beside each widget stands a picture or an assert: nbval does not compare its
    state."""
    cells = code(nb)
    found = []
    for i, cell in enumerate(cells):
        repr_of_one = re.compile(r"\A\w+\((?:children=|value=|layout=)")
        shown = any(
            repr_of_one.match(out.get("data", {}).get("text/plain", ""))
            for out in cell.outputs
        )
        if not shown and "widget" not in cell.metadata.get("tags", []):
            continue
        near = cells[i : i + 2]
        pictured = any(
            "image/png" in out.get("data", {}) for c in near for out in c.outputs
        )
        if not pictured and not any(
            re.search(r"^\s*assert ", c.source, re.M) for c in near
        ):
            found.append(
                f"{label(cell)} shows a widget without a static figure or an assert"
            )
    return found


def sizes(path: Path, nb: Any) -> list[str]:
    """Notebooks, cells and files of a size that a reader can follow."""
    found = []
    if len(taught := without_exercises(nb)) > MAX_CELLS:
        found.append(f"{len(taught)} cells beside the exercises; at most {MAX_CELLS}")
    if path.stat().st_size > MAX_BYTES:
        found.append(f"the file has {path.stat().st_size} bytes; at most {MAX_BYTES}")
    return found + [
        f"{label(cell)} has {cell.source.count(chr(10)) + 1} lines; at most {MAX_LINES}"
        for cell in long_cells(nb, MAX_LINES)
    ]


def without_exercises(nb: Any) -> list[Any]:
    """The cells that are read in a row, from the first to the last."""
    kept, inside = [], False
    for cell in nb.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            inside = cell.source.startswith("## Exercises")
        kept += [] if inside else [cell]
    return kept


def long_cells(nb: Any, lines: int) -> list[Any]:
    """Code cells longer than `lines`, export cells aside."""
    return [
        cell
        for cell in code(nb)
        if cell.source.count("\n") + 1 > lines
        and not cell.source.startswith(EXPORT_MARK)
    ]


def last_cell(path: Path, nb: Any) -> list[str]:
    """The last cell exports this notebook."""
    call = f'export_notebook("{path.stem}")'
    last = nb.cells[-1]
    found = last.cell_type == "code" and last.source.splitlines()[-1] == call
    return [] if found else [f"the last cell does not end with {call}"]


def private(path: Path, nb: Any) -> list[str]:
    """No path, home folder or address in a stored output."""
    return [
        f"{label(cell)} shows a path or an address: {text[:60]!r}"
        for cell in code(nb)
        for text in texts(cell)
        if RULES.stored(text) != text
    ]


def digits(path: Path, nb: Any) -> list[str]:
    """No decimal number with more digits than every CPU agrees on, where outputs are
    compared."""
    return [
        f"{label(cell)} prints {number}, more than {MAX_DIGITS} significant digits"
        for cell in code(nb)
        if not UNCOMPARED_TAGS & set(cell.metadata.get("tags", []))
        for text in texts(cell)
        for number in DECIMAL.findall(RULES.compared(text))
        if len(number.replace(".", "").strip("0")) > MAX_DIGITS
    ]


def mimes(path: Path, nb: Any) -> list[str]:
    """No output of a kind that is compared by nobody."""
    known = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png"}
    return [
        f"{label(cell)} stores {kind}, which is not compared"
        for cell in code(nb)
        for out in cell.outputs
        for kind in out.get("data", {})
        if kind not in known
    ]


def normal(path: Path, nb: Any) -> list[str]:
    """In the form that refresh writes: only tags as metadata, fixed kernelspec, stable
    ids."""
    problem = refresh(path, check=True)
    return [problem] if problem else []


RULES_FOR_NOTEBOOKS: list[Callable[[Path, Any], list[str]]] = [
    counts,
    errors,
    widgets,
    sizes,
    last_cell,
    private,
    digits,
    mimes,
    normal,
]


def offences(path: Path) -> list[str]:
    """Everything that is wrong with a stored notebook."""
    nb = read(path)
    return [line for rule in RULES_FOR_NOTEBOOKS for line in rule(path, nb)]


def uncompared(path: Path) -> set[tuple[str, str]]:
    """(notebook, first line) of each code cell whose output nbval does not compare."""
    marker = re.compile(r"^\s*#+\s*(?:NBVAL_|PYTEST_VALIDATE_)", re.M)
    return {
        (path.stem, cell.source.splitlines()[0])
        for cell in code(read(path))
        if UNCOMPARED_TAGS & set(cell.metadata.get("tags", []))
        or marker.search(cell.source)
    }
