"""The command blocks of README and docs/, and a clone in which they are run as written.

In that clone a few programs are stand-ins (tests/stand_in.py): what would install,
serve, or take minutes is examined there instead of being run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__"),
    *("originals*", "build", "_build"),
)
PROGRAMS = ("python3", "mamba", "git", "pip")  # pip alone would be the system's


# Folders that a block finds, because another one or its reader has made them.
MADE_BEFORE = ("COURSE", "SUBMISSIONS")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    kind: str
    text: str


def blocks(*kinds: str) -> list[Block]:
    """Every fenced block of these kinds, page by page."""
    return [
        Block(page.name, kind, text)
        for page in PAGES
        for kind, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if kind in kinds
    ]


def block_with(text: str) -> Block:
    """The one shell block that contains `text`."""
    (found,) = [block for block in blocks("sh", "bash") if text in block.text]
    return found


def make_repository(folder: Path) -> Path:
    """A git repository that holds what this one holds now, saved or not."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*name, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def make_clone(repository: Path, folder: Path) -> Path:
    """A fresh clone, with an environment that this Python stands in for."""
    subprocess.run(["git", "clone", "-q", repository, folder], check=True)
    for place, names in {
        folder / ".venv" / "bin": ("python", "jupyter", "nbgrader"),
        folder.parent / "programs": PROGRAMS,
    }.items():
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            write_program(place / name, name)
    activate = f"PATH={shlex.quote(str(folder / '.venv' / 'bin'))}:$PATH\n"
    (folder / ".venv" / "bin" / "activate").write_text(activate, encoding="utf-8")
    for name in MADE_BEFORE:
        (folder / name).mkdir()
    return folder


def write_program(path: Path, name: str) -> None:
    """An executable that hands its arguments to tests/stand_in.py."""
    parts = map(shlex.quote, (sys.executable, str(ROOT / "tests/stand_in.py"), name))
    path.write_text(f'#!/bin/sh\nexec {" ".join(parts)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)


def run_as_written(
    block: Block, clone: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a block in a new shell in the clone. Nothing is activated there."""
    path = os.pathsep.join([str(clone.parent / "programs"), "/usr/bin", "/bin"])
    kept = {k: v for k, v in os.environ.items() if k in ("HOME", "LLM_COURSE_CACHE")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=clone,
        env=kept | {"PATH": path, "LC_ALL": "C.UTF-8"},
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
