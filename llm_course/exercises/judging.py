"""`check("01.backward", my_function)`: the verdict on an exercise, below its cell."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from llm_course.exercises.hunts import BugHunt
from llm_course.exercises.records import Exercise, Verdict


def registry(chapter: str) -> dict[str, Exercise | BugHunt]:
    """The exercises of one notebook ("01"), by key."""
    module = import_module(f"llm_course.exercises.ch{chapter}")
    return {record.key: record for record in module.EXERCISES}


def judge(key: str, function: Callable[..., Any]) -> Verdict:
    """Run a reader's function, or test, against the exercise `key` ("01.backward")."""
    known = registry(key.partition(".")[0])
    if key not in known:
        raise ValueError(
            f"there is no exercise {key!r}; this notebook has {', '.join(known)}"
        )
    return known[key].judge(function)


def check(key: str, function: Callable[..., Any]) -> None:
    """Print the verdict on a reader's function."""
    print(judge(key, function).text)
