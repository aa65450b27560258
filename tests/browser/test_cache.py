"""The pages of notebook 06's widgets: every control, and the numbers on them."""

from __future__ import annotations

from typing import Any

import pytest

from llm_course.widgets import CacheLab, CacheMemory, runs
from tests.browser.bare import WIDTHS, Bare
from tests.helpers import small_model
from tests.test_cache_widgets import MODELS
from tests.test_playground import Letters

pytestmark = pytest.mark.slow


@pytest.fixture
def memory(page: Any) -> Bare:
    return Bare(page, CacheMemory(MODELS))


@pytest.fixture
def slots(page: Any) -> Any:
    yield Bare(page, CacheLab(small_model(), Letters(), "hello"))
    runs.end()


def click(bare: Bare, name: str) -> None:
    bare.page.get_by_role("button", name=name, exact=True).click()
    bare.pump()


def test_every_control_of_the_memory_is_heard(memory: Bare) -> None:
    page = memory.page
    assert memory.move_every_slider() == {"context": 14, "rows": 2}
    page.get_by_role("combobox", name="numbers").select_option("float32")
    page.get_by_role("combobox", name="K/V heads").select_option("one")
    memory.pump()
    expected = {"context": 14, "rows": 2, "dtype": "float32", "sharing": "one"}
    assert memory.widget.settings == expected


def test_the_memory_shows_the_bytes_and_what_fits(memory: Bare) -> None:
    memory.page.get_by_role("slider", name="rows", exact=True).fill("100")
    memory.pump()
    items = memory.page.get_by_role("listitem").all_inner_texts()
    small, large = memory.widget.models
    assert f"cache {small['cache'] / 1e6:.3g} MB" in items[0]
    assert f"cache {large['cache'] / 1e9:.3g} GB" in items[1]
    assert f"weights {large['weights'] / 1e9:.3g} GB" in items[1]
    assert large["room"][0] == 0
    assert "over 24 GB (the weights leave no room)" in items[1]
    assert f"over 80 GB (up to {large['room'][1]:,} tokens)" in items[1]
    assert f"fits 24 GB (up to {small['room'][0]:,} tokens)" in items[0]
    both = (large["weights"] + large["cache"]) / 1e9
    assert f"together {both:.3g} GB" in items[1]


def cells(bare: Bare) -> list[str]:
    return (
        bare.page.get_by_label("slots")
        .locator("li")
        .evaluate_all("all => all.map(e => `${e.textContent} ${e.className.slice(3)}`)")
    )


def test_slots_show_what_the_cache_holds(slots: Bare) -> None:
    slots.page.get_by_role("textbox", name="prompt").fill("helps")
    for name in ("Prefill", "Decode one token", "Decode one token"):
        click(slots, name)
    slots.page.get_by_role("slider", name="keep").press("ArrowLeft")
    click(slots, "Truncate")
    assert cells(slots) == [f"{text} {kind}" for text, kind in slots.widget.cells]
    assert [kind for _, kind in slots.widget.cells[:5]] == [
        *["reused"] * 3,
        *["truncated"] * 2,
    ]
    status = slots.page.locator(".cl-told").inner_text()
    counts = slots.widget.counts
    assert f"3 of 8 slots in use, {counts['bytes']:,} bytes" in status
    sums = f"{counts['with']} with the cache, {counts['without']} had each"
    assert sums in status
    assert "No logits after a cut" in status
    click(slots, "Decode one token")
    assert (
        f"“{slots.widget.counts['next']}”"
        in slots.page.locator(".cl-told").inner_text()
    )


def test_a_click_prefills_the_prompt_that_is_shown(slots: Bare) -> None:
    slots.page.get_by_role("textbox", name="prompt").fill("world")
    click(slots, "Prefill")
    assert slots.widget.ids[:5] == Letters().encode("world")


def test_a_race_is_drawn_and_can_be_stopped(slots: Bare) -> None:
    assert slots.page.get_by_role("button", name="Stop").is_disabled()
    click(slots, "Race: 32 tokens")
    slots.widget.wait(60)
    slots.tell()
    lanes = slots.page.get_by_label("race").get_by_role("listitem")
    for text, (name, tokens, seconds, fed) in zip(
        lanes.all_inner_texts(), slots.widget.race, strict=True
    ):
        assert name in text
        assert f"{tokens} tokens, {seconds:.2f} s, {fed} positions" in text
    bars = slots.page.locator(".cl-bar").evaluate_all(
        "all => all.map(b => b.clientWidth / b.parentElement.clientWidth)"
    )
    times = [seconds for _, _, seconds, _ in slots.widget.race]
    assert bars == pytest.approx([t / max(times) for t in times], abs=0.01)
    assert slots.page.get_by_text("times as fast; both wrote “").is_visible()


def test_the_box_says_what_prefill_would_keep(slots: Bare) -> None:
    told = slots.page.locator(".cl-told")
    assert "The box holds" not in told.inner_text()
    slots.page.get_by_role("textbox", name="prompt").fill("helps")
    slots.page.wait_for_timeout(500)
    slots.pump()
    said = "The box holds a text of 5 tokens, of which the cache has the first 3:"
    assert said in told.inner_text()


def test_a_text_that_is_too_long_gets_one_message(slots: Bare) -> None:
    slots.page.get_by_role("textbox", name="prompt").fill("h" * 65)
    slots.page.wait_for_timeout(500)
    slots.pump()
    said = "The text has 65 tokens; this cache may grow to 64 slots."
    for name in (None, "Prefill"):
        if name:
            click(slots, name)
        assert slots.page.get_by_role("alert").inner_text() == said
        assert "The box holds" not in slots.page.locator(".cl-told").inner_text()
    assert slots.widget.cache.length == len("hello")


def test_a_refusal_stays_although_the_text_was_typed_just_before(slots: Bare) -> None:
    slots.page.get_by_role("textbox", name="prompt").fill("")
    click(slots, "Prefill")
    slots.page.wait_for_timeout(500)
    slots.pump()
    assert "The prompt is empty" in slots.page.get_by_role("alert").inner_text()


def test_what_is_kept_is_less_than_what_is_held(slots: Bare) -> None:
    keep = slots.page.get_by_role("slider", name="keep")
    keep.press("End")
    click(slots, "Truncate")
    assert slots.widget.cache.length == len("hello") - 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["memory", "slots"])
def test_the_widgets_fit_one_screen(
    request: pytest.FixtureRequest, which: str, width: int
) -> None:
    bare = request.getfixturevalue(which)
    bare.page.set_viewport_size({"width": width, "height": 900})
    if which == "slots":
        bare.page.get_by_role("textbox", name="prompt").fill("h" * 64)
        click(bare, "Prefill")
    bare.assert_fits()
