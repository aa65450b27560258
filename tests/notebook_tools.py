"""What the tests of the notebooks share: a small repository to corrupt, and clean
subprocesses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

from llm_course.authoring.chapters import notebooks_of

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = notebooks_of(ROOT / "notebooks")  # the chapters
PLAYGROUND = ROOT / "notebooks" / "playground.ipynb"  # a page, and no chapter

EXPORT_CELL = '''#| export models.tiny
"""A module of one function."""

import math


def root(x: float) -> float:
    """The square root."""
    return math.sqrt(x)'''
CURVE_CELL = """import matplotlib.pyplot as plt
import numpy as np

x, shift = np.linspace(0, 6, 200), 0.0
fig, ax = plt.subplots()
ax.plot(x, np.sin(x) + shift)
ax.set_ylim(-1.5, 1.5)
plt.show()"""
TIMING_CELL = """plt.plot(np.random.default_rng().random(5))
plt.show()
print(np.random.default_rng().random())"""
CELLS = (
    EXPORT_CELL,
    'print("root of 9 is", int(root(9.0)))',
    CURVE_CELL,
    TIMING_CELL,
    (
        'import time\n\nprint(f"slept {time.perf_counter() % 9:.1f} s; {time.time() %'
        ' 99:.1f} tokens/s")'
    ),
    "from ipywidgets import IntSlider\n\nIntSlider()",
    "assert np.sin(x).max() > 0.9",
    'from llm_course.authoring import export_notebook\n\nexport_notebook("01_tiny")',
)


def clean_env(**extra: str) -> dict[str, str]:
    """The environment without what a surrounding pytest run put there."""
    ours = ("PYTEST_", "LLM_COURSE_VERIFY", "OMP_NUM_THREADS")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return kept | {"PYTHONIOENCODING": "utf-8"} | extra  # as its readers expect


def run(
    root: Path, *command: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with `command` in a repository, importing the package that lies
    there."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd or root,
        env=clean_env(
            PYTHONPATH=str(root),
            # of an environment that may not be active; nbgrader calls alembic
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        ),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def make_repo(root: Path) -> Path:
    """A repository like this one, with one short notebook, not yet exported or
    executed."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "llm_course", root / "llm_course", ignore=skip)
    for package in ("models", "engine"):
        for path in (root / "llm_course" / package).glob("*.py"):
            if path.name != "__init__.py":
                path.unlink()
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, root)
    (root / "notebooks").mkdir()
    write(root / "notebooks" / "01_tiny.ipynb", tiny_notebook())
    return root


def tiny_notebook() -> Any:
    """The notebook of `make_repo`."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Tiny")])
    for i, source in enumerate(CELLS):
        nb.cells.append(nbformat.v4.new_code_cell(source, id=f"tiny-{i}"))
        if source == TIMING_CELL:
            nb.cells[-1].metadata["tags"] = ["timing"]
    return nb


def read(path: Path) -> Any:
    """A notebook as nbformat has it."""
    return nbformat.read(path, as_version=4)


def write(path: Path, nb: Any) -> None:
    """Store a notebook as it is."""
    path.write_text(nbformat.writes(nb) + "\n", encoding="utf-8")


def code(nb: Any) -> list[Any]:
    """The code cells of a notebook."""
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def find(nb: Any, source: str) -> Any:
    """The code cell with this source, or containing it."""
    return next(cell for cell in code(nb) if source in cell.source)
