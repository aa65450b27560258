"""A reader's answers, as they stand in a saved notebook, whatever its form is by now.

An answer is a code cell that calls `check("01.fold", fold)`. It runs after the cells of
imports, at the start of the section `## Exercises`, and after the code cells between
its heading and itself. Nothing else of the notebook is run.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_course.authoring.sources import ExportError, read_notebook
from llm_course.classroom.exercise_cells import HEADING, FormError

CHECK = re.compile(r"""^check\(\s*(?:key\s*=\s*)?(["'])(?P<key>\d\d\.\w+)\1""", re.M)
SECTION = re.compile(r"## Exercises\b")
TITLE = re.compile(r"### (?:Exercise \d+|Bug hunt)\b")
IMPORT = re.compile(r"^(?:from|import) llm_course\.exercises\b", re.M)


@dataclass(frozen=True)
class Answer:
    """One exercise of a notebook: its heading, and the cells to run in order.

    `problem` says why it cannot be run, if so.
    """

    key: str
    title: str = ""
    level: str = ""
    minutes: str = ""
    sources: tuple[str, ...] = ()
    problem: str = ""


def answers_of(cells: list[Any]) -> list[Answer]:
    """The answers among a notebook's cells, in order."""
    found: list[Answer] = []
    imports: list[str] = []
    own: list[str] = []
    heading: re.Match[str] | None = None
    reached = titled = False
    for cell in cells:
        kind, source = cell["cell_type"], cell["source"]
        if kind == "markdown" and TITLE.match(source):
            heading, titled, own = HEADING.match(source + "\n"), True, []
        elif kind == "markdown" and SECTION.match(source):
            reached, titled, imports, own = True, False, [], []
        if kind != "code" or not (reached or IMPORT.search(source)):
            continue
        reached = True
        keys = [match["key"] for match in CHECK.finditer(source)]
        if not titled and not keys:
            imports.append(source)
            continue
        own.append(source)
        said = heading.groupdict() if heading else {}
        for key in dict.fromkeys(keys):
            level = f"{said.get('level', '')}{said.get('optional') or ''}"
            found.append(
                Answer(
                    key,
                    said.get("title", ""),
                    level,
                    said.get("minutes", ""),
                    (*imports, *own),
                )
            )
    return _once(found)


def _once(found: list[Answer]) -> list[Answer]:
    """One answer an exercise; a second check of it is a problem, not a second row."""
    counts = Counter(answer.key for answer in found)
    first = {answer.key: answer for answer in reversed(found)}
    return [
        first[key]
        if count == 1
        else replace(
            first[key],
            problem=f'{count} cells call check("{key}", …): keep one of them',
        )
        for key, count in counts.items()
    ]


def read_answers(path: Path) -> list[Answer]:
    """The answers in a file; none in a notebook without exercises. Raises FormError for
    what is not a notebook."""
    try:
        return answers_of(read_notebook(path)["cells"])
    except ExportError as error:
        raise FormError(str(error)) from None
