"""Every trap has a test, and every test it names exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.traps import HERE, TRAPS

ROOT = Path(__file__).parents[2]
ROWS = [(row, tests) for rows in TRAPS.values() for row, tests in rows.items()]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the test functions of a file."""
    body = ast.parse((ROOT / path).read_text("utf-8")).body
    names = (node.name for node in body if isinstance(node, ast.FunctionDef))
    return frozenset(name for name in names if name.startswith("test_"))


@pytest.mark.parametrize(("row", "tests"), ROWS, ids=[row for row, _ in ROWS])
def test_the_tests_of_a_row_exist(row: str, tests: list[str]) -> None:
    assert tests
    paths = [test.partition("::")[::2] for test in tests]
    assert [
        f"{path}::{name}" for path, name in paths if name not in names_in(path)
    ] == []


def test_every_test_here_belongs_to_a_row() -> None:
    named = {test for _, tests in ROWS for test in tests}
    files = {f"{HERE}/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    files.remove(f"{HERE}/{Path(__file__).name}")
    here = {f"{path}::{name}" for path in files for name in names_in(path)}
    assert here - named == set()
    assert {name.partition("::")[0] for name in here} == files


def test_no_section_lost_a_row() -> None:
    counts = {section: len(rows) for section, rows in TRAPS.items()}
    assert counts == {
        "RoPE": 6,
        "Attention and masks": 5,
        "Cache": 4,
        "Sampling": 9,
        "Generation and tokenizers": 6,
        "RMSNorm": 1,
        "Notebooks": 4,
    }
