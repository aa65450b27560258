"""Predict, then run: what a click shows and says, and what stands without a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from IPython.utils.capture import RichOutput

from llm_course.widgets import Prediction, prediction
from tests.browser.bare import WIDTHS, Bare

CHOICES = ("about 6", "about 36", "about <240>")
# One red pixel
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAA"
    "AElFTkSuQmCC"
)


def truth() -> str:
    print("size 237 & more")
    return "about <240>"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "CHOSEN", {})


def click(widget: Prediction, choice: int) -> None:
    message = {"action": "choose", "settings": {}, "more": {"choice": choice}}
    widget._on_message(None, message | {"page": "p", "serial": 1}, [])


def test_nothing_is_told_before_a_click(capsys: pytest.CaptureFixture[str]) -> None:
    widget = Prediction(CHOICES, truth)
    assert capsys.readouterr().out == ""
    state = widget.get_state()
    kept = {k: state[k] for k in state if k not in ("_esm", "_css", "choices")}
    assert "237" not in str(kept)
    assert "240" not in str(kept)
    click(widget, 1)
    assert widget.shown == [{"text": "size 237 & more\n"}]


def test_a_choice_is_judged_and_stands() -> None:
    widget = Prediction(CHOICES, truth)
    click(widget, 1)
    wrong = "Your choice, “about 36”, is wrong; “about <240>” is right."
    assert widget.verdict == wrong
    click(widget, 2)  # the output has told the answer
    assert (widget.verdict, widget.picked) == (wrong, 1)


def test_a_right_choice_is_said_to_be_right() -> None:
    widget = Prediction(CHOICES, truth)
    click(widget, 2)
    assert widget.verdict == "Your choice, “about <240>”, is right."


def test_a_cell_that_runs_again_goes_on_where_it_was() -> None:
    click(Prediction(CHOICES, truth), 0)
    again = Prediction(CHOICES, truth)
    assert "Your choice, “about 6”, is wrong" in again.verdict
    assert Prediction(("a", "about <240>"), truth).verdict == ""  # another question


def test_figures_follow_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    widget = Prediction(CHOICES, truth)
    shown: list[Any] = []
    monkeypatch.setattr(prediction, "display", lambda data, raw: shown.append(data))
    monkeypatch.setattr(RichOutput, "display", lambda self: shown.append(self.data))
    widget._figures = [RichOutput({"image/png": PIXEL})]
    widget.show_still()
    text, figure = shown
    items = "<li>about 6</li><li>about 36</li><li>about &lt;240&gt;</li>"
    assert text["text/html"].startswith(
        f'<ul class="prediction">{items}</ul>\n<details>'
    )
    assert "<pre>size 237 &amp; more\n</pre></details>" in text["text/html"]
    assert text["text/plain"] == "size 237 & more\n"
    assert figure == {"image/png": PIXEL}
    click(widget, 2)
    assert widget.shown[1] == {"png": PIXEL}


def fails() -> str:
    print("so far")
    raise ZeroDivisionError


def test_what_was_printed_before_an_error_is_seen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ZeroDivisionError):
        Prediction(CHOICES, fails)
    assert capsys.readouterr().out == "so far\n"


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    (["6"], truth, ValueError, "choices = ['6']: must be 2 to 6"),
    ([], truth, ValueError, "choices = []: must be 2 to 6"),
    ([6, "6"], truth, ValueError, "no two the same"),
    ("abc", truth, TypeError, "choices = 'abc' is a str"),
    (None, truth, TypeError, "choices = None"),
    (["6", "36"], "240", TypeError, "run = '240' is a str; give a Callable"),
    (["6", "36"], None, TypeError, "run = None"),
    (["6", "36"], truth, ValueError, "'about <240>': must be one of ['6', '36']"),
    (["6", "36"], lambda: None, ValueError, "run returned 'None'"),
]


@pytest.mark.parametrize(("choices", "run", "error", "words"), BAD)
def test_bad_arguments_are_named(
    choices: Any, run: Callable[[], str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as found:
        Prediction(choices, run)
    assert words in str(found.value)


@pytest.mark.slow
def test_the_page_shows_the_output_after_a_choice_by_key(page: Any) -> None:
    bare = Bare(page, Prediction(CHOICES, truth))
    assert page.get_by_text("237").count() == 0
    group = page.get_by_role("group", name="choices")
    assert group.get_by_role("button").all_inner_texts() == [*CHOICES]
    button = group.get_by_role("button", name="about 36")
    button.press("Enter")
    (message,) = bare.pump()
    assert (message["action"], message["more"]) == ("choose", {"choice": 1})
    assert button.get_attribute("aria-pressed") == "true"
    verdict = page.get_by_role("status").inner_text()
    assert verdict == "Your choice, “about 36”, is wrong; “about <240>” is right."
    assert page.get_by_text("What do you predict?").is_hidden()
    output = page.get_by_role("group", name="output")
    assert output.inner_text().strip() == "size 237 & more"
    assert all(button.is_disabled() for button in group.get_by_role("button").all())


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, *WIDTHS])
def test_it_fits(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    choices = ["a token that has nothing to do with it, " * 4, "about <240>"]
    widget = Prediction(choices, truth)
    widget._text = "a line that is longer than the page is wide " * 20
    widget._figures = [RichOutput({"image/png": PIXEL})]
    click(widget, 0)
    bare = Bare(page, widget)
    bare.assert_fits()
    figure = page.get_by_role("img", name="figure")
    assert figure.evaluate("async (el) => (await el.decode(), el.naturalWidth)") == 1
