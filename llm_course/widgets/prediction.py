"""Predict, then run: a few choices, and the output of the cell after a click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import traitlets as t
from IPython.display import display
from IPython.utils.capture import capture_output

from llm_course.arguments import checked
from llm_course.widgets.base import LabWidget, page_part

PNG = "image/png"
MOST = 6  # choices
# What was chosen in this kernel, by the name of `run` and the choices: a cell that is
# run again goes on where it was.
CHOSEN: dict[tuple[str, ...], int] = {}


class Prediction(LabWidget):
    """Ask for a prediction, and show the output of a cell once one is made.

    `run` computes the truth: it prints and draws what there is to see, and returns the
    right one of `choices`, so the cell need not contain the answer. It runs with the
    cell, like any other code, and what it shows is kept back until a click.
    """

    _esm = page_part("prediction")
    _css = page_part("prediction", kind=".css")
    choices: t.List = t.List().tag(sync=True)
    picked = t.Int(-1).tag(sync=True)  # which choice; -1 before there is one
    verdict = t.Unicode().tag(sync=True)
    # {"text"} or {"png"} each; nothing before a click
    shown: t.List = t.List().tag(sync=True)

    @checked
    def __init__(self, choices: Sequence[Any], run: Callable[[], Any]) -> None:
        labels = [str(choice) for choice in choices]
        if not 2 <= len(labels) == len({*labels}) <= MOST:
            raise ValueError(
                f"Prediction: choices = {labels}: must be 2 to {MOST}, and no two"
                " the same"
            )
        try:
            with capture_output(stderr=False) as captured:
                right = str(run())
        except Exception:
            captured.show()  # what it printed until then helps to find the mistake
            raise
        if right not in labels:
            raise ValueError(
                f"Prediction: run returned {right!r:.60}: must be one of {labels}"
            )
        self._right = labels.index(right)
        self._text = captured.stdout
        self._figures = [out for out in captured.outputs if PNG in out.data]
        self._key = (getattr(run, "__qualname__", ""), *labels)
        super().__init__(name="Prediction", choices=labels)
        self._reveal()

    def show_still(self) -> None:
        """The choices as a list and the printed text folded, then the figures."""
        items = "".join(
            f"<li>{escape(label, quote=False)}</li>" for label in self.choices
        )
        html = (
            f'<ul class="prediction">{items}</ul>\n<details><summary>Output</summary>\n'
            f"<pre>{escape(self._text, quote=False)}</pre></details>"
        )
        display({"text/html": html, "text/plain": self._text}, raw=True)
        for figure in self._figures:
            figure.display()

    def do_choose(self, _settings: dict[str, Any], choice: int) -> None:
        """Take the choice of this index. It stands: the output tells the answer."""
        CHOSEN.setdefault(self._key, choice)
        self._reveal()

    def _reveal(self) -> None:
        """Show the output if there was a choice, and say whether it was right."""
        if self._key not in CHOSEN:
            return
        self.picked = CHOSEN[self._key]
        mine, right = (f"“{self.choices[i]}”" for i in (self.picked, self._right))
        wrong = f"Your choice, {mine}, is wrong; {right} is right."
        self.verdict = f"Your choice, {mine}, is right." if mine == right else wrong
        printed = [{"text": self._text}] if self._text else []
        self.shown = printed + [{"png": out.data[PNG]} for out in self._figures]
