"""Run the answers of a saved notebook, one after the other, for `progress`.

    python -m llm_course.classroom.run NOTEBOOK FIRST

prints two lines of JSON an answer, from number FIRST on: its key before it runs, and
the verdict after. Who reads them can stop this process when an answer takes too long.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import llm_course.exercises
from llm_course.classroom.answers import Answer, read_answers
from llm_course.classroom.exercise_cells import ExerciseCells, Section
from llm_course.exercises.judging import judge, registry
from llm_course.exercises.records import FAILING, Verdict

UNREADABLE = "unreadable"
# Neither `In` nor `Out`; to clear `Out`, IPython would look through all of memory.
FORGETFUL = Config(
    {"HistoryManager": {"enabled": False}, "InteractiveShell": {"cache_size": 0}}
)


class Shell(InteractiveShell):
    """Runs cells as a kernel does, without a screen and without tracebacks."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Accept `%matplotlib inline`."""

    def showtraceback(self, *_: Any, **__: Any) -> None:
        """Show nothing: the verdict says it."""


def execute(*sources: str) -> dict[str, Any]:
    """Run cells one after the other, as in a fresh kernel: magics and `display` work.

    Returns the names they defined; raises what a cell raises.
    """
    shell = Shell.instance(config=FORGETFUL)
    shell.reset(new_session=False)
    for source in sources:
        result = shell.run_cell(source)
        if error := result.error_before_exec or result.error_in_exec:
            raise error
    return shell.user_ns


def judge_cells(section: Section, exercise: ExerciseCells, answer: str) -> Verdict:
    """The verdict on `answer`, the source of a cell that defines the exercise's
    function."""
    names = execute(section.imports, exercise.given, answer)
    return judge(exercise.key, names[exercise.name])


def judge_answer(answer: Answer) -> Verdict:
    """Run an answer with its own call of `check`, and return that check's verdict."""
    if answer.problem:
        return Verdict(answer.key, UNREADABLE, (answer.key, answer.problem))
    verdicts: list[Verdict] = []

    def check(key: str, function: Any, graded: bool = False) -> None:
        if key == answer.key:
            verdicts.append(judge(key, function))

    llm_course.exercises.check = check  # type: ignore[assignment]
    try:
        execute(*answer.sources)
    except BaseException as error:  # `sys.exit` and its like are the reader's too
        if not verdicts:
            reason = f"its cell raises {type(error).__name__}: {error}"
            if isinstance(error, EOFError):  # there is no standard input
                reason = "its cell waits for input"
            return Verdict(answer.key, FAILING, (answer.key, reason))
    if not verdicts:
        reason = f'its cell does not come to check("{answer.key}", …)'
        return Verdict(answer.key, UNREADABLE, (answer.key, reason))
    return verdicts[-1]


def missing(answers: list[Answer]) -> Iterator[Answer]:
    """Exercises of the same chapters that no cell checks."""
    keys = {answer.key for answer in answers}
    for chapter in sorted({key[:2] for key in keys}):
        try:
            known = registry(chapter)
        except ModuleNotFoundError:
            continue
        for key in known:
            if key not in keys:
                yield Answer(key, problem=f'no cell ends in check("{key}", …)')


def main() -> None:
    """Judge, and report on what was standard output; cells may write where they
    like."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    answers = read_answers(Path(sys.argv[1]))
    for answer in [*answers, *missing(answers)][int(sys.argv[2]) :]:
        print(json.dumps({"exercise": answer.key}), file=report, flush=True)
        verdict = judge_answer(answer)
        said = {"status": verdict.status, "reason": verdict.reason}
        print(json.dumps(said), file=report, flush=True)
    print("{}", file=report, flush=True)
    os._exit(0)  # whatever threads the cells have left


if __name__ == "__main__":
    main()
