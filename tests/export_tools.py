"""What the tests of the exporter share: edits of a small repository, its last cell."""

from __future__ import annotations

from pathlib import Path

from tests.notebook_tools import find, read, run, write

IN_KERNEL = """
import os, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in sys.argv[1].split("=====\\n"):
    shell.run_cell(cell, store_history=True)
"""
LAST_CELL = (
    'from llm_course.authoring import export_notebook\nexport_notebook("01_tiny")\n'
)


def edit(root: Path, old: str, new: str) -> Path:
    """Replace text in the notebook's export cell."""
    path = root / "notebooks" / "01_tiny.ipynb"
    nb = read(path)
    cell = find(nb, "#| export")
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    write(path, nb)
    return path


def module(root: Path) -> Path:
    return root / "llm_course" / "models" / "tiny.py"


def in_kernel(root: Path, *cells: str, cwd: Path | None = None) -> str:
    """What the last cell prints in a shell that ran `cells` before."""
    source = "=====\n".join([*cells, LAST_CELL])
    return run(root, "-c", IN_KERNEL, source, cwd=cwd or root / "notebooks").stdout
