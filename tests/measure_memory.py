"""The peak memory of each notebook's kernel: the table of docs/memory.md.

    python -m tests.measure_memory [NN ...]

Linux only. Each notebook runs in a kernel of its own, whose processes are looked at
20 times a second. What a mapped file holds in memory is counted apart: the system can
take that memory back, and reads the file again when it is needed.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from llm_course.authoring.location import VERIFY
from tests.notebook_tools import NOTEBOOKS

INTERVAL = 0.05
JUPYTERLAB = 0.15e9  # bytes that the server takes beside the kernel


def descendants(pid: int) -> list[int]:
    """`pid` and all processes that it started."""
    found = [pid]
    for parent in found:
        try:
            tasks = Path(f"/proc/{parent}/task").iterdir()
            children = " ".join((t / "children").read_text("ascii") for t in tasks)
        except OSError:
            continue  # it has just ended
        found += map(int, children.split())
    return found


def resident(pid: int) -> tuple[int, int]:
    """(own, file) bytes in memory of a process: its own, and of mapped files.

    What processes share is divided among them: a fork that has just begun is not
    counted as a second copy.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8")
    except OSError:
        return 0, 0
    kilobytes = dict(re.findall(r"^(Pss_\w+): +(\d+) kB", text, re.MULTILINE))
    anon, shared, file = (
        1024 * int(kilobytes.get(f"Pss_{kind}", 0))
        for kind in ("Anon", "Shmem", "File")
    )
    return anon + shared, file


async def peak(path: Path) -> tuple[int, int]:
    """(own, all) bytes at the highest moment of each while a notebook runs."""
    os.environ[VERIFY] = "1"  # the kernel writes nothing
    where: Any = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        nbformat.read(path, 4), timeout=600, kernel_name="python3", resources=where
    )
    run = asyncio.create_task(client.async_execute())
    own = total = 0
    while not run.done():
        await asyncio.sleep(INTERVAL)
        provisioner = getattr(client.km, "provisioner", None)
        if pid := getattr(provisioner, "pid", None):
            both = [resident(one) for one in descendants(pid)]
            own = max(own, sum(o for o, _ in both))
            total = max(total, sum(o + f for o, f in both))
    await run
    return own, total


def main() -> None:
    print("| notebook | its own memory | with mapped files | fits in 2 GB |")
    print("|---|---|---|---|")
    for path in NOTEBOOKS:
        if sys.argv[1:] and path.stem[:2] not in sys.argv[1:]:
            continue
        own, total = asyncio.run(peak(path))
        fits = "yes" if own + JUPYTERLAB < 2e9 else "no"
        sizes = f"{own / 1e9:.1f} GB | {total / 1e9:.1f} GB"
        print(f"| {path.stem} | {sizes} | {fits} |", flush=True)


if __name__ == "__main__":
    main()
