"""The RoPE lab's page: every control, and the numbers on it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llm_course.widgets import RopeLab
from tests.browser.bare import WIDTHS, Bare
from tests.helpers import small_model
from tests.test_playground import Letters

pytestmark = pytest.mark.slow


@pytest.fixture
def bare(page: Any) -> Bare:
    widget = RopeLab(small_model(), Letters(), "hello", layer=1, head=3)
    return Bare(page, widget)


def test_every_slider_moves_by_key(bare: Bare) -> None:
    moved = {"theta": 4.1, "context": 7, "position": 64, "offset": 4, "pair": 1}
    assert bare.move_every_slider() == moved


def test_sliders_end_where_the_context_and_the_pairs_do(bare: Bare) -> None:
    position = bare.page.get_by_role("slider", name="position of q")
    pair = bare.page.get_by_role("slider", name="pair drawn")
    bare.page.get_by_role("combobox", name="head_dim").select_option("16")
    for power in (17, 6):  # 131,072 positions, then 64
        bare.page.get_by_role("slider", name="context").fill(str(power))
        bare.pump()
        for slider, end in ((position, 2**power - 1), (pair, 7)):
            slider.press("End")
            bare.pump()
            assert int(slider.input_value()) == end
        settings = bare.widget.settings
        assert (settings["position"], settings["pair"]) == (2**power - 1, 7)
    assert bare.page.get_by_text("q at 63, k at 60").is_visible()


def test_positions_that_bfloat16_rounds_are_named(bare: Bare) -> None:
    bare.page.get_by_role("slider", name="context").fill("13")
    bare.pump()
    bare.page.get_by_role("slider", name="position of q").fill("1001")
    bare.page.get_by_role("checkbox", name="angles in bfloat16").check()
    bare.pump()
    told = "q at 1,001 (1,000 in bfloat16), k at 998 (1,000 in bfloat16): q·k = 1.000"
    assert bare.page.get_by_text(told).is_visible()


def test_bars_and_count_follow_the_base(bare: Bare) -> None:
    def bars() -> list[float]:
        svg = bare.page.get_by_role("img", name="positions per turn")
        return svg.locator("rect").evaluate_all(
            "all => all.map(r => Number(r.getAttribute('height')))"
        )

    bare.page.get_by_role("combobox", name="head_dim").select_option("64")
    for theta in ("3", "6"):
        bare.page.get_by_role("slider", name="base θ").fill(theta)
        bare.pump()
        turns = bare.widget.chart["turns"]
        assert bars() == pytest.approx([96 * math.log10(n) / 8 for n in turns], 1e-3)
        slow = sum(bare.widget.chart["never"])
        assert bare.page.get_by_text(f"{slow} of 32 pairs never complete").is_visible()
        assert bare.page.locator("rect.rp-slow").count() == slow


def test_clocks_point_where_the_pairs_do(bare: Bare) -> None:
    bare.page.get_by_role("slider", name="position of q").fill("50")
    bare.pump()
    frequencies = bare.widget.rotary(bare.widget.settings).inv_freq.tolist()
    for hands, position in ((".rp-hand", 50), (".rp-other", 47)):
        drawn = bare.page.locator(hands).evaluate_all(
            "all => all.map(h => ['x1', 'y1', 'x2', 'y2'].map(n => +h.getAttribute(n)))"
        )
        for (x1, y1, x2, y2), frequency in zip(drawn, frequencies, strict=True):
            angle = position * frequency
            assert (x2 - x1) / 22 == pytest.approx(math.cos(angle), abs=1e-6)
            assert (y1 - y2) / 22 == pytest.approx(math.sin(angle), abs=1e-6)


def test_a_clock_is_turned_by_its_hand_and_the_score_stays(bare: Bare) -> None:
    bare.page.get_by_role("slider", name="context").fill("13")
    bare.pump()
    box = bare.page.get_by_role("img", name="the pairs as clocks").bounding_box()
    scale, told = box["width"] / 530, bare.page.get_by_text("q·k =")
    turns, score = bare.widget.chart["turns"], told.inner_text().split("=")[1]

    def hold(dial: int, angle: float) -> None:
        """Move the mouse to where the hand of a dial stands at an angle."""
        x = 32 + 66 * dial + 15 * math.cos(angle)
        y = 30 - 15 * math.sin(angle)
        bare.page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)

    def turn(dial: int, start: float, steps: list[float]) -> int:
        hold(dial, start)
        bare.page.mouse.down()
        for step in steps:
            start += step
            hold(dial, start)
        bare.page.mouse.up()
        bare.pump()
        return bare.widget.chart["position"]

    for dial, steps in ((1, [1.2] * 8), (0, [-0.7] * 4), (2, [2.0, -0.5])):
        before = bare.widget.chart["position"]
        expected = before + sum(steps) / (2 * math.pi) * turns[dial]
        assert turn(dial, 2.8, steps) == pytest.approx(expected, abs=1)
        assert expected != pytest.approx(before, abs=2)
        assert told.inner_text().split("=")[1] == score
    bare.page.mouse.move(0, 0)
    assert bare.sent() == []
    assert turn(2, 0.0, [-2.5] * 20) == 3  # k is at the first position
    slider = bare.page.get_by_role("slider", name="position of q")
    assert slider.input_value() == "3"


def test_k_never_stands_before_the_text(bare: Bare) -> None:
    slider = bare.page.get_by_role("slider", name="position of q")
    slider.press("Home")
    bare.pump()
    assert (bare.widget.settings["position"], slider.input_value()) == (3, "3")
    assert bare.page.get_by_text("q at 3, k at 0").is_visible()
    bare.page.get_by_role("slider", name="offset").fill("40")
    bare.pump()
    assert (bare.widget.settings["position"], slider.input_value()) == (40, "40")
    assert bare.page.get_by_text("q at 40, k at 0").is_visible()


def test_the_score_is_told_and_stays_while_both_move(bare: Bare) -> None:
    bare.page.get_by_role("slider", name="context").fill("13")
    slider, told = bare.page.get_by_role("slider", name="position of q"), []
    for position in ("10", "2000"):
        slider.fill(position)
        bare.pump()
        told.append(bare.page.get_by_text("q·k =").inner_text())
    assert told[1] == (
        f"q at 2,000, k at 1,997: q·k = {bare.widget.chart['score']:.3f} (all pairs)"
    )
    assert told[0].split("=")[1] == told[1].split("=")[1]
    bare.page.get_by_role("checkbox", name="angles in bfloat16").check()
    bare.pump()
    rough = bare.page.get_by_text("q·k =").inner_text()
    assert rough.split("=")[1] != told[1].split("=")[1]


def test_the_pairing_changes_the_map_and_the_next_token(bare: Bare) -> None:
    pairs = bare.page.get_by_role("combobox", name="pairs")
    seen = {}
    for name in ("adjacent", "half-split", "wrong"):
        pairs.select_option(name)
        bare.pump()
        squares = bare.page.get_by_role("img", name="attention map").locator(
            "rect.rp-fast"
        )
        seen[name] = squares.evaluate_all(
            "all => all.map(r => Number(r.getAttribute('fill-opacity')))"
        )
        weights = bare.widget.sentence["weights"]
        lower = [w for q, row in enumerate(weights) for w in row[: q + 1]]
        assert seen[name] == pytest.approx(lower)
        items = bare.page.get_by_role("list", name="next tokens").get_by_role(
            "listitem"
        )
        assert items.all_inner_texts() == [
            f"“{token}” {100 * p:.1f} %" for token, p in bare.widget.sentence["words"]
        ]
    assert seen["half-split"] == pytest.approx(seen["adjacent"], abs=1e-4)
    assert seen["wrong"] != pytest.approx(seen["adjacent"], abs=1e-2)


def test_scaling_slows_the_pairs(bare: Bare) -> None:
    before = bare.widget.chart["turns"]
    bare.page.get_by_role("combobox", name="scaling").select_option("linear")
    bare.pump()
    assert bare.widget.chart["turns"] == pytest.approx([4 * n for n in before])


@pytest.mark.parametrize("width", WIDTHS)
def test_the_lab_fits_one_screen(bare: Bare, width: int) -> None:
    bare.page.set_viewport_size({"width": width, "height": 900})
    bare.assert_fits()
