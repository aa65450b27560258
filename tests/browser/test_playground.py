"""The playground's page: every control, the numbers on it, and its two texts."""

from __future__ import annotations

from typing import Any

import pytest

from llm_course.widgets import Playground, runs
from llm_course.widgets.stages import stages
from tests.browser.bare import WIDTHS, Bare
from tests.helpers import small_model
from tests.test_playground import Gate, Letters, until

pytestmark = pytest.mark.slow


@pytest.fixture
def bare(page: Any) -> Any:
    widget = Playground(small_model(), Letters(), prompt="hello")
    widget.settings = {**widget.settings, "max_new_tokens": 6}
    yield Bare(page, widget)
    runs.end()


def press(bare: Bare, name: str) -> None:
    """Click a button, and let Python finish."""
    bare.page.get_by_role("button", name=name, exact=True).click()
    bare.pump()
    bare.widget.wait(30)
    bare.tell()


def tokens(bare: Bare, name: str) -> Any:
    return bare.page.get_by_role("group", name=f"Text {name}").get_by_role("button")


def test_every_slider_moves_by_key_and_python_hears_it(bare: Bare) -> None:
    filters = {"temperature": 0.85, "top_k": 51, "top_p": 0.81, "min_p": 0.01}
    others = {"repetition_penalty": 1.05, "seed": 1, "max_new_tokens": 7}
    assert bare.move_every_slider() == filters | others


def test_a_slider_moves_by_mouse(bare: Bare) -> None:
    slider = bare.page.get_by_role("slider", name="temperature")
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] - 2, "y": box["height"] / 2})
    bare.pump()
    assert bare.widget.settings["temperature"] == 2.5


@pytest.mark.parametrize(("name", "end"), [("top-p", "Home"), ("min-p", "End")])
def test_a_filter_that_leaves_one_token_says_so(
    bare: Bare, name: str, end: str
) -> None:
    slider = bare.page.get_by_role("slider", name=name)
    slider.press(end)
    bare.pump()
    assert slider.get_attribute("aria-valuetext") == "best"
    left = bare.page.get_by_role("row", name=name).get_by_role("cell").nth(2)
    assert left.inner_text() == "1"


def test_the_table_shows_the_masses_of_the_stages(bare: Bare) -> None:
    slider = bare.page.get_by_role("slider", name="top-k")
    slider.fill("5")
    bare.pump()
    logits = bare.widget.columns["A"].logits or [
        bare.widget._logits_after(bare.widget._ids(bare.widget.settings))
    ]
    found = stages(logits[0], (), bare.widget.config())
    for stage in found[1:]:
        row = bare.page.get_by_role("row", name=stage.name)
        kept, cut, left = row.get_by_role("cell").all_inner_texts()
        assert int(left.replace(",", "")) == stage.left
        assert float(kept.split()[0]) == pytest.approx(100 * stage.kept, abs=0.06)
        percent = 0.0 if cut == "0" else float(cut.split()[0])
        assert percent == pytest.approx(100 * (1 - stage.kept), abs=0.06)


def test_the_axis_stays_while_the_temperature_moves(bare: Bare) -> None:
    """A bar's width is its probability, whatever the other bars are."""
    axis = bare.page.locator(".pg-axis")
    before = axis.inner_text()
    for temperature in ("0.3", "2.5"):
        bare.page.get_by_role("slider", name="temperature").fill(temperature)
        bare.pump()
        rows = bare.widget.chart["rows"]
        bars = bare.page.locator(".pg-after").evaluate_all(
            "bars => bars.map(b => parseFloat(b.style.width))"
        )
        expected = [100 * row["probs"][-1] for row in rows]
        assert bars[: len(rows)] == pytest.approx(expected, abs=1e-3)
        assert axis.inner_text() == before
    bare.page.get_by_role("checkbox", name="log axis").check()
    assert "0.01" in axis.inner_text()


def test_one_filter_alone_can_be_looked_at(bare: Bare) -> None:
    bare.page.get_by_role("radio", name="temperature").check()
    first = bare.page.locator(".pg-number").first.inner_text()
    probs = bare.widget.chart["rows"][0]["probs"]
    shown = [float(part.split()[0]) for part in first.split("→")]
    assert shown == pytest.approx([100 * probs[1], 100 * probs[2]], abs=0.06)


def test_presets_move_the_sliders(bare: Bare) -> None:
    bare.page.get_by_role("combobox", name="preset").select_option("wild, with min-p")
    bare.pump()
    assert bare.page.get_by_role("slider", name="min-p").input_value() == "0.1"
    assert bare.widget.settings["temperature"] == 1.5
    assert bare.widget.settings["top_k"] == 0


