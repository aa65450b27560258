"""Where the repository lies, and whether a notebook imports the package that lies
beside it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# set for kernels that pytest or `refresh` start; they write nothing
VERIFY = "LLM_COURSE_VERIFY"


def verifying() -> bool:
    """True in a kernel that only checks the notebooks (started by pytest or by
    `refresh`)."""
    return bool(os.environ.get(VERIFY))


def check_copy(folder: Path | None = None) -> bool:
    """Say so when the notebook in `folder` imports another copy of the package than its
    own.

    A kernel starts in the folder of its notebook, so `folder` is the working directory
    unless given. Returns True, and prints nothing, in the `notebooks` folder beside the
    package in use.
    """
    folder = (folder or Path.cwd()).resolve()
    if folder == ROOT / "notebooks":
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
            f"This notebook is not in {ROOT / 'notebooks'}, beside the package it"
            " imports."
        )
    return verifying()  # a test runs copies of notebooks from a temporary folder
