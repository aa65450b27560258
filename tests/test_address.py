"""The public addresses of the repository and its site: pyproject.toml has them, and
everything repeats them.

To change them, change them there and run in a shell, with the new owner for NEW:

    sed -i 's#OWNER/#NEW/#g; s#OWNER.github.io#NEW.github.io#g' README.md docs/*.md
    sed -i 's#OWNER/#NEW/#g' notebooks/*.ipynb
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.notebook_tools import NOTEBOOKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PROJECT["project"]["urls"]["Repository"]
SITE = PROJECT["project"]["urls"]["Documentation"]
OWNER_AND_NAME = ADDRESS.removeprefix("https://github.com/")
# How each site spells a repository of GitHub's.
SPELLINGS = re.compile(
    r"(?:https://github\.com/|colab\.research\.google\.com/github/|mybinder\.org/v2/gh/)"
    r"([\w.-]+/[\w-]+)"
)
SITES = re.compile(r"https://[\w.-]+\.github\.io/[\w./-]*")
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *NOTEBOOKS]


def test_the_address_is_one_of_github() -> None:
    assert re.fullmatch(r"https://github\.com/[\w.-]+/llm_course", ADDRESS)
    owner, name = OWNER_AND_NAME.split("/")
    assert f"https://{owner}.github.io/{name}/" == SITE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_everything_repeats_the_address_of_pyproject(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(SPELLINGS.findall(text)) <= {OWNER_AND_NAME}, __doc__
    assert all(link.startswith(SITE) for link in SITES.findall(text)), __doc__
    shown = re.findall(r"\[([\w.-]+\.github\.io/[\w/-]*)\]", text)
    assert {f"https://{name}/" for name in shown} <= {SITE}, __doc__


def test_readme_and_pages_have_it() -> None:
    for name, count in {
        "README.md": 1,
        "docs/online.md": 1,
        "docs/install.md": 1,
    }.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert len(SPELLINGS.findall(text)) >= count, name
    for name in ("README.md", "docs/online.md"):
        assert SITE in (ROOT / name).read_text(encoding="utf-8")
