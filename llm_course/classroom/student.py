"""Copies of the notebooks for a class, with the marks and the metadata of nbgrader.

    python -m llm_course.classroom.student FOLDER
    python -m llm_course.classroom.student FOLDER --chapters 1-3

`FOLDER/source/llm_course/` gets the notebooks with each solution in its cell, between
the lines `### BEGIN SOLUTION` and `### END SOLUTION`, and `FOLDER/release/llm_course/`
the students' copies, where a line `raise NotImplementedError()` stands instead. The
check has a cell of its own, which nbgrader locks and gives points for. The folders are
those of nbgrader, whose `generate_assignment` makes the same copies from the same
sources. Outputs of the cells are left out.
"""

from __future__ import annotations

import argparse
import ast
import copy
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

from llm_course.authoring.chapters import chapters, notebooks_of
from llm_course.authoring.location import ROOT
from llm_course.authoring.processes import print_anything
from llm_course.authoring.sources import ExportError
from llm_course.classroom.exercise_cells import (
    ExerciseCells,
    FormError,
    defined,
    section_of,
)

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ["# YOUR CODE HERE", "raise NotImplementedError()"]
ASSIGNMENT = "llm_course"
BELOW = "The cell below each exercise holds its check."


def reworded(text: str) -> str:
    """What the course says of its exercises, as it is in the copies: the check stands
    below, no solution does."""
    sentences = [s for s in re.split(r"(?<=\.) ", text) if "folded" not in s]
    return " ".join(BELOW if "ends in its check" in s else s for s in sentences)


def _parts(source: str, name: str) -> tuple[list[str], list[str]]:
    """(the lines of a function's head, up to its docstring; those of its body), without
    the rest."""
    node = defined(source, name)
    first = node.body[1] if ast.get_docstring(node) is not None else node.body[0]
    lines, start = source.split("\n"), node.body[0].lineno - 1
    if ast.get_docstring(node) is not None:
        start = node.body[0].end_lineno or start
    return lines[:start], lines[min(start, first.lineno - 1) : node.end_lineno]


def solved_cell(exercise: ExerciseCells) -> str:
    """The reader's cell with the published solution between the marks."""
    head, _ = _parts(exercise.stub, exercise.name)
    _, body = _parts(exercise.solution, exercise.name)
    return "\n".join([*head, f"    {BEGIN}", *body, f"    {END}"])


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


def points(exercise: ExerciseCells) -> int:
    """A point for each five minutes; those of an optional exercise count as well."""
    return max(1, exercise.minutes // 5)


def check_cell(exercise: ExerciseCells, of: Any) -> Any:
    """The cell that nbgrader grades: it raises unless the exercise is solved."""
    source = f'check("{exercise.key}", {exercise.name}, graded=True)'
    cell = nbformat.v4.new_code_cell(source, id=f"{of.id[:50]}-check")
    name = exercise.key.replace(".", "-")
    graded = {"grade": True, "locked": True, "points": points(exercise)}
    cell.metadata["nbgrader"] = _metadata(f"{name}-check") | graded
    return cell


def _metadata(grade_id: str) -> dict[str, Any]:
    kinds = dict.fromkeys(("grade", "locked", "solution", "task"), False)
    return {"grade_id": grade_id, "schema_version": 3, **kinds}


def instructor_copy(nb: Any) -> Any:
    """The notebook for nbgrader's `source`: solutions in their cells, a graded check
    after each, no outputs."""
    nb = copy.deepcopy(nb)
    section = section_of(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        elif cell.source.startswith("## Exercises"):
            cell.source = reworded(cell.source)
    for exercise in section.exercises if section else ():
        here, solution = exercise.places
        cell = nb.cells[here]
        cell.source = solved_cell(exercise)
        name = exercise.key.replace(".", "-")
        cell.metadata["nbgrader"] = _metadata(name) | {"solution": True}
        nb.cells[solution] = check_cell(exercise, cell)
    return nb


def student_copy(nb: Any) -> Any:
    """The notebook for nbgrader's `release`: as `instructor_copy`, without the
    solutions."""
    nb = instructor_copy(nb)
    for cell in nb.cells:
        if "nbgrader" in cell.metadata:
            cell.source = without_solutions(cell.source)
            cell.metadata["deletable"] = False
            if cell.metadata["nbgrader"]["locked"]:
                cell.metadata["editable"] = False
    return nb


def write_copies(paths: list[Path], folder: Path) -> None:
    """Write both copies of each notebook below `folder`."""
    for path in paths:
        nb = nbformat.read(path, as_version=4)
        for kind, made in (
            ("source", instructor_copy(nb)),
            ("release", student_copy(nb)),
        ):
            target = folder / kind / ASSIGNMENT / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(nbformat.writes(made) + "\n", encoding="utf-8")


def main() -> int:
    """The command line. Existing files of the same names are written over."""
    print_anything()
    parser = argparse.ArgumentParser(
        description="Write copies of the notebooks for a class."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--chapters", type=chapters, help="some notebooks alone, such as 1-3"
    )
    args = parser.parse_args()
    try:
        paths = notebooks_of(ROOT / "notebooks", args.chapters)
        write_copies(paths, args.folder)
    except (FormError, ExportError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{len(paths)} notebooks: {args.folder / 'source'} (with solutions) and"
        f" {args.folder / 'release'} (without)"
    )
    if args.chapters:
        numbers = ",".join(map(str, sorted(args.chapters)))
        print(
            "To compare these chapters alone with the package: python -m"
            f" llm_course.authoring.export --check --chapters {numbers}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
