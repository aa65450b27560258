"""The attention explorer's page: every control, and the numbers on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm_course.widgets import AttentionExplorer
from tests.browser.bare import WIDTHS, Bare
from tests.helpers import small_model
from tests.test_playground import Letters

pytestmark = pytest.mark.slow


@pytest.fixture
def bare(page: Any) -> Bare:
    return Bare(
        page, AttentionExplorer(small_model(), Letters(), "hello", layer=1, head=3)
    )


def weights(bare: Bare) -> np.ndarray:
    layer, head = bare.widget.chart["head"]
    return bare.widget.look(bare.widget.settings).weights[layer, head].numpy()


def click(bare: Bare, name: str) -> None:
    bare.page.get_by_role("button", name=name, exact=True).click()
    bare.pump()


def told(bare: Bare) -> str:
    return bare.page.get_by_label("the square").inner_text()


def test_a_square_tells_its_tokens_score_and_weight(bare: Bare) -> None:
    canvas = bare.page.get_by_role("img", name="Map of one head")
    canvas.focus()
    for key in ("ArrowUp", "ArrowRight"):
        canvas.press(key)
    scores = bare.widget.look(bare.widget.settings).scores[1, 3]
    names = bare.widget.chart["tokens"]
    expected = f"“{names[3]}” reads “{names[1]}”: score {scores[3, 1]:.2f}"
    assert told(bare) == f"{expected}, weight {weights(bare)[3, 1]:.3f}"
    cell = canvas.bounding_box()["width"] / 5
    canvas.hover(position={"x": 4.5 * cell, "y": 0.5 * cell})
    assert "removed by the mask" in told(bare)
    canvas.hover(position={"x": 0.5 * cell, "y": 0.5 * cell})
    assert told(bare).endswith("weight 1.000")


def test_another_head_by_mouse_and_by_keys(bare: Bare) -> None:
    click(bare, "layer 0, head 5")
    assert bare.widget.chart["head"] == [0, 5]
    here = bare.page.get_by_role("button", name="layer 0, head 5", exact=True)
    assert here.get_attribute("aria-pressed") == "true"
    here.press("ArrowDown")
    bare.page.keyboard.press("Enter")
    bare.pump()
    assert bare.widget.chart["head"] == [1, 5]
    assert bare.page.get_by_text("layer 1, query head 5 (K/V head 1)").is_visible()


def test_the_sentence_is_tinted_by_where_a_token_looks(bare: Bare) -> None:
    row = bare.page.get_by_role("group", name="Tokens")
    tokens = row.get_by_role("button")
    for query in (4, 2):
        tokens.nth(query).click()
        shares = tokens.evaluate_all(
            "all => all.map(b => Number(b.style.getPropertyValue('--share')))"
        )
        assert shares == pytest.approx(weights(bare)[query].tolist())
    tokens.nth(2).press("ArrowRight")
    assert tokens.nth(3).evaluate("b => b === document.activeElement")


@pytest.mark.parametrize(("length", "named"), [(20, 20), (64, 1)])
def test_the_marked_square_is_named_where_there_is_no_room_for_all(
    bare: Bare, length: int, named: int
) -> None:
    bare.page.set_viewport_size({"width": 1080, "height": 900})
    sentence = "".join(chr(ord("A") + i % 50) for i in range(length))
    bare.page.get_by_role("textbox", name="sentence").fill(sentence)
    bare.page.wait_for_timeout(500)
    bare.pump()
    canvas = bare.page.get_by_role("img", name="Map of one head")
    cell = canvas.bounding_box()["width"] / length
    canvas.hover(position={"x": 3.5 * cell, "y": 16.5 * cell})
    tokens = bare.widget.chart["tokens"]
    for side, at in ((".at-rows", 16), (".at-columns", 3)):
        assert bare.page.locator(f"{side} .at-here").inner_text() == tokens[at]
        assert bare.page.locator(f"{side} span >> visible=true").count() == named


PIXELS = """canvas => {
  const pen = canvas.getContext("2d"), cell = canvas.width / 5, rows = [];
  for (let q = 0; q < 5; q++) for (let k = 0; k < 5; k++)
    rows.push(pen.getImageData((k + 0.5) * cell, (q + 0.5) * cell, 1, 1).data[3] / 255);
  return rows;
}"""


def test_the_large_map_goes_from_scores_to_weights(bare: Bare) -> None:
    canvas = bare.page.get_by_role("img", name="Map of one head")
    stage = bare.page.get_by_role("combobox", name="show")
    scores = bare.widget.look(bare.widget.settings).scores[1, 3].numpy()
    relative = (scores - scores.min()) / (scores.max() - scores.min())
    lower = np.tril(np.ones((5, 5), dtype=bool))
    for name, values in (
        ("scores", relative),
        ("masked", np.where(lower, relative, 0.35)),
        ("weights", np.where(lower, weights(bare), 0.35)),
    ):
        stage.select_option(name)
        bare.pump()
        drawn = np.reshape(canvas.evaluate(PIXELS), (5, 5))
        np.testing.assert_allclose(drawn, values, atol=0.01)


def test_the_maps_are_blue_although_they_are_drawn_before_the_page_has_them(
    bare: Bare,
) -> None:
    for canvas in bare.page.locator("canvas").all():
        red, _, blue = canvas.evaluate(
            """canvas => {
              const { width, height } = canvas, pen = canvas.getContext("2d");
              const all = pen.getImageData(0, 0, width, height).data;
              const at = all.findIndex((v, i) => i % 4 === 3 && v > 200);
              return [...all.slice(at - 3, at)];
            }"""
        )
        assert blue > red + 100


def test_a_head_is_knocked_out_and_brought_back(bare: Bare) -> None:
    table = bare.page.get_by_role("table", name="Next token")
    click(bare, "Knock this head out")
    assert bare.widget.settings["out"] == [[1, 3]]
    for row, (_, before, now) in zip(
        table.locator("tbody tr").all(), bare.widget.chart["words"], strict=True
    ):
        shown = row.get_by_role("cell").all_inner_texts()[1:]
        assert shown == [f"{100 * p:.1f} %" for p in (before, now)]
    assert bare.page.locator(".at-out").count() == 1
    click(bare, "Bring this head back")
    assert bare.widget.settings["out"] == []
    click(bare, "Knock this head out")
    click(bare, "All heads back (1 out)")
    assert bare.page.locator(".at-out").count() == 0


@pytest.mark.parametrize("rank", ["first token", "induction", "entropy"])
def test_heads_are_ranked_and_can_be_chosen(bare: Bare, rank: str) -> None:
    bare.page.get_by_role("combobox", name="rank by").select_option(rank)
    bare.pump()
    group = bare.page.get_by_role("group", name="Heads, the strongest first")
    layer, head, value = bare.widget.chart["ranked"][1]
    second = group.get_by_role("button").nth(1)
    assert second.inner_text() == f"layer {layer}, head {head}: {value:.2f}"
    second.press("Enter")
    bare.pump()
    assert bare.widget.chart["head"] == [layer, head]


def test_no_map_of_another_sentence_stays_after_an_error(bare: Bare) -> None:
    box, whole = bare.page.get_by_role("textbox", name="sentence"), ".lab-fields"
    height = bare.page.locator(whole).bounding_box()["height"]
    box.fill("h" * 65)
    bare.page.wait_for_timeout(500)
    bare.pump()
    assert "takes 3 to 64" in bare.page.get_by_role("alert").inner_text()
    assert not bare.page.locator(".at-body").is_visible()
    assert not bare.page.locator(".at-tokens").is_visible()
    assert bare.page.locator(whole).bounding_box()["height"] == height  # no jump
    box.fill("h" * 64)
    bare.page.wait_for_timeout(500)
    bare.pump()
    assert bare.page.locator(".at-body").is_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_explorer_fits_one_screen(bare: Bare, width: int) -> None:
    bare.page.set_viewport_size({"width": width, "height": 900})
    for sentence in ("hello", "h" * 64):
        bare.page.get_by_role("textbox", name="sentence").fill(sentence)
        bare.page.wait_for_timeout(500)
        bare.pump()
        bare.assert_fits()
        canvas = bare.page.get_by_role("img", name="Map of one head").bounding_box()
        right = bare.page.locator(".at-right").bounding_box()
        assert width < 700 or canvas["x"] + canvas["width"] <= right["x"]
