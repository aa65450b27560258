"""Copies of the notebooks for a class, with the marks and the metadata of nbgrader.

    python -m llm_course.classroom.student FOLDER

`FOLDER/source/llm_course/` gets the notebooks with each solution in its cell, between
the lines `### BEGIN SOLUTION` and `### END SOLUTION`, and `FOLDER/release/llm_course/`
the students' copies, where a line `raise NotImplementedError()` stands instead. The
folders are those of nbgrader, whose `generate_assignment` makes the same copies from
the same sources. Outputs of the cells are left out.
"""

from __future__ import annotations

import argparse
import ast
import copy
import sys
from pathlib import Path
from typing import Any

import nbformat

from llm_course.authoring.location import ROOT
from llm_course.classroom.exercise_cells import ExerciseCells, defined, section_of

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ["# YOUR CODE HERE", "raise NotImplementedError()"]
ASSIGNMENT = "llm_course"


def _parts(source: str, name: str) -> tuple[list[str], list[str]]:
    """(the lines of a function's head, up to its docstring; those of its body), without
    the rest."""
    node = defined(source, name)
    first = node.body[1] if ast.get_docstring(node) is not None else node.body[0]
    lines, start = source.splitlines(), node.body[0].lineno - 1
    if ast.get_docstring(node) is not None:
        start = node.body[0].end_lineno or start
    return lines[:start], lines[min(start, first.lineno - 1) : node.end_lineno]


def solved_cell(exercise: ExerciseCells) -> str:
    """The reader's cell with the published solution between the marks, and its
    check."""
    head, _ = _parts(exercise.stub, exercise.name)
    _, body = _parts(exercise.solution, exercise.name)
    check = f'check("{exercise.key}", {exercise.name})'
    return "\n".join([*head, f"    {BEGIN}", *body, f"    {END}", "", "", check])


def without_solutions(source: str) -> str:
    """Every region between the marks replaced by the stub, as nbgrader does it."""
    kept, inside = [], False
    for line in source.split("\n"):
        if BEGIN in line:
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + stub for stub in STUB]
        elif END in line:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def instructor_copy(nb: Any) -> Any:
    """The notebook for nbgrader's `source`: solutions in their cells, metadata, no
    outputs."""
    nb = copy.deepcopy(nb)
    section = section_of(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for exercise in section.exercises if section else ():
        cell = nb.cells[exercise.places[0]]
        cell.source = solved_cell(exercise)
        cell.metadata["nbgrader"] = {
            "grade": False,
            "grade_id": exercise.key.replace(".", "-"),
            "locked": False,
            "schema_version": 3,
            "solution": True,
            "task": False,
        }
    dropped = (
        {exercise.places[1] for exercise in section.exercises} if section else set()
    )
    nb.cells = [cell for i, cell in enumerate(nb.cells) if i not in dropped]
    return nb


def student_copy(nb: Any) -> Any:
    """The notebook for nbgrader's `release`: as `instructor_copy`, without the
    solutions."""
    nb = instructor_copy(nb)
    for cell in nb.cells:
        if "nbgrader" in cell.metadata:
            cell.source = without_solutions(cell.source)
            cell.metadata["deletable"] = False
    return nb


def main() -> int:
    """The command line. Existing files of the same names are written over."""
    parser = argparse.ArgumentParser(
        description="Write copies of the notebooks for a class."
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        for kind, made in (
            ("source", instructor_copy(nb)),
            ("release", student_copy(nb)),
        ):
            target = folder / kind / ASSIGNMENT / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(made, target)
    print(
        f"wrote {folder / 'source'} (with solutions) and {folder / 'release'} (without)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
