"""The rules for stored notebooks: each function returns one line for each offence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_course.authoring.normal_form import RULES, alt_text
from llm_course.authoring.refresh import refresh
from tests.notebook_tools import NOTEBOOKS, code, read

MAX_CELLS = 100
MAX_LINES, LONG_LINES = 32, 15
MAX_EXPORT_LINES = 60
# Classes and compiled functions that are longer.
LONG_EXPORTS = (
    "#| export engine.step",
    "#| export engine.native",
    "#| export engine.paged_cache",
    "#| export engine.scheduler",
    "#| export engine.batch",
    "#| export engine.kv_cache",
    "#| export models.rope",
    "#| export models.attention",
    "#| export models.transformer",
)
MAX_WORDS = 280  # of one Markdown cell
WORDS_A_MINUTE = 150  # prose and code together
MAX_BYTES = 3_000_000
MAX_DIGITS = 4  # another CPU changes the fifth significant digit
UNCOMPARED_TAGS = {"timing", "nbval-ignore-output", "nbval-skip", "raises-exception"}
EXPORT_MARK = "#| export"
COLAB = '"google.colab"'  # in the cell that sets Colab up: nothing to read or to follow
ANSWER = "<details>\n<summary>Answer</summary>\n\n"
Rule = Callable[[Path, Any], list[str]]
DECIMAL = re.compile(r"(?<![\w.])-?(\d+\.\d+)(?![\w.]*\.\w)")


def first_line(cell: Any) -> str:
    """The first line of a code cell, a figure's alt text aside."""
    return re.sub(r"\A#\| fig-alt: .*\n(?:#\|   .*\n)*", "", cell.source).splitlines()[
        0
    ]


def label(cell: Any) -> str:
    """A code cell as messages name it: its count and its first line."""
    return f"cell [{cell.execution_count}] {first_line(cell)!r}"


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
    """Beside a widget stands a picture, HTML or an assert: nbval does not compare its
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
            {"image/png", "text/html"} & out.get("data", {}).keys()
            for c in near
            for out in c.outputs
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
    if (taught := steps(without_exercises(nb))) > MAX_CELLS:
        found.append(f"{taught} steps beside the exercises; at most {MAX_CELLS}")
    if path.stat().st_size > MAX_BYTES:
        found.append(f"the file has {path.stat().st_size} bytes; at most {MAX_BYTES}")
    return found + [
        f"{label(cell)} has {lines_of(cell)} lines; too long"
        for cell in [
            *long_cells(nb, MAX_LINES),
            *(cell for cell in exported(nb) if lines_of(cell) > MAX_EXPORT_LINES),
        ]
    ]


def lines_of(cell: Any) -> int:
    return cell.source.count("\n") + 1


def steps(cells: list[Any]) -> int:
    """Cells, where Markdown cells in a row count as one, and export cells in a row."""
    kinds = [
        "export" if cell.source.startswith(EXPORT_MARK) else cell.cell_type
        for cell in cells
    ]
    return sum(
        kind == "code" or kind != before
        for before, kind in zip(["", *kinds], kinds, strict=False)
    )


def exported(nb: Any) -> list[Any]:
    """The cells that go to the package."""
    return [
        cell
        for cell in code(nb)
        if cell.source.startswith(EXPORT_MARK)
        and not cell.source.startswith(LONG_EXPORTS)
    ]


def without_exercises(nb: Any) -> list[Any]:
    """The cells that are read in a row, from the first to the last."""
    kept, inside = [], False
    for cell in nb.cells:
        if COLAB in cell.source:
            continue
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            inside = cell.source.startswith("## Exercises")
        kept += [] if inside else [cell]
    return kept


def long_cells(nb: Any, lines: int) -> list[Any]:
    """Code cells longer than `lines`, export cells aside."""
    return [
        cell
        for cell in code(nb)
        if lines_of(cell) > lines and not cell.source.startswith(EXPORT_MARK)
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


def markdown(nb: Any) -> list[Any]:
    return [cell for cell in nb.cells if cell.cell_type == "markdown"]


def sections(path: Path, nb: Any) -> list[str]:
    """A Markdown cell has one section: a heading stands first in it, if at all."""
    found = []
    for cell in markdown(nb):
        first = cell.source.splitlines()[0][:60]
        text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
        if re.search(r"(?<=\n)#+ ", text):
            found.append(f"a heading stands in the middle of the cell {first!r}")
        if (words := len(text.split())) > MAX_WORDS:
            found.append(f"{words} words in the cell {first!r}; at most {MAX_WORDS}")
    return found


def links(path: Path, nb: Any) -> list[str]:
    """Each mention of another notebook is a link to it."""
    linked = re.compile(r"\[[^\]]*\]\([^)]*\)|`[^`]*`")
    known = {file.name for file in NOTEBOOKS}
    found = []
    for cell in markdown(nb):
        for target in re.findall(r"\]\((\w+\.ipynb)", cell.source):
            if target not in known:
                found.append(f"a link to {target}, which is no notebook here")
        text = linked.sub("", cell.source)
        for mention in re.findall(r"\b[Nn]otebooks? \d\d", text):
            if not mention.endswith(path.stem[:2]):
                found.append(f"{mention!r} is no link, in {cell.source[:60]!r}")
    return found


def predictions(path: Path, nb: Any) -> list[str]:
    """The answer to a prediction is folded: the next Markdown cell starts with it."""
    found = []
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown" or "**Predict, then run.**" not in cell.source:
            continue
        after = [c for c in nb.cells[i + 1 :] if c.cell_type == "markdown"]
        if not after or not after[0].source.startswith(ANSWER):
            found.append(f"the answer is not folded after {cell.source[-60:]!r}")
    return found


def alt_texts(path: Path, nb: Any) -> list[str]:
    """Each stored figure says in one sentence what it shows, in its cell and output."""
    found = []
    for cell in code(nb):
        pictures = [out for out in cell.outputs if "image/png" in out.get("data", {})]
        if not pictures:
            continue
        text = alt_text(cell.source)
        if not text or not text.endswith(".") or not 6 <= len(text.split()) <= 60:
            found.append(
                f"{label(cell)} draws a figure without `#| fig-alt: A sentence.`"
            )
        elif any(
            out.metadata.get("image/png", {}).get("alt") != text for out in pictures
        ):
            found.append(f"{label(cell)}: its stored figure has another alt text")
    return found


def reading_time(path: Path, nb: Any) -> list[str]:
    """The first cell says how long the reading takes, without the exercises."""
    words = sum(len(cell.source.split()) for cell in without_exercises(nb))
    minutes = 5 * round(words / WORDS_A_MINUTE / 5)
    said = f"about {minutes} minutes"
    if said in nb.cells[0].source:
        return []
    return [f"the first cell does not say {said!r} (reading, {words} words)"]


# What makes a notebook readable.
RULES_OF_READING: list[Rule] = [
    sections,
    links,
    predictions,
    alt_texts,
    reading_time,
]
RULES_FOR_NOTEBOOKS: list[Rule] = [
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
        (path.stem, first_line(cell))
        for cell in code(read(path))
        if UNCOMPARED_TAGS & set(cell.metadata.get("tags", []))
        or marker.search(cell.source)
    }
