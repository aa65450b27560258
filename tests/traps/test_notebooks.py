"""The traps of notebooks. Most have their test, with corrupted notebooks, beside the
tool they test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyBboxPatch

from tests.notebook_tools import code, read

ROOT = Path(__file__).parents[2]
ASSERT = re.compile(r"^\s*(assert\b|(torch|np)\.testing\.assert)", re.M)


def figures() -> list[str]:
    """The public functions of viz that return a figure, as "module.function"."""
    return [
        f"{path.stem}.{node.name}"
        for path in sorted((ROOT / "llm_course" / "viz").glob("*.py"))
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.returns is not None
        and ast.unparse(node.returns) == "Figure"
    ]


def sources_with_an_assert() -> list[str]:
    """The source of each test that asserts, and of each notebook cell that does or
    stands beside one."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text("utf-8")
        functions = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
        found += [ast.get_source_segment(text, node) or "" for node in functions]
    found = [source for source in found if ASSERT.search(source)]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell.source for cell in code(read(path))]
        for i, source in enumerate(cells):
            if any(ASSERT.search(near) for near in cells[max(0, i - 1) : i + 2]):
                found.append(source)
    return found


def test_every_figure_is_drawn_beside_an_assert() -> None:
    """nbval compares no pixels, and a picture with the wrong data looks as good as
    another."""
    asserted = "\n".join(sources_with_an_assert())
    names = figures()
    assert len(names) > 20
    assert [
        n for n in names if not re.search(rf"\b{n.partition('.')[2]}\(", asserted)
    ] == []


def test_the_map_lights_the_parts_it_is_told() -> None:
    matplotlib.use("Agg")
    from llm_course.viz.model_map import PARTS, model_map
    from llm_course.viz.style import BLUE, ORANGE

    axes = model_map(lit=["attention"], done=["rope", "mlp"]).axes[0]
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    drawn = {name: box.get_facecolor() for name, box in zip(PARTS, boxes, strict=True)}
    assert [name for name in PARTS if drawn[name] == to_rgba(ORANGE)] == ["attention"]
    assert [name for name in PARTS if drawn[name] == to_rgba(BLUE)] == ["rope", "mlp"]
    texts = [text.get_text() for text in axes.texts]
    looped = [
        text.get_text() for text in model_map(["generate"], loop=True).axes[0].texts
    ]
    assert [text for text in looped if text not in texts] == [
        "the chosen token is appended"
    ]
    with pytest.raises(ValueError, match="no_such"):
        model_map(["no_such"])
