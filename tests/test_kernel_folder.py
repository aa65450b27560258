"""The folder of compiled kernels: where it is, and what gives it another name."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from llm_course.engine import native, step

ENGINE = Path(step.__file__).parent


def modules_of(name: str) -> set[str]:
    """A module of the engine, and those that it imports from there."""
    tree = ast.parse((ENGINE / f"{name}.py").read_text(encoding="utf-8"))
    package = "llm_course.engine."
    found = [
        node.module.removeprefix(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package)
    ]
    return {name}.union(*map(modules_of, found))


def test_all_that_is_compiled_gives_the_folder_its_name() -> None:
    assert set(native.KERNELS) == modules_of("step")


@pytest.mark.parametrize(("changed", "same"), [("rows", False), ("batch", True)])
def test_other_kernels_have_another_folder(
    changed: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_COURSE_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "engine"
    shutil.copytree(ENGINE, copy)
    monkeypatch.setattr(step, "__file__", str(copy / "step.py"))
    before = native.kernel_folder()
    assert before is not None
    assert before.parent == tmp_path / "cache" / "kernels"
    with (copy / f"{changed}.py").open("a", encoding="utf-8") as file:
        file.write("# another line\n")
    assert (native.kernel_folder() == before) is same


def test_without_a_place_that_can_be_written_there_is_no_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for nowhere in (__file__, "~nosuchuser/x"):
        monkeypatch.setenv("LLM_COURSE_CACHE", nowhere)
        assert native.kernel_folder() is None
