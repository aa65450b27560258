"""The repository's public address: pyproject.toml has it, and everything repeats it.

To change it, change it there and run in a shell, with the new owner for NEW:

    sed -i 's#OWNER/llm_course#NEW/llm_course#' README.md docs/*.md notebooks/*.ipynb
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.notebook_tools import NOTEBOOKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PROJECT["project"]["urls"]["Repository"]
OWNER_AND_NAME = ADDRESS.removeprefix("https://github.com/")
# How each site spells a repository of GitHub's.
SPELLINGS = re.compile(
    r"(?:https://github\.com/|colab\.research\.google\.com/github/|mybinder\.org/v2/gh/)"
    r"([\w.-]+/[\w-]+)"
)
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *NOTEBOOKS]


def test_the_address_is_one_of_github() -> None:
    assert re.fullmatch(r"https://github\.com/[\w.-]+/llm_course", ADDRESS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_everything_repeats_the_address_of_pyproject(path: Path) -> None:
    found = set(SPELLINGS.findall(path.read_text(encoding="utf-8")))
    assert found <= {OWNER_AND_NAME}, __doc__


def test_readme_and_pages_have_it() -> None:
    for name, count in {
        "README.md": 1,
        "docs/online.md": 1,
        "docs/install.md": 1,
    }.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert len(SPELLINGS.findall(text)) >= count, name
