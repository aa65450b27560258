"""The first code cell of every notebook fetches the course in Google Colab, and does
nothing elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.notebook_tools import NOTEBOOKS, ROOT, code, read

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
HOME = "/content/llm_course"
Runs = list[list[str]]


def first_cell(path: Path) -> str:
    return code(read(path))[0].source


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """The commands that a cell runs. A clone is made, of one folder; nothing else is.

    What the cell changes is put back after the test.
    """
    commands: Runs = []

    def run(command: list[str], check: bool = False) -> None:
        assert check  # or a failure would go unseen
        commands.append(command)
        if command[0] == "git":
            Path(command[-1], "notebooks").mkdir(parents=True)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    return commands


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Path]:
    """A function that runs the cell as Colab would, and returns the course's folder."""
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    home = tmp_path / "content"
    source = first_cell(NOTEBOOKS[0])
    assert source.count(HOME) == 1

    def run() -> Path:
        exec(source.replace(HOME, str(home)), {})
        return home

    return run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_same_cell(path: Path) -> None:
    cell = code(read(path))[0]
    assert cell.source == first_cell(NOTEBOOKS[0])
    assert "google.colab" in cell.source
    assert cell.outputs == []


def test_elsewhere_it_does_nothing(runs: Runs, tmp_path: Path) -> None:
    before = [*sys.path]
    scope: dict[str, Any] = {}
    exec(first_cell(NOTEBOOKS[0]), scope)
    assert scope.keys() == {"__builtins__", "sys"}
    assert (runs, sys.path, Path.cwd()) == ([], before, tmp_path)


def test_in_colab_it_fetches_the_course_and_what_colab_lacks(
    runs: Runs, colab: Callable[[], Path]
) -> None:
    home = colab()
    clone, install = runs
    assert clone[:2] == ["git", "clone"]
    assert clone[-2:] == [PROJECT["urls"]["Repository"], str(home)]
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert "--no-deps" in install  # Colab keeps its own PyTorch and Matplotlib
    gguf, anywidget, psygnal = install[-3:]
    assert {gguf, anywidget} <= set(PROJECT["dependencies"])
    assert (gguf[:4], anywidget[:9]) == ("gguf", "anywidget")
    assert psygnal == "psygnal"  # which anywidget needs, and Colab lacks
    assert sys.path[0] == str(home)
    assert os.path.samefile(Path.cwd(), home / "notebooks")


def test_a_second_run_in_colab_clones_no_more(
    runs: Runs, colab: Callable[[], Path]
) -> None:
    colab()
    colab()
    assert [command[0] for command in runs].count("git") == 1
