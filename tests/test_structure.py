"""The house: which room may import which, and that docs/structure.md names them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "llm_course"
# Each room with the rooms it may import.
GROUND = {"_lazy", "arguments", "config", "types", "errors", "files", "programs"}
PARTS = GROUND | {"models", "engine"}
READING = PARTS | {"checkpoints", "text", "viz"}
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "__init__": set(),
    "models": GROUND,
    "engine": GROUND | {"models"},
    "text": GROUND,
    "checkpoints": PARTS | {"text"},
    "viz": PARTS,
    "widgets": READING,
    "exercises": READING,
    "chat": READING,
    "bench": READING,
    "serve": READING | {"chat"},  # whose way to load a model it has
    "examples": READING,
    "authoring": {"_lazy"},  # a broken export must not stop the tool that can mend it
    "classroom": {"_lazy", "errors", "exercises", "authoring"},
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """config for config.py, viz for viz/rope.py."""
    return path.parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """The rooms that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("llm_course."):
                found.add(name.split(".")[1])
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_one_way(path: Path) -> None:
    seen = imported((PACKAGE / path).read_text(encoding="utf-8")) - {room(path)}
    assert seen <= MAY_IMPORT[room(path)]


@pytest.mark.parametrize(
    "line",
    [
        "from llm_course.checkpoints import load_pretrained",
        "from llm_course import checkpoints",
        "import llm_course.checkpoints.gguf_file",
        "def f():\n    from llm_course.checkpoints.cache import cache_dir",
    ],
)
def test_an_import_against_the_rule_is_seen(line: str) -> None:
    assert imported(line) == {"checkpoints"}
    assert "checkpoints" not in MAY_IMPORT["models"]


def test_the_page_of_the_house_names_every_room() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    rooms = {room(path) for path in MODULES} - {"__init__", "_lazy"}
    assert [name for name in sorted(rooms) if f"`{name}" not in text] == []
    for line in text.splitlines():  # no path that is not there
        for word in line.split("`")[1::2]:
            if "/" in word and " " not in word and "*" not in word and "<" not in word:
                assert (ROOT / word).exists() or (PACKAGE / word).exists(), word
