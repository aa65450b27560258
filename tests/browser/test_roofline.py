"""The roofline's sliders: bounds in Python, and the numbers on the page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llm_course.widgets import Roofline
from llm_course.widgets.roofline import KINDS, bound
from tests.browser.bare import WIDTHS, Bare

MACHINE = {"bandwidth": 40.0, "peak": 200.0}
WEIGHTS = 1_000_000_000


def test_one_row_waits_for_memory_and_many_for_arithmetic() -> None:
    one = bound(MACHINE, 1, 32.0, WEIGHTS)
    assert (one["limit"], one["ms"]) == ("memory", pytest.approx(100.0))
    assert one["tokens"] == pytest.approx(10.0)
    half = bound(MACHINE, 1, 16.0, WEIGHTS)
    assert half["tokens"] == pytest.approx(2 * one["tokens"])
    many = bound(MACHINE, 100, 32.0, WEIGHTS)
    assert (many["limit"], many["gflops"]) == ("arithmetic", pytest.approx(200.0))
    fewer_bits = bound(MACHINE, 100, 16.0, WEIGHTS)
    assert fewer_bits["ms"] == many["ms"]


@pytest.mark.parametrize("bits", [4.0, 8.5, 32.0])
def test_the_limit_changes_at_the_turn(bits: float) -> None:
    widget = Roofline(WEIGHTS, **MACHINE)
    widget.do_show({**widget.settings, "bits": bits})
    turn = widget.chart["turn"]
    below, above = math.ceil(turn) - 1, math.ceil(turn) + 1
    if below:
        assert bound(MACHINE, below, bits, WEIGHTS)["limit"] == "memory"
    assert bound(MACHINE, above, bits, WEIGHTS)["limit"] == "arithmetic"


def test_the_figure_draws_the_same_roof_and_bounds() -> None:
    widget = Roofline(WEIGHTS, **MACHINE)
    roof, *kinds = widget.figure().axes[0].lines
    work, speed = np.array(widget.chart["roof"]).T
    drawn = np.interp(work[:40], roof.get_xdata(), roof.get_ydata())
    np.testing.assert_allclose(drawn, speed[:40], rtol=0.02)
    for line, told in zip(kinds, widget.chart["kinds"], strict=True):
        assert line.get_xdata()[0] == told["work"]
        assert line.get_ydata()[0] == told["gflops"]


@pytest.mark.slow
def test_every_slider_moves_by_key(page: Any) -> None:
    bare = Bare(page, Roofline(WEIGHTS, **MACHINE))
    moved = {"rows": 2, "bits": 9, "bandwidth": 41, "peak": 210}
    assert bare.move_every_slider() == moved


@pytest.mark.slow
def test_the_page_shows_the_bounds(page: Any) -> None:
    bare = Bare(page, Roofline(WEIGHTS, **MACHINE))
    page.get_by_role("slider", name="rows", exact=True).fill("16")
    bare.pump()
    chosen, kinds = bare.widget.chart["chosen"], bare.widget.chart["kinds"]
    told = page.locator(".rl-told").inner_text()
    assert f"at least {chosen['ms']:.3g} ms, for {chosen['tokens']:.3g} tokens" in told
    assert f"the limit is {chosen['limit']}" in told
    rows = page.get_by_role("table", name="bounds by kind").get_by_role("row").all()
    for row, kind in zip(rows[1:], kinds, strict=True):
        name, bits, ms, tokens, limit = row.get_by_role("cell").all_inner_texts()
        assert (name, float(bits), limit) == (kind["name"], kind["bits"], kind["limit"])
        assert float(ms.split()[0].replace(",", "")) == pytest.approx(kind["ms"], 5e-3)
        assert float(tokens.replace(",", "")) == pytest.approx(kind["tokens"], 5e-3)
    assert page.locator(".rl-kind").count() == len(KINDS)
    x = float(page.locator(".rl-chosen").get_attribute("cx"))
    along = math.log(chosen["work"] / 0.25) / math.log(2048 / 0.25)
    assert x == pytest.approx(56 + 460 * along)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_roofline_fits_one_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    Bare(page, Roofline(WEIGHTS, **MACHINE)).assert_fits()