def test_text_streams_and_stops(bare: Bare) -> None:
    bare.page.get_by_role("slider", name="length").fill("200")
    stop = bare.page.get_by_role("button", name="Stop")
    assert stop.is_disabled()
    gate = Gate(bare.widget.conversation.model)
    gate.steps.release(5)
    bare.page.get_by_role("button", name="Generate").click()
    bare.pump()
    until(lambda: len(bare.widget.columns["A"].ids) > 3)
    bare.tell()
    assert tokens(bare, "A").count() > 3
    assert bare.page.locator(".lab").get_attribute("aria-busy") == "true"
    stop.click()
    bare.pump()
    gate.steps.release(2)  # the token it is working on, and the logits after it
    bare.widget.wait(10)
    bare.tell()
    count = tokens(bare, "A").count()
    assert count == len(bare.widget.columns["A"].ids) == 6
    assert "stopped" in bare.page.locator(".pg-note").first.inner_text()
    assert bare.page.locator(".lab").get_attribute("aria-busy") == "false"


def test_generate_uses_what_the_sliders_show(bare: Bare) -> None:
    """Although Python has heard of no move when the button is clicked."""
    bare.page.get_by_role("slider", name="temperature").fill("1.3")
    bare.page.get_by_role("slider", name="seed").fill("9")
    bare.page.get_by_role("button", name="Generate").click()
    bare.pump()
    bare.widget.wait(30)
    bare.tell()
    told = bare.widget.columns["A"].settings
    assert (told["temperature"], told["seed"]) == (1.3, 9)
    assert "T 1.3" in bare.page.locator(".pg-head").first.inner_text()


def test_tokens_are_tinted_by_what_the_model_expected(bare: Bare) -> None:
    press(bare, "Generate")
    doubts = tokens(bare, "A").evaluate_all(
        "spans => spans.map(s => Number(s.style.getPropertyValue('--doubt')))"
    )
    odds = bare.widget.columns["A"].odds
    assert doubts == pytest.approx([1 - model for model, _ in odds])


def test_a_token_shows_its_alternatives_and_one_of_them_branches(bare: Bare) -> None:
    press(bare, "Generate")
    third = tokens(bare, "A").nth(2)
    tokens(bare, "A").first.focus()
    for _ in range(2):
        bare.page.keyboard.press("ArrowRight")
    bare.page.keyboard.press("Enter")
    bare.pump()
    assert bare.widget.chart["at"] == 2
    assert third.get_attribute("data-here") is not None
    rows = bare.page.locator("button.pg-row")
    drawn = bare.page.locator("button.pg-chosen")
    assert "drawn here" in drawn.get_attribute("aria-label")
    other = 1 if rows.first.get_attribute("class").endswith("pg-chosen") else 0
    wanted = bare.widget.chart["rows"][other]["id"]
    rows.nth(other).press("Enter")
    bare.pump()
    bare.widget.wait(30)
    bare.tell()
    assert bare.widget.columns["B"].ids[2] == wanted
    assert tokens(bare, "B").count() == 6
    fork = bare.page.locator(".pg-fork")
    assert fork.evaluate_all("s => s.map(e => e.dataset.at)") == ["2", "2"]


def test_two_settings_stand_next_to_each_other(bare: Bare) -> None:
    press(bare, "Generate")
    first = tokens(bare, "A").all_inner_texts()
    bare.page.get_by_role("radio", name="Text B").check()
    bare.page.get_by_role("slider", name="temperature").fill("2.5")
    press(bare, "Generate")
    captions = bare.page.locator(".pg-head").all_inner_texts()
    assert ["T 0.8" in captions[0], "T 2.5" in captions[1]] == [True, True]
    assert tokens(bare, "A").all_inner_texts() == first
    bare.page.get_by_role("radio", name="Text A").check()  # and its settings come back
    assert bare.page.get_by_role("slider", name="temperature").input_value() == "0.8"


def test_one_token_at_a_time(bare: Bare) -> None:
    for count in (1, 2):
        press(bare, "One token")
        assert tokens(bare, "A").count() == count
        assert bare.widget.chart["at"] == count


def test_no_chart_of_another_prompt_stays_after_an_error(bare: Bare) -> None:
    bare.page.get_by_role("textbox", name="prompt").fill("a ☃")
    bare.page.wait_for_timeout(600)
    bare.pump()
    assert "U+2603" in bare.page.get_by_role("alert").inner_text()
    assert not bare.page.locator(".pg-chart").is_visible()


def test_the_models_text_is_text(bare: Bare) -> None:
    press(bare, "Generate")
    assert tokens(bare, "A").first.inner_text().startswith("<")


@pytest.mark.parametrize("width", WIDTHS)
def test_controls_and_their_effect_fit_one_screen(bare: Bare, width: int) -> None:
    bare.page.set_viewport_size({"width": width, "height": 900})
    press(bare, "Generate")
    bare.assert_fits()
