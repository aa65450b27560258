"""Wrong versions of a reference, each written as an edit of its source.

A wrong version says what a reader did differently, and nothing else: "old -> new",
several joined by " ;; ". An edit whose old text does not stand in the reference exactly
once is an error when the exercise is imported, so that no wrong version can rot
unnoticed.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

Function = Callable[..., Any]
ARROW, AND = " -> ", " ;; "


def edited(reference: Function, edits: str) -> Function:
    """`reference`, a function or a class, with each "old -> new" made, in order.

    The new one sees the names of the reference's module, as they are when it is
    made. Raises ValueError for an edit without an arrow, and for an old text that does
    not stand exactly once in what the edits before it left.
    """
    source = textwrap.dedent(inspect.getsource(reference))
    for edit in edits.split(AND):
        old, arrow, new = edit.partition(ARROW)
        if not arrow:
            raise ValueError(f"{edit!r} is not 'old -> new'")
        if (found := source.count(old)) != 1:
            raise ValueError(
                f"{old!r} stands {found} times in {reference.__name__}, not once"
            )
        source = source.replace(old, new)
    names = dict(vars(sys.modules[reference.__module__]))
    exec(compile(source, f"<{reference.__name__}: {edits}>", "exec"), names)
    return names[reference.__name__]


def wrong_versions(
    reference: Function, versions: Mapping[str, str | Function]
) -> dict[str, Function]:
    """By hint: a string of edits becomes the edited reference, a function stays."""
    return {
        hint: edited(reference, version) if isinstance(version, str) else version
        for hint, version in versions.items()
    }
