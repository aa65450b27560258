"""One look for all figures of the course: sizes, fonts, and colours safe for
colour-blind readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

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

RC: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    # ships with matplotlib: the same picture on every machine
    "font.family": "DejaVu Sans",
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
