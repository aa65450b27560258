"""One look for all figures of the course: sizes, fonts, and colours safe for
colour-blind readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.scale import LogScale, register_scale
from matplotlib.ticker import LogFormatterSciNotation

from llm_course.viz.labels import fonts

# Okabe and Ito's palette: told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#7F7F7F",
)
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
SEQUENTIAL = "viridis"  # for magnitudes: dark is small
DIVERGING = "RdBu_r"  # for signed values: white is zero
MASKED = "#D9D9D9"  # grey, in no colour map: what the mask removed

RC: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "font.family": fonts(),
    # a price in a sentence is no formula; no figure of the course has one
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "image.interpolation": "nearest",
}


# Set when this module is imported, not around each figure: titles and legends read it
# when drawn.
matplotlib.rcParams.update(RC)


class Powers(LogFormatterSciNotation):
    """Labels such as 10² on logarithmic axes: formulas, although all other text is
    none."""

    def format_ticks(self, values: list[float]) -> list[str]:
        """The labels, after telling the ticks that these are formulas."""
        axis = cast(Axis, self.axis)  # one of those that share this formatter
        axes, is_x = axis.axes, axis is axis.axes.xaxis
        shared = axes.get_shared_x_axes() if is_x else axes.get_shared_y_axes()
        for one in shared.get_siblings(axes):
            axis = one.xaxis if is_x else one.yaxis
            is_minor = axis.get_minor_formatter() is self
            get_ticks = axis.get_minor_ticks if is_minor else axis.get_major_ticks
            for tick in get_ticks(len(values)):
                tick.label1.set_parse_math(True)
                tick.label2.set_parse_math(True)
        return super().format_ticks(values)


class PlainLogScale(LogScale):
    """matplotlib's scale "log", whose labels are formulas in any case."""

    name = "log"

    def __init__(self, **options: Any) -> None:  # matplotlib asks that none be `axis`
        super().__init__(**options)

    def set_default_locators_and_formatters(self, axis: Axis) -> None:
        """As matplotlib does, with other formatters."""
        super().set_default_locators_and_formatters(axis)
        axis.set_major_formatter(Powers(self.base))
        some = self.subs is not None
        axis.set_minor_formatter(Powers(self.base, labelOnlyBase=some))


register_scale(PlainLogScale)


def subplots(
    rows: int = 1,
    cols: int = 1,
    *,
    width: float = 9.0,
    height: float = 3.2,
    **kwargs: Any,
) -> tuple[Figure, Any]:
    """`plt.subplots` with the size of the whole figure in inches, and labels that do
    not overlap.

    Returns (figure, axes): one Axes, or an array of them. 9 inches is the width of a
    notebook cell.
    """
    return plt.subplots(
        rows, cols, figsize=(width, height), layout="constrained", **kwargs
    )


def lines(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    *,
    top: float | None = None,
    markers: bool = True,
    **scales: str,
) -> Figure:
    """A small chart of a few curves, label -> values, over the same x.

    y goes from 0 to `top`, unless `yscale="log"` is among the `scales`.
    """
    fig, ax = subplots(width=7.0, height=3.2)
    for (label, values), color in zip(
        curves.items(), (RED, GREEN, BLUE, ORANGE), strict=False
    ):
        ax.plot(
            x, values, "o-" if markers else "-", color=color, markersize=4, label=label
        )
    ax.set(xlabel=xlabel, ylabel=ylabel, **scales)
    if "yscale" not in scales:
        ax.set_ylim(0, top)
    ax.legend()
    return fig


def numpy(x: Any) -> np.ndarray:
    """A tensor (of any dtype, on any device) or array-like as a numpy array."""
    if hasattr(x, "detach"):
        x = x.detach().float().cpu()
    return np.asarray(x)
