"""Tests that readers may write for a bug hunt, and that do not solve it.

A file a chapter. `SAMPLES` has for each hunt those that are too weak to expose its
planted bug, and those so strict that they reject the right implementation;
tests/test_exercises.py has the hunt judge them.
"""

from __future__ import annotations

from llm_course.exercises import Function
from tests.hunts import ch01, ch02, ch03, ch04, ch05, ch06, ch07, ch08

Tests = tuple[Function, ...]

SAMPLES: dict[str, tuple[Tests, Tests]] = {
    "01.hunt": (ch01.TOO_WEAK, ch01.TOO_STRICT),
    "02.hunt": (ch02.TOO_WEAK, ch02.TOO_STRICT),
    "03.hunt": (ch03.TOO_WEAK, ch03.TOO_STRICT),
    "04.hunt": (ch04.TOO_WEAK, ch04.TOO_STRICT),
    "05.hunt": (ch05.TOO_WEAK, ch05.TOO_STRICT),
    "06.hunt": (ch06.TOO_WEAK, ch06.TOO_STRICT),
    "07.hunt": (ch07.TOO_WEAK, ch07.TOO_STRICT),
    "08.hunt": (ch08.TOO_WEAK, ch08.TOO_STRICT),
}
