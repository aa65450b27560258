"""A budget of caches by hand: what the manager does, and what the page shows of it."""

from __future__ import annotations

from typing import Any

import pytest

from llm_course.engine import cache_bytes
from llm_course.widgets import BudgetLab
from tests.browser.bare import WIDTHS, Bare
from tests.helpers import small_config

CONFIG = small_config(num_layers=30, num_kv_heads=8, head_dim=64)
TOKEN = cache_bytes(CONFIG, 1) / 1e6  # MB


@pytest.fixture
def widget() -> BudgetLab:
    return BudgetLab(CONFIG, megabytes=round(900 * TOKEN))


def say(widget: BudgetLab, action: str, tokens: int = 300, **more: Any) -> None:
    """Send a message as the page does."""
    message = {"action": action, "settings": {"tokens": tokens}, "more": more}
    widget._on_message(None, message | {"page": "p", "serial": 1}, [])


def test_a_request_that_does_not_fit_is_refused_with_numbers(widget: BudgetLab) -> None:
    say(widget, "admit", 400)
    say(widget, "admit", 400)  # beside 300 and 400
    assert widget.error == ""  # an event like the others, and no mistake
    assert (widget.events[-1]["label"], widget.events[-1]["refused"]) == ("+3", 400)
    assert [name for name, _ in widget.running_now] == ["1", "2"]
    assert widget.stats["in_use"] == pytest.approx(700 * TOKEN)
    say(widget, "admit", 100)
    assert (widget.error, widget.stats["refused"]) == ("", 1)


def test_what_ended_is_kept_and_used_again(widget: BudgetLab) -> None:
    say(widget, "finish", name="1")
    assert widget.stats["kept"] == pytest.approx(300 * TOKEN)
    say(widget, "finish", name="1")  # a second click
    assert widget.error == ""
    say(widget, "admit", 280)
    assert (widget.stats["kept"], widget.stats["reused"]) == (0, 1)
    assert widget.events[-1]["source"] == ["kept", 0]
    assert widget.events[-1]["held"] == [["2", pytest.approx(300 * TOKEN)]]


def test_kept_memory_that_is_given_up_is_told(widget: BudgetLab) -> None:
    say(widget, "finish", name="1")
    say(widget, "admit", 800)
    assert widget.events[-1]["source"] == ["new", pytest.approx(300 * TOKEN)]
    for _ in range(20):
        say(widget, "admit", 900)  # refused
    assert (len(widget.events), widget.earlier) == (14, 9)


def test_the_figure_stacks_what_is_held_and_kept(widget: BudgetLab) -> None:
    say(widget, "admit", 200)
    say(widget, "finish", name="1")
    heights = [patch.get_height() for patch in widget.figure().axes[0].patches]
    blocks = [300, 300, 200, 200, 300]  # the last one is kept
    assert heights == pytest.approx([n * TOKEN for n in blocks])
    say(widget, "finish", name="2")
    assert widget.events[-1]["kept"] == pytest.approx([300 * TOKEN, 200 * TOKEN])


@pytest.mark.slow
def test_the_page_admits_finishes_and_shows_the_refusal(
    page: Any, widget: BudgetLab
) -> None:
    bare = Bare(page, widget)
    page.get_by_role("slider", name="tokens of a request").fill("700")
    page.get_by_role("button", name="Admit").click()
    bare.pump()
    assert page.get_by_role("alert").inner_text() == ""
    refusal = f"Request 2 was refused: 700 tokens take {700 * TOKEN:.1f} MB, and"
    assert refusal in page.locator(".bu-told").inner_text()
    assert page.locator(".bu-refused").inner_text() == "+2 ✕"
    page.get_by_role("button", name="Finish 1 (300 tokens)").press("Enter")
    bare.pump()
    page.get_by_role("button", name="Admit").click()
    bare.pump()
    assert page.get_by_role("alert").inner_text() == ""
    told = page.get_by_role("listitem").last.get_attribute("aria-label")
    assert told == f"+3; 3: {700 * TOKEN:.1f} MB; kept 0 MB"
    status = page.locator(".bu-told").inner_text()
    assert f"In use {700 * TOKEN:.1f} MB" in status
    assert "Handed out 2, of these 0 from kept memory; refused 1." in status
    bar, block = (
        page.locator(name).last.bounding_box()["height"]
        for name in (".bu-bar", ".bu-bar .bu-block")
    )
    share = 700 * TOKEN / widget.stats["budget"]
    assert block / (bar - 2) == pytest.approx(share, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_many_events_fit(page: Any, widget: BudgetLab, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for _ in range(20):
        say(widget, "admit", 20)
    Bare(page, widget).assert_fits()
