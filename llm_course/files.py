"""Where the cache is; and reading the JSON files of a model folder, which others wrote:
regular files of bounded size only.

Paths come from users: none of them is an error of the operating system here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from llm_course.errors import CheckpointError

CACHE_VARIABLE = "LLM_COURSE_CACHE"
_MAX_BYTES = 100_000_000  # the largest tokenizer.json files have about 40 MB


def cache_dir() -> Path:
    """Return the cache folder, which may not exist yet: `LLM_COURSE_CACHE`, or the
    user's own."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("llm_course"))


def path_of(given: object) -> Path:
    """Return the path that a user gave, "~" expanded where there is such a home.

    Raises CheckpointError for what can be no path. Ask `os.path.isfile` and
    `os.path.isdir` about it: for a name that is too long, those of Path raise.
    """
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(os.path.expanduser(text))
    raise CheckpointError(f"{given!r:.200} is no path: give that of a file or folder.")


def file_at(given: object) -> Path:
    """Return the path of a file that is there. Raises CheckpointError otherwise."""
    path = path_of(given)
    if not os.path.isfile(path):
        raise CheckpointError(f"There is no file {path!s:.300}: check the path.")
    return path


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises CheckpointError for a file that is missing, not a regular file, too large or
    not UTF-8.
    """
    if not os.path.isfile(path):  # a pipe or a device could be read for ever
        raise CheckpointError(
            f"{path.parent} does not hold {path.name}: it is not a Hugging Face model"
            " folder."
        )
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise CheckpointError(
                f"{path} has {size:,} bytes, more than a file of its kind can need:"
                " copy it again."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as text ({error}): copy it again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises CheckpointError as `read_text` does, and
    for other JSON."""
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not JSON ({error}): copy it again."
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object: copy it again.")
    return values
