"""Where the repository lies, and whether a notebook imports the package that lies
beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# set for kernels that pytest or `refresh` start; they write nothing
VERIFY = "LLM_COURSE_VERIFY"
SESSION = "JPY_SESSION_NAME"  # the notebook's path, from JupyterLab


def verifying() -> bool:
    """True in a kernel that only checks the notebooks (started by pytest or by
    `refresh`)."""
    return bool(os.environ.get(VERIFY))


def notebook_path(name: str) -> Path:
    """The file of the running notebook, which its last cell calls `name`.

    The editor knows best. A kernel that was told nothing is in the notebook's folder,
    or was started in the folder that holds `notebooks`.
    """
    main = vars(sys.modules["__main__"])
    by_editor = [
        main.get(name) for name in ("__vsc_ipynb_file__", "PAPERMILL_INPUT_PATH")
    ]
    for told in (*by_editor, os.environ.get(SESSION)):
        if told and Path(told).suffix == ".ipynb" and Path(told).is_file():
            return Path(told).resolve()
    here = Path.cwd() / f"{name}.ipynb"
    below = Path.cwd() / "notebooks" / here.name
    return (below if below.is_file() and not here.is_file() else here).resolve()


def check_copy(path: Path) -> bool:
    """Say so when the notebook at `path` imports another copy of the package than its
    own.

    Returns True, and prints nothing, in the `notebooks` folder beside the package in
    use.
    """
    home, folder = ROOT / "notebooks", path.parent
    if folder == home:
        return True
    if (
        folder.parent != ROOT
        and (folder.parent / "llm_course" / "__init__.py").exists()
    ):
        print(
            f"This notebook imports llm_course from {ROOT}, not from the copy beside"
            f" it.\nRun `python -m pip install -e .` in {folder.parent}, then restart"
            " the kernel."
        )
        return False
    if not verifying():
        print(
            f"This notebook is not in {home}, beside the package it imports. To export"
            f" from it, put it there in place of {path.name}, and run this cell there."
        )
    return verifying()  # a test runs copies of notebooks from a temporary folder
