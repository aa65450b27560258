"""What all widgets of the lab share, on Python's side.

A widget is a Python class, an ES module and a style sheet. The page holds the controls.
Each click and each move sends one message, with all settings as the page shows them,
and Python uses those that came with the message: never older ones. What it computes
goes into traits, which the page draws.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t
from IPython.display import Image, display
from matplotlib.figure import Figure

from llm_course.text import Tokenizer
from llm_course.widgets import runs
from llm_course.widgets.figures import png

HERE = Path(__file__).parent


def page_part(*names: str, kind: str = ".js") -> str:
    """The shared elements.js and lab.js (or, with another `kind`, lab.css) and then the
    files `names` of this folder, as one text.

    The page gets one ES module a widget and no others, so its files are joined here.
    """
    shared = ("elements", "lab") if kind == ".js" else ("lab",)
    files = [HERE / f"{name}{kind}" for name in (*shared, *names)]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


class LabWidget(anywidget.AnyWidget):
    """A widget whose page sends `{action, settings, more}`; `do_<action>` answers.

    A subclass sets `_esm` and `_css` by `page_part`, gives the first `settings` and a
    `name` to `__init__`, and defines `figure()` and its actions
    `do_<action>(settings, **more)`; the page sends "show" when a control moves. A
    ValueError, or any other error, becomes `error` on the page.
    """

    name = t.Unicode().tag(sync=True)  # what the widget is, for a screen reader
    settings = t.Dict().tag(sync=True)  # as the page last sent them
    answered = t.Dict().tag(sync=True)  # which message: {"page", "serial"}
    running = t.Bool(False).tag(sync=True)  # a generation is going on
    status = t.Unicode().tag(sync=True)
    error = t.Unicode().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        runs.end()  # of this cell, run before
        self._one_at_a_time = threading.Lock()
        self._run: runs.Run | None = None
        super().__init__(**traits)
        self.on_msg(self._on_message)

    def __repr__(self) -> str:
        return f"{self.name}: run this cell to use it."

    def figure(self) -> Figure:
        """The widget as a still picture, for who has no kernel."""
        raise NotImplementedError

    def show_still(self) -> None:
        """Display what stands in the stored notebook above the widget."""
        display(Image(png(self.figure())))

    def do_stop(self, _settings: dict[str, Any]) -> None:
        """End this widget's run after its present step."""
        if self._run is not None:
            self._run.stop()

    def start(self, work: Callable[[runs.Run], None]) -> None:
        """Run `work` in a thread, as the only one of this kernel; `running` says so."""

        def watched(run: runs.Run) -> None:
            try:
                work(run)
            except Exception as error:  # in a thread: what is not shown is lost
                self.error = describe(error)
            finally:
                self.running = False

        runs.end()
        self.running = True
        self._run = runs.start(watched)

    def wait(self, seconds: float | None = None) -> None:
        """Block until the run has ended."""
        if self._run is not None:
            self._run.join(seconds)

    def _on_message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        if content["action"] == "stop":  # heard also while another action computes
            self.do_stop(content["settings"])
        else:  # messages may come in other threads than the main one
            with self._one_at_a_time:
                self._act(content)
        # Set last: by then the page has all that was computed.
        self.answered = {"page": content["page"], "serial": content["serial"]}

    def _act(self, content: dict[str, Any]) -> None:
        self.error = ""
        self.settings = content["settings"]
        try:
            action = getattr(self, f"do_{content['action']}")
            action(content["settings"], **content.get("more", {}))
        except Exception as error:  # raised in a callback, it would go unseen to a log
            self.error = describe(error)

    def _ipython_display_(self) -> None:
        """Show what is still, then the widget, whose style hides that while it lives.

        Two outputs: JupyterLab does not fall back to a picture beside a widget that it
        cannot show.
        """
        self.show_still()
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display({**data, "text/plain": repr(self)}, metadata=metadata, raw=True)


def ids_to_draw(
    tokenizer: Tokenizer, text: str, low: int, high: int, what: str, widget: str
) -> tuple[int, ...]:
    """The ids of a text. Raises ValueError for fewer or more than can be drawn; `what`
    and `widget` are the words for both in its message."""
    ids = tuple(tokenizer.encode(text))
    if not low <= len(ids) <= high:
        tokens = "token" if len(ids) == 1 else "tokens"
        raise ValueError(
            f"The {what} has {len(ids)} {tokens}; the {widget} takes {low} to {high}."
        )
    return ids


def describe(error: Exception) -> str:
    """An error in words; one without any by its kind."""
    return str(error) or type(error).__name__
