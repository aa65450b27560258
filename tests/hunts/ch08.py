"""Readers' tests for 08.hunt: names of pages."""

from __future__ import annotations

from llm_course.exercises import Function


def of_known_value(implementation: Function) -> None:
    """Asks for the names that one implementation gives."""
    assert implementation([1, 2], 2) == [hash((1, 2))]


def equal_texts(implementation: Function) -> None:
    """Looks at texts that are equal, and never at two that differ."""
    assert implementation([1, 2, 3, 4], 2) == implementation([1, 2, 3, 4], 2)
    assert len(implementation([1, 2, 3, 4, 5], 2)) == 2


TOO_WEAK = (equal_texts,)
TOO_STRICT = (of_known_value,)
