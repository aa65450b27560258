"""Turn a GGUF file into a Hugging Face folder, once, so that later loads take about a
second.

The folder is the real thing: `transformers` and other programs load it too. Its weights
are float32, its q and k rows half-split, as that format wants them.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from tqdm import tqdm

from llm_course.arguments import checked
from llm_course.checkpoints.cache import (
    put_in_place,
    remove_leftovers,
    work_folder,
    write_errors,
)
from llm_course.checkpoints.download import ensure_gguf, pinned_model
from llm_course.checkpoints.gguf_file import read_gguf
from llm_course.checkpoints.huggingface import WEIGHTS
from llm_course.checkpoints.saving import write_folder, write_json
from llm_course.errors import CheckpointError
from llm_course.files import cache_dir, path_of

# count up when the written files change: folders of an older format are then ignored
FORMAT = 1
_RECEIPT = "conversion.json"


@checked
def converted_folder(name: str) -> Path:
    """Return the pinned model's Hugging Face folder in the cache; download and convert
    if needed.

    The folder's name holds the source's checksum and the format's number, and a receipt
    written last lists the size and the checksum of every file. All of them are read and
    compared each time, which takes a tenth of a second or a few; a folder whose files
    do not match is made afresh. Raises CheckpointError as `ensure_gguf` does, for a
    disk that is too full, and where a damaged folder is in use.
    """
    model = pinned_model(name)
    folder = cache_dir() / f"{name}-{model.sha256[:12]}-v{FORMAT}"
    if _is_whole(folder):
        remove_leftovers()
        return folder
    source = ensure_gguf(name)
    message = (
        f"Converting {source.name} for quicker loads (only this once, some seconds)"
    )
    with (
        work_folder(600_000_000) as work,
        tqdm(total=1, desc=message, bar_format="{desc}", leave=False),
    ):
        made = work / "converted"
        convert_gguf(source, made)
        try:
            if not _is_whole(folder):
                with write_errors(folder):
                    put_in_place(made, folder, work / "damaged")
        except CheckpointError:
            # otherwise another process was quicker: its copy is as good
            if not _is_whole(folder):
                raise
    return folder


@checked
def convert_gguf(path: str | Path, folder: str | Path) -> None:
    """Write the GGUF file at `path` as a Hugging Face model folder, which must not
    exist yet.

    About 4 bytes a weight. Raises CheckpointError as `read_gguf` does.
    """
    folder = path_of(folder)
    checkpoint = read_gguf(path)
    with write_errors(folder):
        write_folder(checkpoint, folder)
        receipt: dict[str, Any] = {"format": FORMAT, "source": Path(path).name}
        files = sorted(folder.iterdir())
        receipt["sizes"] = {file.name: file.stat().st_size for file in files}
        receipt["crc32"] = {file.name: _crc32(file) for file in files}
        write_json(folder / _RECEIPT, receipt)


def _is_whole(folder: Path) -> bool:
    """Whether all files are what the receipt says, to the last bit."""
    try:
        receipt = json.loads((folder / _RECEIPT).read_text(encoding="utf-8"))
        sizes, sums = receipt["sizes"], receipt["crc32"]
        return (
            {WEIGHTS, "config.json"} <= sizes.keys() == sums.keys()
            and all((folder / name).stat().st_size == sizes[name] for name in sizes)
            and all(_crc32(folder / name) == sums[name] for name in sums)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _crc32(path: Path) -> int:
    """A checksum that no damage of one place escapes; it reads a gigabyte a second or
    more."""
    value, buffer = 0, bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            value = zlib.crc32(memoryview(buffer)[:count], value)
    return value
