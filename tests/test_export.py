"""The exporter writes what the notebooks say, refuses what is broken, and notices every
drift."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from llm_course.authoring.export import Module, collect, export_all, unsaved_cells
from llm_course.authoring.sources import ExportError
from tests.export_tools import edit, in_kernel, module
from tests.notebook_tools import (
    EXPORT_CELL,
    NOTEBOOKS,
    ROOT,
    code,
    make_repo,
    read,
    run,
    write,
)

CHAPTERS = {
    "models.layers": "01_rmsnorm",
    "models.rope": "02_rope",
    "models.attention": "03_attention_gqa",
    "models.transformer": "04_decoder",
    "engine.generation": "05_generate",
}


def test_the_packages_modules_match_the_notebooks() -> None:
    assert export_all(ROOT, check=True) == []
    exported = {
        name: module.notebook for name, module in collect(ROOT / "notebooks").items()
    }
    assert CHAPTERS.items() <= exported.items()


@pytest.mark.slow
def test_one_edited_line_of_each_notebook_is_drift(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "llm_course", tmp_path / "llm_course")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert export_all(tmp_path, check=True) == []
    for path in (tmp_path / "notebooks" / path.name for path in NOTEBOOKS):
        nb = read(path)
        cell = [cell for cell in code(nb) if cell.source.startswith("#| export")][-1]
        cell.source += "\n\n\nEXTRA = 1"
        write(path, nb)
    problems = export_all(tmp_path, check=True)
    assert [p.split()[-1] for p in problems] == [path.name for path in NOTEBOOKS]
    assert all(problem.startswith("stale: ") for problem in problems)


def test_the_written_module(repo: Path) -> None:
    text = module(repo).read_text(encoding="utf-8")
    assert text.splitlines()[:3] == [
        "# Exported from notebooks/01_tiny.ipynb; edit there, then run its last cell.",
        '"""A module of one function."""',
        "",
    ]
    assert text.count("import math") == 1
    assert text.index("from __future__ import annotations") < text.index("import math")
    assert '__all__ = ["root"]' in text
    assert "#|" not in text
    check = run(repo, "-m", "ruff", "check", "-q", str(module(repo)))
    formatted = run(repo, "-m", "ruff", "format", "--check", "-q", str(module(repo)))
    assert check.returncode == formatted.returncode == 0
    found = run(
        repo, "-c", "import llm_course.models.tiny as t; print(t.__doc__, t.root(9))"
    )
    assert found.stdout == "A module of one function. 3.0\n"


def test_imports_of_all_cells_are_hoisted_once_and_names_keep_their_order() -> None:
    second = (
        "import math\n# why\nfrom os import path\n\nLIMIT = 3\n\n\nclass Z:\n    p ="
        " path, math"
    )
    second += "\n\n\ndef _a(): ..."
    text = Module(
        "models.tiny", "01_tiny", [EXPORT_CELL.split("\n", 1)[1], second]
    ).render(ROOT)
    head = text[: text.index("__all__")]
    assert head.count("import math\n") == 1
    assert "# why\nfrom os import path\n" in head
    assert '__all__ = ["root", "LIMIT", "Z"]' in text


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("return math.sqrt(x)", "return math.sqrt(x", "'(' was never closed"),
        ("return math.sqrt(x)", "return np.sqrt(x)", "F821"),
        ("import math", "import math\nimport json", "F401"),
        ("import math", "import math\n\nX = math.no_such", "AttributeError"),
        ("import math", "import math\n\nraise SystemExit(3)", "does not import"),
        ('"""A module of one function."""', "", "must start with a docstring"),
        ("models.tiny", "checkpoints.tiny", "is not `#| export models.<name>`"),
        ("models.tiny", "models.__init__", "is not `#| export models.<name>`"),
        ("#| export models.tiny", "# mine\n#| export models.tiny", "on the first line"),
        ("#| export models.tiny", "#| export", "is not `#| export models.<name>`"),
    ],
)
def test_a_broken_export_is_refused_and_the_old_module_kept(
    repo: Path, old: str, new: str, reason: str
) -> None:
    before = module(repo).read_bytes()
    edit(repo, old, new)
    for check in (True, False):
        problems = export_all(repo, check=check)
        assert problems
        assert reason in problems[0] or (check and problems[0].startswith("stale"))
    assert module(repo).read_bytes() == before
    assert sorted(p.name for p in module(repo).parent.glob(".*")) == []


def test_a_module_may_import_one_that_a_later_cell_exports(tmp_path: Path) -> None:
    root = make_repo(tmp_path)
    first = (
        '#| export engine.first\n"""First."""\n\n'
        "from llm_course.models.tiny import root\n\nsix = root(36)"
    )
    path = root / "notebooks" / "01_tiny.ipynb"
    nb = read(path)
    nb.cells.insert(0, new_code_cell(first))
    write(path, nb)
    assert export_all(root) == []
    assert (root / "llm_course/engine/first.py").exists()


def test_two_notebooks_may_not_export_one_module(repo: Path) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    shutil.copy(path, repo / "notebooks" / "02_other.ipynb")
    assert export_all(repo, check=True) == [
        "01_tiny and 02_other both export models.tiny"
    ]


def test_a_module_that_no_notebook_exports_is_drift(repo: Path) -> None:
    (repo / "llm_course" / "engine" / "by_hand.py").write_text(
        "X = 1\n", encoding="utf-8"
    )
    problems = ["stray: llm_course/engine/by_hand.py is exported by no notebook"]
    assert export_all(repo, check=True) == problems


def test_an_edited_module_is_drift_and_is_written_anew(repo: Path) -> None:
    before = module(repo).read_text(encoding="utf-8")
    module(repo).write_text(before + "\n# by hand\n", encoding="utf-8")
    assert export_all(repo, check=True)[0].startswith("stale")
    assert export_all(repo) == []
    assert module(repo).read_text(encoding="utf-8") == before


def test_deleting_the_export_cells_or_the_notebooks_does_not_pass(repo: Path) -> None:
    path = edit(repo, EXPORT_CELL, "x = 1")
    assert "01_tiny.ipynb has no `#| export` cell" in export_all(repo, check=True)
    path.unlink()
    assert export_all(repo, check=True)[0].startswith("no notebooks in")
    path.write_text("{", encoding="utf-8")
    assert "is not a notebook" in export_all(repo, check=True)[0]


def test_a_notebook_without_a_number_is_no_chapter(repo: Path) -> None:
    write(repo / "notebooks" / "playground.ipynb", new_notebook())
    assert export_all(repo, check=True) == []


def test_the_command_says_what_is_stale_and_exits_with_one(repo: Path) -> None:
    command = ("-m", "llm_course.authoring.export", "--check")
    assert run(repo, *command).returncode == 0
    edit(repo, "The square root.", "A root.")
    done = run(repo, *command)
    assert done.returncode == 1
    assert (
        done.stdout == "stale: llm_course/models/tiny.py differs from 01_tiny.ipynb\n"
    )


@pytest.mark.slow
def test_the_last_cell_exports_its_notebook(repo: Path) -> None:
    matches = "llm_course/models/tiny.py matches this notebook (1 cell).\n"
    assert in_kernel(repo, EXPORT_CELL) == matches
    edit(repo, "The square root.", "A root.")
    out = in_kernel(repo, "import llm_course.models.tiny")
    assert out.splitlines(keepends=True)[-1] == matches
    assert "[export] llm_course/models/tiny.py was written just now." in out
    assert "[export] Restart the kernel" in out
    assert "A root." in module(repo).read_text(encoding="utf-8")
    edit(repo, "A root.", "The root.")
    assert "Restart" not in in_kernel(repo)


def test_the_last_cell_notices_what_was_run_but_not_saved(repo: Path) -> None:
    before = module(repo).read_bytes()
    out = in_kernel(repo, EXPORT_CELL, EXPORT_CELL.replace("The square", "My square"))
    assert out == "Not saved yet: root. Save the notebook, then run this cell again.\n"
    assert module(repo).read_bytes() == before
    later = in_kernel(repo, EXPORT_CELL.replace("The square", "My square"), EXPORT_CELL)
    assert later.endswith("matches this notebook (1 cell).\n")


def test_the_last_cell_says_why_it_refuses(repo: Path) -> None:
    before = module(repo).read_bytes()
    edit(repo, "return math.sqrt(x)", "return np.sqrt(x)")
    out = in_kernel(repo)
    assert out.startswith("Not exported, the package stays as it was: ")
    assert "F821" in out
    edit(repo, "return np.sqrt(x)", "return math.sqrt(x) + 0")
    copy = repo / "notebooks" / "01_tiny-Copy1.ipynb"
    shutil.copy(repo / "notebooks" / "01_tiny.ipynb", copy)
    assert "01_tiny-Copy1.ipynb exports models.tiny too" in in_kernel(repo)
    assert module(repo).read_bytes() == before
    copy.unlink()
    assert "matches this notebook" in in_kernel(repo)


def test_unsaved_cells_are_named_by_what_they_define(repo: Path) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    assert (
        unsaved_cells(
            path, ["", EXPORT_CELL, "print(1)", "#| export models.tiny\ndef ("]
        )
        == []
    )
    assert unsaved_cells(path, ["#| export models.tiny\ndef new(): ..."]) == ["new"]


def test_a_notebook_beside_another_copy_of_the_package_says_so(
    repo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "llm_course").mkdir(parents=True)
    (other / "llm_course" / "__init__.py").touch()
    shutil.copytree(repo / "notebooks", other / "notebooks")
    out = in_kernel(repo, cwd=other / "notebooks")
    assert f"imports llm_course from {repo}, not from the copy beside it" in out
    assert "Nothing was exported." in out
    alone = tmp_path / "alone"
    shutil.copytree(repo / "notebooks", alone)
    assert "beside the package it imports" in in_kernel(repo, cwd=alone)


@pytest.mark.slow
def test_the_exporter_imports_neither_models_nor_engine(repo: Path) -> None:
    done = run(
        repo,
        "-c",
        "import sys, llm_course.authoring.export, llm_course.authoring.refresh\n"
        "heavy = ('torch', 'llm_course.models', 'llm_course.engine')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])",
    )
    assert done.stdout == "[]\n", done.stderr


def test_an_error_names_the_notebook(repo: Path) -> None:
    edit(repo, "def root(", "def root((")
    with pytest.raises(ExportError, match="01_tiny"):
        collect(repo / "notebooks")["models.tiny"].render(repo)
