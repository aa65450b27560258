"""The cache folder: how files get into it, or into any other folder, whole or not at
all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from llm_course.errors import CheckpointError
from llm_course.files import CACHE_VARIABLE, cache_dir

_WORK_PREFIX = ".work-"
_STALE_SECONDS = 24 * 3600


@contextmanager
def work_folder(needed_bytes: int) -> Iterator[Path]:
    """Give a private folder inside the cache; it is removed at the end, whatever
    happens.

    A file is made here and moved into the cache by one rename. So an interrupted run
    leaves nothing that looks finished, and two processes never write to the same file.
    Raises CheckpointError if the cache folder cannot be written to or the disk has less
    than `needed_bytes` to spare.
    """
    cache = cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=cache))
    except OSError as error:
        raise CheckpointError(
            f"Cannot write to the cache folder {cache} ({error.strerror}): make it"
            f" writable, or set the environment variable {CACHE_VARIABLE} to a folder"
            " that is."
        ) from error
    try:
        remove_leftovers()
        free = shutil.disk_usage(folder).free
        if free < needed_bytes:
            raise CheckpointError(
                f"The cache folder {cache} needs {needed_bytes / 1e6:,.0f} MB and its"
                f" disk has {free / 1e6:,.0f} MB free: make room, or set the"
                f" environment variable {CACHE_VARIABLE} to a folder on another disk."
            )
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers() -> None:
    """Remove work folders of processes that were killed, once they are a day old."""
    for folder in cache_dir().glob(f"{_WORK_PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its owner has just removed it


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turn what the system and the safetensors library raise into a CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} cannot be written ({error}): make room on its disk, make it"
            " writable, or choose another folder."
        ) from error


def put_in_place(made: Path, target: Path, aside: Path) -> None:
    """Rename the folder `made` to `target`; what was there becomes `aside`.

    If that fails, what was there is back. Raises CheckpointError where the system keeps
    it in place: Windows does, while a file inside is open or mapped into memory.
    """
    try:
        if target.exists():
            os.rename(target, aside)
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be replaced ({error.strerror}): a program has a file in"
            " it open, such as a model that was loaded from there. Delete that model"
            " and its tensors (`del model`), restart the kernel that holds them, or"
            " choose another folder."
        ) from error
    try:
        os.rename(made, target)
    except OSError:
        if aside.exists():
            os.rename(aside, target)
        raise
