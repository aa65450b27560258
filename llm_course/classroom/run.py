"""Run the exercises of a saved notebook: `python -m llm_course.classroom.run NOTEBOOK`
prints JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from llm_course.classroom.exercise_cells import ExerciseCells, Section, read_section
from llm_course.exercises.judging import judge
from llm_course.exercises.records import FAILING, Verdict


def execute(*sources: str) -> dict[str, Any]:
    """Run cells one after the other, as in a fresh kernel; return the names they
    defined."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for source in sources:
        exec(compile(source, "<cell>", "exec"), names)
    return names


def judge_cells(section: Section, exercise: ExerciseCells, answer: str) -> Verdict:
    """The verdict on `answer`, the source of a cell that defines the exercise's
    function."""
    names = execute(section.imports, exercise.given, answer)
    return judge(exercise.key, names[exercise.name])


def main() -> None:
    """Judge every exercise of the notebook and print one line of JSON."""
    section = read_section(Path(sys.argv[1]))
    rows: list[dict[str, str]] = []
    if section is None:
        print(json.dumps(rows))
        return
    for exercise in section.exercises:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                verdict = judge_cells(section, exercise, exercise.stub)
            except Exception as error:  # the reader's cell itself fails
                reason = f"its cell raises {type(error).__name__}: {error}"
                verdict = Verdict(exercise.key, FAILING, (exercise.key, reason))
        row = {
            "exercise": exercise.key,
            "title": exercise.title,
            "level": exercise.level,
        }
        row |= {"minutes": str(exercise.minutes), "status": verdict.status}
        rows.append(
            row | {"reason": verdict.lines[1] if verdict.status == FAILING else ""}
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
