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
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
# What was clicked in this kernel, by the name of `run` and the choices: a cell that is
# run again goes on where it was.
CLICKED: dict[tuple[str, ...], list[int]] = {}


class Prediction(LabWidget):
    """Ask for a prediction, and show the output of a cell once one is made.

    `run` computes the truth: it prints and draws what there is to see, and returns the
    right one of `choices`, so the cell need not contain the answer. It runs with the
    cell, like any other code, and what it shows is kept back until a click.
    """

    _esm = page_part("prediction")
    _css = page_part("prediction", kind=".css")
    choices: t.List = t.List().tag(sync=True)
    picked: t.List = t.List().tag(
        sync=True
    )  # indices into `choices`, in the order of clicks
    verdict = t.Unicode().tag(sync=True)
    shown: t.List = t.List().tag(
        sync=True
    )  # {"text"} or {"png"} each; nothing before a click

    @checked
    def __init__(self, choices: Sequence[Any], run: Callable[[], Any]) -> None:
        labels = [str(choice) for choice in choices]
        if not 2 <= len(labels) == len({*labels}) <= len(ORDINALS):
            raise ValueError(
                f"Prediction: choices = {labels}: must be 2 to {len(ORDINALS)}, and no"
                " two the same"
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
        """Take a click on the choice of this index."""
        clicked = CLICKED.setdefault(self._key, [])
        if choice not in clicked:
            clicked.append(choice)
        self._reveal()

    def _reveal(self) -> None:
        """Show the output if there was a click, and say whether it was right."""
        if not (picked := CLICKED.get(self._key)):
            return
        nth, last = ORDINALS[len(picked) - 1], picked[-1]
        end = "right." if last == self._right else "wrong. You may choose again."
        self.picked = [*picked]
        self.verdict = f"Your {nth} choice, “{self.choices[last]}”, is {end}"
        printed = [{"text": self._text}] if self._text else []
        self.shown = printed + [{"png": out.data[PNG]} for out in self._figures]
