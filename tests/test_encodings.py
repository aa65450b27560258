"""Text is UTF-8 on any system, whatever its own encoding is."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook_tools import NOTEBOOKS, ROOT, clean_env, make_repo

FILES = sorted(
    path for folder in ("llm_course", "tests") for path in (ROOT / folder).rglob("*.py")
)
ALWAYS_TEXT = {"read_text": 0, "write_text": 1}  # the place of the encoding


def unsaid(tree: ast.AST) -> Iterator[str]:
    """The calls in which the system's own encoding would decide."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in given or None in given:
            continue
        if isinstance(node.func, ast.Attribute) and name in ALWAYS_TEXT:
            if len(node.args) <= ALWAYS_TEXT[name]:
                yield ast.unparse(node)
        elif name in ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile"):
            mode = [*node.args, *given.values()]
            if not any("b" in str(getattr(m, "value", "")) for m in mode):
                yield ast.unparse(node)
        elif getattr(given.get("text"), "value", None) is True:
            yield ast.unparse(node)


def test_the_package_and_its_tests_say_which_encoding_they_mean() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): list(unsaid(ast.parse(path.read_bytes())))
        for path in FILES
    }
    allowed = ("os.open(", "archive.open(", "Image.open(", "TemporaryFile(dir")
    wrong = {
        f"{name}: {call}"
        for name, calls in found.items()
        for call in calls
        if not call.startswith(allowed)
    }
    assert wrong == set()


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text()",
        "path.read_text(errors='replace')",
        "path.write_text('x')",
        "open('x')",
        "path.open('w')",
        "subprocess.run([], text=True)",
    ],
)
def test_a_call_without_an_encoding_is_seen(source: str) -> None:
    assert list(unsaid(ast.parse(source))) == [source]


@pytest.mark.parametrize(
    "source",
    ["path.read_text('utf-8')", "open('x', 'rb')", "run([], encoding='utf-8')"],
)
def test_a_call_with_one_is_right(source: str) -> None:
    assert list(unsaid(ast.parse(source))) == []


@pytest.fixture(scope="module")
def cp1252(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a system whose encoding is that of Windows in the West."""
    folder = tmp_path_factory.mktemp("locales")
    if sys.platform == "win32" or not shutil.which("localedef"):
        pytest.skip("localedef makes the locale")
    target = folder / "en_US.CP1252"
    subprocess.run(["localedef", "-i", "en_US", "-f", "CP1252", target], check=False)
    env = clean_env(
        LOCPATH=str(folder),
        LC_ALL="en_US.CP1252",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    del env["PYTHONIOENCODING"]
    return env


def run_in(env: dict[str, str], root: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env=env | {"PYTHONPATH": str(root)},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode("cp1252", "replace")
    return done.stdout.decode("cp1252")


def test_the_locale_of_these_tests_is_what_it_says(cp1252: dict[str, str]) -> None:
    ask = "import locale; print(locale.getpreferredencoding(False))"
    assert run_in(cp1252, ROOT, "-c", ask).strip().lower() == "cp1252"


@pytest.mark.slow
def test_export_and_check_where_the_locale_is_cp1252(
    tmp_path: Path, cp1252: dict[str, str]
) -> None:
    root = make_repo(tmp_path)
    path = root / "notebooks" / "01_tiny.ipynb"
    text = path.read_text(encoding="utf-8")
    assert "The square root." in text
    text = text.replace("The square root.", "xᵀx, an ε and a ·, 例")
    path.write_text(text, encoding="utf-8")
    run_in(cp1252, root, "-m", "llm_course.authoring.export")
    module = root / "llm_course" / "models" / "tiny.py"
    assert "xᵀx, an ε and a ·, 例" in module.read_text(encoding="utf-8")
    run_in(cp1252, root, "-m", "llm_course.authoring.export", "--check")
    # a message that cp1252 cannot spell
    path.write_text(text.replace("math.sqrt(x)", "ᵀ(x)"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "llm_course.authoring.export"],
        cwd=root,
        env=cp1252 | {"PYTHONPATH": str(root)},
        capture_output=True,
    )
    assert done.returncode == 1
    assert b"as it was" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_the_real_notebooks_match_where_the_locale_is_cp1252(
    cp1252: dict[str, str],
) -> None:
    said = run_in(cp1252, ROOT, "-m", "llm_course.authoring.export", "--check")
    assert said == "Every exported module matches its notebook.\n"


@pytest.mark.slow
def test_progress_where_the_locale_is_cp1252(
    tmp_path: Path, cp1252: dict[str, str]
) -> None:
    nb = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        if source.startswith("### Exercise 1"):
            cell["source"] = source.replace("Fold the weight", "xᵀx 例")
    path = tmp_path / NOTEBOOKS[0].name
    path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")
    said = run_in(cp1252, ROOT, "-m", "llm_course.classroom.progress", str(path))
    assert "01.fold       x?x ? away" in said
    assert "0 of 5 solved" in said
