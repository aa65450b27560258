"""The layer lens's page: every control, and the numbers on it."""

from __future__ import annotations

from typing import Any

import pytest

from llm_course.widgets import LayerLens
from tests.browser.bare import WIDTHS, Bare
from tests.helpers import small_model
from tests.test_playground import Letters

pytestmark = pytest.mark.slow


@pytest.fixture
def bare(page: Any) -> Bare:
    return Bare(page, LayerLens(small_model(), Letters(), "hello"))


def lines(cell: list[tuple[str, float]]) -> list[str]:
    return [f"“{token}” {100 * p:.1f} %" for token, p in cell]


def shown(bare: Bare) -> list[str]:
    return (
        bare.page.get_by_role("list", name="the five best here")
        .get_by_role("listitem")
        .all_inner_texts()
    )


def test_each_cell_shows_its_best_guess(bare: Bare) -> None:
    rows = bare.widget.grid["cells"]
    cells = bare.page.locator(".ln-grid button")
    best = [cell[0] for row in reversed(rows) for cell in row]  # the last on top
    assert cells.all_inner_texts() == [token for token, _ in best]
    tints = cells.evaluate_all(
        "all => all.map(b => Number(b.style.getPropertyValue('--p')))"
    )
    assert tints == pytest.approx([p for _, p in best])


def test_a_cell_tells_its_five_best_by_mouse_and_by_keys(bare: Bare) -> None:
    rows, cells = bare.widget.grid["cells"], bare.page.locator(".ln-grid button")
    assert shown(bare) == lines(rows[2][4])
    cells.nth(1).hover()
    assert shown(bare) == lines(rows[2][1])
    cells.nth(4).focus()
    for key in ("ArrowDown", "ArrowLeft"):
        bare.page.keyboard.press(key)
    assert shown(bare) == lines(rows[1][3])
    assert bare.page.get_by_text("After layer 0, at").is_visible()


def test_a_layer_and_an_mlp_are_left_out_and_come_back(bare: Bare) -> None:
    bare.page.get_by_role("checkbox", name="layer 1", exact=True).uncheck()
    bare.page.get_by_role("checkbox", name="MLP of layer 0").press("Space")
    bare.pump()
    assert bare.widget.settings["layers"] == [1]
    assert bare.widget.settings["mlps"] == [0]
    assert bare.page.locator(".ln-out").count() == 5
    its_mlp = bare.page.get_by_role("checkbox", name="MLP of layer 1")
    assert its_mlp.is_disabled()  # it went with its layer
    assert not its_mlp.is_checked()
    whole, now = bare.widget.grid["whole"], bare.widget.grid["cells"][-1][-1]
    rows = bare.page.get_by_role("table", name="next token").get_by_role("row").all()
    for row, a, b in zip(rows[1:], lines(whole), lines(now), strict=True):
        assert " ".join(row.get_by_role("cell").all_inner_texts()) == f"{a} {b}"
    bare.page.get_by_role("button", name="All parts back").click()
    bare.pump()
    assert bare.widget.grid["out"] == [[], []]
    assert bare.page.get_by_role("checkbox", name="layer 1", exact=True).is_checked()
    assert its_mlp.is_checked()
    assert its_mlp.is_enabled()


def test_another_prompt_has_a_grid_of_its_own(bare: Bare) -> None:
    box = bare.page.get_by_role("textbox", name="prompt")
    for prompt, count in (("worlds", 6), ("h" * 15, 0), ("hi", 2)):
        box.fill(prompt)
        bare.page.wait_for_timeout(500)
        bare.pump()
        assert bare.page.locator(".ln-grid button:visible").count() == 3 * count
    cells = bare.page.locator(".ln-grid button")
    cells.nth(0).focus()
    bare.page.keyboard.press("ArrowDown")  # a row of two now
    assert cells.nth(2).evaluate("b => b === document.activeElement")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_lens_of_thirty_layers_fits_one_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    lens = LayerLens(small_model(num_layers=30), Letters(), "h" * 14)
    Bare(page, lens).assert_fits()
