"""What an export must not do: break what imports it, mean something else than the
notebook, or leave something behind."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from llm_course.authoring.chapters import chapters
from llm_course.authoring.export import export_all
from tests.export_tools import edit, in_kernel, module
from tests.notebook_tools import (
    EXPORT_CELL,
    find,
    read,
    run,
    write,
)

pytestmark = pytest.mark.slow
USER = """from llm_course.models.tiny import root


def six() -> float:
    return root(36)
"""


@pytest.mark.parametrize(
    "user",
    [
        USER,
        "def six():\n    from llm_course.models.tiny import root\n",
        "import llm_course.models.tiny as tiny\n\nsix = tiny.root(36)\n",
        "from llm_course.models import tiny\n\nsix = tiny.root(36)\n",
    ],
)
def test_a_name_that_something_still_imports_cannot_go(repo: Path, user: str) -> None:
    before = module(repo).read_bytes()
    (repo / "llm_course" / "chat" / "six.py").write_text(user, encoding="utf-8")
    edit(repo, "def root(", "def square_root(")
    (problem,) = export_all(repo)
    assert "then llm_course.chat.six" in problem
    assert "would no longer import" in problem
    assert ".new" not in problem
    assert module(repo).read_bytes() == before
    edit(repo, "def square_root(", "def root(")
    edit(repo, "The square root.", "A root.")
    assert export_all(repo) == []


def test_a_name_that_the_package_offers_cannot_go(repo: Path) -> None:
    init = repo / "llm_course" / "models" / "__init__.py"
    offered = init.read_text(encoding="utf-8")
    init.write_text(
        offered.replace('"layers": (', '"tiny": ("root",),\n        "layers": ('),
        encoding="utf-8",
    )
    edit(repo, "def root(", "def square_root(")
    (problem,) = export_all(repo)
    assert "from llm_course.models import root would no longer import" in problem


def test_a_name_can_be_changed_in_two_notebooks_at_once(repo: Path) -> None:
    """Each change alone would break what the other has."""
    second = repo / "notebooks" / "02_six.ipynb"
    source = f'#| export engine.six\n"""Six."""\n\n{USER}'
    write(second, new_notebook(cells=[new_code_cell(source)]))
    assert export_all(repo) == []
    edit(repo, "def root(", "def square_root(")
    assert "llm_course.engine.six would no longer import" in export_all(repo)[0]
    write(
        second,
        new_notebook(cells=[new_code_cell(source.replace("root", "square_root"))]),
    )
    assert export_all(repo) == []
    assert "def square_root" in module(repo).read_text(encoding="utf-8")


@pytest.mark.parametrize("character", "\x0c\x0b\x1c\x1d\x1e\x85\u2028\u2029")
def test_what_is_a_comment_in_the_notebook_is_none_in_the_package(
    repo: Path, character: str
) -> None:
    edit(repo, "import math", f"import math  # note{character}z = math.tau")
    export_all(repo)  # refused, or exported as it stands
    found = run(
        repo, "-c", "import llm_course.models.tiny as t; print(hasattr(t, 'z'))"
    )
    assert found.stdout == "False\n"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_the_ends_of_lines_are_those_of_the_notebook_in_any_system(
    repo: Path, end: str
) -> None:
    path = edit(repo, "The square root.", "A root.")
    nb = read(path)
    find(nb, "#| export").source = find(nb, "#| export").source.replace("\n", end)
    write(path, nb)
    assert export_all(repo) == []
    assert b"\r" not in module(repo).read_bytes()
    assert "A root." in module(repo).read_text(encoding="utf-8")


def test_an_import_keeps_its_line_to_itself(repo: Path) -> None:
    """Or what stands beside it would move to the top with it."""
    edit(repo, "import math", "import math; LIMIT = 3")
    (problem,) = export_all(repo)
    assert "two statements in 'import math; LIMIT = 3'" in problem


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("import sys\n\nsys.exit(0)", "SystemExit"),
        ("import os\n\nos._exit(0)", "ends the process"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_module_that_ends_the_process_is_refused(
    repo: Path, ending: str, reason: str
) -> None:
    edit(repo, "import math", f"import math\n{ending}")
    (problem,) = export_all(repo)
    assert "does not import" in problem
    assert reason in problem


@pytest.mark.parametrize("name", ["class", "lambda", "nul", "com1"])
def test_a_module_has_a_name_that_can_be_imported_everywhere(
    repo: Path, name: str
) -> None:
    edit(repo, "models.tiny", f"models.{name}")
    assert export_all(repo) == [f"01_tiny.ipynb: no module can be called {name!r}"]


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"3",
        b'{"cells": 3}',
        b'{"cells": [null]}',
        b'{"cells": [{"cell_type": "code"}]}',
        b'{"cells": [{"cell_type": "code", "source": null}]}',
        b'{"cells": [{"cell_type": "code", "source": [1]}]}',
        b'{"cells": [{"cell_type": "code", "source": {"a": 1}}]}',
        b'{"cells": [{"source": "x = 1"}]}',
        b'{"worksheets": []}',
        b'{"cells": []} \xff',
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"",
    ],
)
def test_what_is_no_notebook_is_named_in_one_sentence(
    repo: Path, content: bytes
) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    path.write_bytes(content)
    for check in (True, False):
        (problem,) = [p for p in export_all(repo, check) if "stray" not in p]
        assert problem.startswith("01_tiny.ipynb is not a notebook: ")
        assert "\n" not in problem


@pytest.mark.parametrize(
    "source", ["x = '\0'", "-" * 50_000 + "1", "'\ud800'", "(" * 300]
)
def test_a_cell_that_python_cannot_parse_is_refused(repo: Path, source: str) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    text = {"cell_type": "code", "source": f"{EXPORT_CELL}\n{source}"}
    path.write_text(json.dumps({"cells": [text]}), encoding="utf-8")
    (problem,) = export_all(repo)
    assert problem.startswith("kept llm_course/models/tiny.py as it was: ")


def test_an_unsaved_cell_that_does_not_parse_is_named(repo: Path) -> None:
    broken = EXPORT_CELL.replace("return math.sqrt(x)", "return math.sqrt(x")
    out = in_kernel(repo, EXPORT_CELL, broken)
    assert out.endswith(
        "Not saved yet: root. Save the notebook, then run this cell again.\n"
    )
    assert "matches" in in_kernel(repo, broken, EXPORT_CELL)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_leftovers_of_a_killed_export_go_at_the_next_one(repo: Path) -> None:
    edit(repo, "import math", "import math\nimport os")
    edit(
        repo, "return math.sqrt(x)", "return math.sqrt(x)\n\n\nos.kill(os.getppid(), 9)"
    )
    killed = run(repo, "-c", "from llm_course.authoring.export import *; export_all()")
    assert killed.returncode
    assert [p.suffix for p in module(repo).parent.glob(".*")] == [".new"]
    (repo / "notebooks" / ".01_tiny.ipynb.new").touch()  # of a killed refresh
    (repo / "notebooks" / ".mine.new").touch()
    edit(repo, "\n\n\nos.kill(os.getppid(), 9)", "")
    edit(repo, "import math\nimport os", "import math")
    assert export_all(repo) == []
    assert list(module(repo).parent.glob(".*")) == []
    assert [p.name for p in (repo / "notebooks").glob(".*")] == [".mine.new"]


@pytest.mark.parametrize("told", ["JPY_SESSION_NAME", "__vsc_ipynb_file__", None])
def test_where_a_notebook_lies_does_not_depend_on_the_kernels_folder(
    repo: Path, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    cells = [EXPORT_CELL]
    if told == "JPY_SESSION_NAME":
        monkeypatch.setenv(told, str(path))
    elif told:
        cells.insert(0, f"{told} = {str(path)!r}")
    cwd = repo.parent if told else repo
    out = in_kernel(repo, *cells, cwd=cwd)
    assert out == "llm_course/models/tiny.py matches this notebook (1 cell).\n"


def test_a_copy_of_a_notebook_is_told_how_to_export(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "class" / "01_tiny.ipynb"
    copy.parent.mkdir()
    shutil.copy(repo / "notebooks" / copy.name, copy)
    monkeypatch.setenv("JPY_SESSION_NAME", str(copy))
    out = in_kernel(repo, cwd=repo / "notebooks")
    assert f"is not in {repo / 'notebooks'}" in out
    assert "put it there in place of 01_tiny.ipynb" in out


def test_a_course_of_some_chapters(repo: Path) -> None:
    second = repo / "notebooks" / "02_six.ipynb"
    source = f'#| export engine.six\n"""Six."""\n\n{USER}'
    write(second, new_notebook(cells=[new_code_cell(source)]))
    assert export_all(repo) == []
    second.unlink()
    (problem,) = export_all(repo, check=True)
    assert problem.startswith("stray: llm_course/engine/six.py")
    assert "--chapters" in problem
    assert export_all(repo, check=True, chosen={1}) == []
    assert "no notebook of chapter 2" in export_all(repo, check=True, chosen={1, 2})[0]
    edit(repo, "The square root.", "A root.")
    assert "stale" in export_all(repo, check=True, chosen={1})[0]


@pytest.mark.parametrize(
    ("text", "numbers"), [("1-3", {1, 2, 3}), ("2", {2}), ("1, 5-6", {1, 5, 6})]
)
def test_chapters_are_given_as_numbers(text: str, numbers: set[int]) -> None:
    assert chapters(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "1;2", "01_rmsnorm"])
def test_other_chapters_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not like 1-3"):
        chapters(text)
