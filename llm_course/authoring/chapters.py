"""Some of the notebooks, by the numbers of their chapters."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path


def chapters(text: str) -> frozenset[int]:
    """The numbers in "1-3" or "1,2,5-6"; the type of the option `--chapters`."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,2})(?:\s*-\s*(\d{1,2}))?\s*", part)
        numbers = match and range(int(match[1]), int(match[2] or match[1]) + 1)
        if not numbers:
            raise argparse.ArgumentTypeError(f"{text!r} is not like 1-3 or 1,2,5")
        found.update(numbers)
    return frozenset(found)


def chapter_of(stem: str) -> int | None:
    """The number that a notebook's name starts with."""
    match = re.match(r"(\d\d)_", stem)
    return int(match[1]) if match else None


def notebooks_of(folder: Path, chosen: Collection[int] | None = None) -> list[Path]:
    """The chapters of a folder, all or some, in order; a notebook whose name starts
    with no number is none.

    Raises ValueError for a chapter that is not there.
    """
    found = sorted(folder.glob("*.ipynb"))
    paths = [path for path in found if chapter_of(path.stem) is not None]
    if chosen is None:
        return paths
    found = [path for path in paths if chapter_of(path.stem) in chosen]
    if missing := sorted(set(chosen) - {chapter_of(path.stem) for path in found}):
        numbers = ", ".join(map(str, missing))
        raise ValueError(f"no notebook of chapter {numbers} in {folder}")
    return found
