"""`check("01.backward", my_function)`: the verdict on an exercise, below its cell."""

import contextlib
import io
import warnings
from importlib import import_module

from llm_course.exercises.hunts import BugHunt
from llm_course.exercises.records import SOLVED, Exercise, Function, Verdict


def registry(chapter: str) -> dict[str, Exercise | BugHunt]:
    """The exercises of one notebook ("01"), by key."""
    folder = f"llm_course.exercises.ch{chapter}"
    names = import_module(folder).EXERCISES
    records = [import_module(f"{folder}.{name}").CHECK for name in names]
    return {record.key: record for record in records}


def judge(key: str, function: Function) -> Verdict:
    """Run a reader's function, or test, against the exercise `key` ("01.backward")."""
    known = registry(key.partition(".")[0])
    if key not in known:
        keys = ", ".join(known)
        raise ValueError(f"there is no exercise {key!r}; this notebook has {keys}")
    return known[key].judge(function)


class NotSolved(AssertionError):
    """Raised by a graded check. A notebook shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(key: str, function: Function, graded: bool = False) -> None:
    """Print the verdict on a reader's function.

    A `graded` check raises NotSolved where the exercise is not solved, so that nbgrader
    gives no points. Nor does it for a cell that warned, so warnings are dropped.
    """
    if not graded:
        print(judge(key, function).text)
        return
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        verdict = judge(key, function)
    print(verdict.text)
    if verdict.status != SOLVED:
        raise NotSolved(f"{key}: no points yet ({verdict.status})")
