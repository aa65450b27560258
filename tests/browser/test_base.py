"""The base of all widgets, by a small widget of this file's own."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
import traitlets as t
from matplotlib.figure import Figure

from llm_course.widgets.base import HERE, LabWidget, page_part
from tests.browser.bare import Bare

pytestmark = pytest.mark.slow

MODULE = """
function render(context) {
  const lab = new Lab(context);
  lab.slider(lab.fields, "a", "first", { min: 0, max: 10, step: 1 });
  const show = (v) => v ? v.toFixed(2) : "off";
  lab.slider(lab.fields, "b", "second", { min: 0, max: 1, step: 0.05, show });
  lab.text(lab.fields, "words", "words");
  lab.choice(lab.fields, "kind", "kind", [["x", "one"], ["y", "two"]]);
  lab.check(lab.fields, "on", "on");
  lab.button(lab.fields, "Add", "add", () => ({ twice: true }));
  lab.button(lab.fields, "Fail", "fail");
  const group = make(lab.fields, "div", { role: "toolbar" });
  for (const n of [0, 1, 2]) make(group, "button", { tabindex: -!!n }, `item ${n + 1}`);
  roving(group, "button", lab.signal);
  const sum = make(lab.root, "output", { "aria-label": "sum" });
  lab.results(sum);
  lab.watch("sum", () => { sum.textContent = context.model.get("sum"); });
}
export default { render };
"""
FIRST = {"a": 3, "b": 0.5, "words": "hello", "kind": "x", "on": False}


class Adder(LabWidget):
    """Adds its two numbers, in Python."""

    _esm = page_part() + MODULE
    _css = page_part(kind=".css")
    sum = t.Float().tag(sync=True)

    def __init__(self) -> None:
        super().__init__(name="Adder", settings=FIRST)

    def figure(self) -> Figure:
        return Figure()

    def do_show(self, settings: dict[str, Any]) -> None:
        self.sum = settings["a"] + settings["b"]

    def do_add(self, settings: dict[str, Any], twice: bool) -> None:
        self.sum = (settings["a"] + settings["b"]) * (1 + twice)

    def do_fail(self, settings: dict[str, Any]) -> None:
        raise ValueError("no <b>such</b> thing")


def test_no_style_reaches_what_is_not_a_widgets() -> None:
    """A page has one name space of classes: `cm-line` is a line of any code cell."""
    ours = {"lab", "at", "bu", "cl", "ln", "me", "pa", "pg", "pr", "rl", "rp"}
    around = {"jp-OutputArea-child", "jp-RenderedImage"}  # hidden while a widget lives
    for sheet in HERE.glob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.S)
        selectors = " ".join(re.findall(r"([^{}]+)\{", text))
        names = set(re.findall(r"\.([a-zA-Z][\w-]*)", selectors)) - around
        assert {name.split("-")[0] for name in names} <= ours, sheet.name


@pytest.fixture
def bare(page: Any) -> Bare:
    return Bare(page, Adder())


def test_controls_have_names_and_the_settings_of_python(bare: Bare) -> None:
    page = bare.page
    assert page.get_by_role("region", name="Adder").count() == 1
    assert page.get_by_role("slider", name="first").input_value() == "3"
    second = page.get_by_role("slider", name="second")
    assert second.get_attribute("aria-valuetext") == "0.50"
    assert page.get_by_role("textbox", name="words").input_value() == "hello"
    assert page.get_by_role("combobox", name="kind").input_value() == "x"
    assert not page.get_by_role("checkbox", name="on").is_checked()


def test_a_move_by_key_is_answered_by_python(bare: Bare) -> None:
    bare.page.get_by_role("slider", name="first").press("ArrowRight")
    (message,) = bare.pump()
    assert message["action"] == "show"
    assert message["settings"] == FIRST | {"a": 4}
    assert bare.page.get_by_label("sum").inner_text() == "4.5"
    assert bare.widget.settings == FIRST | {"a": 4}


def test_a_click_carries_what_the_page_shows(bare: Bare) -> None:
    """However far behind Python is: nothing was answered before the click."""
    slider = bare.page.get_by_role("slider", name="first")
    for _ in range(4):
        slider.press("ArrowRight")
    bare.page.get_by_role("button", name="Add").click()
    move, click = bare.sent()
    assert (move["action"], click["action"]) == ("show", "add")
    assert click["settings"]["a"] == 7
    bare.widget._on_message(None, click, [])
    assert bare.widget.sum == 2 * 7.5


def test_one_move_is_on_its_way_and_the_latest_follows(bare: Bare) -> None:
    slider = bare.page.get_by_role("slider", name="first")
    for _ in range(5):
        slider.press("ArrowRight")
        bare.page.wait_for_timeout(5)
    first, latest = bare.pump()
    assert first["settings"]["a"] == 4
    assert latest["settings"]["a"] == 8
    assert bare.page.get_by_label("sum").inner_text() == "8.5"


def test_a_busy_mark_stands_until_the_answer(bare: Bare) -> None:
    region = bare.page.locator(".lab")
    assert region.get_attribute("aria-busy") == "false"
    bare.page.get_by_role("button", name="Add").click()
    bare.page.wait_for_timeout(100)
    assert region.get_attribute("aria-busy") == "true"
    assert bare.page.locator(".lab-busy").is_visible()
    bare.pump()
    assert region.get_attribute("aria-busy") == "false"


def test_what_is_shown_fades_while_its_answer_is_late(bare: Bare) -> None:
    def faded() -> bool:
        opacity = bare.page.get_by_label("sum").evaluate(
            "el => getComputedStyle(el).opacity"
        )
        return float(opacity) < 0.5

    noon = datetime.datetime(2024, 2, 2, 12)
    bare.page.clock.install(time=noon)
    bare.page.clock.pause_at(noon + datetime.timedelta(minutes=1))
    bare.page.get_by_role("button", name="Add").click()
    bare.page.clock.run_for(200)
    assert not faded()  # a quick answer would make it flicker
    bare.page.clock.run_for(200)
    assert faded()
    bare.pump()
    assert not faded()


def test_an_error_is_shown_as_text_and_leaves_with_the_next_click(bare: Bare) -> None:
    bare.page.get_by_role("button", name="Fail").click()
    bare.pump()
    alert = bare.page.get_by_role("alert")
    assert alert.inner_text() == "no <b>such</b> thing"
    bare.page.get_by_role("button", name="Add").click()
    bare.pump()
    assert alert.inner_text() == ""


def test_a_kernel_that_does_not_answer_is_named(bare: Bare) -> None:
    bare.page.clock.install()
    bare.page.get_by_role("button", name="Add").click()
    bare.page.clock.run_for(4000)
    alert = bare.page.get_by_role("alert")
    assert "run this cell again" in alert.inner_text()
    bare.pump()  # it was only late
    assert alert.inner_text() == ""


RESTART, CLOSE = "kernelIs('restarting')", "model.fire('comm:close')"


@pytest.mark.parametrize("sign", [RESTART, CLOSE])
def test_controls_without_a_kernel_look_so(bare: Bare, sign: str) -> None:
    bare.page.evaluate("kernelIs('busy')")
    assert bare.page.get_by_role("button", name="Add").is_enabled()
    bare.page.evaluate(sign)
    alert = bare.page.get_by_role("alert").filter(has_text="run this cell again")
    alert.wait_for()
    assert bare.page.get_by_role("button", name="Add").is_disabled()
    assert bare.page.get_by_role("slider", name="first").is_disabled()


def test_another_tab_follows(bare: Bare) -> None:
    other = {"action": "show", "page": "other", "serial": 1, "more": {}}
    bare.widget._on_message(None, other | {"settings": FIRST | {"a": 9}}, [])
    bare.tell()
    assert bare.page.get_by_role("slider", name="first").input_value() == "9"


def test_arrows_move_in_a_group_and_reach_nothing_outside(bare: Bare) -> None:
    page = bare.page
    page.evaluate(
        "document.addEventListener('keydown', e => (window.keys ??= []).push(e.key))"
    )
    page.get_by_role("button", name="item 1").press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "item 2"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "item 3"
    page.keyboard.press("Control+s")
    assert page.evaluate("window.keys") == ["Control", "s"]
