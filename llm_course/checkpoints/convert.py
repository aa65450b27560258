"""Turn a GGUF file into a Hugging Face folder, once, so that later loads take about a
second.

The folder is the real thing: `transformers` and other programs load it too. Its weights
are float32, its q and k rows half-split, as that format wants them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tqdm import tqdm

from llm_course.arguments import checked
from llm_course.checkpoints.cache import cache_dir, work_folder
from llm_course.checkpoints.download import ensure_gguf, pinned_model
from llm_course.checkpoints.gguf_file import read_gguf
from llm_course.checkpoints.saving import write_folder, write_json

# count up when the written files change: folders of an older format are then ignored
FORMAT = 1
_RECEIPT = "conversion.json"


@checked
def converted_folder(name: str) -> Path:
    """Return the pinned model's Hugging Face folder in the cache; download and convert
    if needed.

    The folder's name holds the source's checksum and the format's number, and a receipt
    written last lists the size of every file. A folder whose files do not match is made
    afresh. Raises CheckpointError as `ensure_gguf` does, and for a disk that is too
    full.
    """
    model = pinned_model(name)
    folder = cache_dir() / f"{name}-{model.sha256[:12]}-v{FORMAT}"
    if _is_whole(folder):
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
        if folder.exists() and not _is_whole(folder):
            os.rename(folder, work / "damaged")  # removed together with the work folder
        try:
            os.rename(made, folder)
        except OSError:
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
    folder = Path(folder)
    write_folder(read_gguf(path), folder)
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    write_json(
        folder / _RECEIPT, {"format": FORMAT, "source": Path(path).name, "sizes": sizes}
    )


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _RECEIPT).read_text(encoding="utf-8"))["sizes"]
        return all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
