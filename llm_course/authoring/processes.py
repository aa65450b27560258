"""Other processes, whose text is UTF-8 whatever the system's own encoding is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path


def utf8_environment(**extra: str) -> dict[str, str]:
    """The environment for a Python whose output is read as UTF-8."""
    return {**os.environ, "PYTHONIOENCODING": "utf-8", **extra}


def run_python(
    *arguments: str | Path, cwd: Path, text: str = "", timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run this Python with `text` as its input; what it prints is kept."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=cwd,
        env=utf8_environment(),
        timeout=timeout,
    )


def print_anything() -> None:
    """Let `print` show `?` for a character that the terminal lacks, not raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
