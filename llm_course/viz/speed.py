"""Figures of notebook 07: what limits a step, and how near the steps come to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from llm_course.viz.style import BLUE, CYCLE, GREY, ORANGE, subplots

__all__ = ["roofline", "predicted_and_measured", "largest_by_column"]


def roofline(
    bandwidth: float,
    peak: float,
    points: Mapping[str, Mapping[int, tuple[float, float]]],
) -> Figure:
    """The limit of a machine, and products of several kinds and numbers of rows.

    bandwidth in GB/s, peak in GFLOP/s; points[kind][rows] is (FLOPs for each byte
    read, GFLOP/s).
    """
    fig, ax = subplots(width=7.5, height=3.8)
    intensity = np.geomspace(0.25, 256, 200)
    ax.plot(intensity, np.minimum(bandwidth * intensity, peak), color=GREY, lw=2)
    ax.text(0.45, bandwidth * 0.16, f"{bandwidth:.0f} GB/s", color=GREY)
    ax.text(0.25, peak, f"{peak:.0f} GFLOP/s", color=GREY, va="center")
    for (kind, of_rows), color in zip(points.items(), CYCLE, strict=False):
        x, y = zip(*of_rows.values(), strict=True)
        ax.plot(x, y, "o-", color=color, lw=0.8, label=kind)
        for rows, place in of_rows.items():
            ax.annotate(
                str(rows), place, xytext=(6, -10), textcoords="offset points",
                size=8.5, color=color,
            )  # fmt: skip
    ax.legend(loc="lower right", title="kind (a point: rows)")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="FLOPs for each byte that is read",
        ylabel="GFLOP/s",
        ylim=(bandwidth * 0.1, peak * 1.8),
    )
    return fig


def predicted_and_measured(
    names: Sequence[str], predicted: ArrayLike, measured: ArrayLike, unit: str
) -> Figure:
    """Two bars for each name: what a bound allows, and what was reached."""
    fig, ax = subplots(width=8.0, height=0.55 * len(names) + 1.2)
    y = np.arange(len(names))
    ax.barh(y - 0.2, np.asarray(predicted), 0.38, color=GREY, label="the bound")
    ax.barh(y + 0.2, np.asarray(measured), 0.38, color=ORANGE, label="measured")
    ax.set_yticks(y, names)
    ax.invert_yaxis()
    ax.set_xlabel(unit)
    ax.legend(loc="upper right")
    return fig


def largest_by_column(weight: ArrayLike) -> Figure:
    """The largest absolute weight of each column of a matrix [out, in], and of the
    whole."""
    largest = np.abs(np.asarray(weight)).max(axis=0)
    fig, ax = subplots(width=8.0, height=2.6)
    ax.plot(largest, color=BLUE, lw=0.8)
    ax.axhline(largest.max(), color=ORANGE, lw=1)
    ax.text(
        len(largest), largest.max() * 0.97, "the matrix", color=ORANGE, ha="right",
        va="top",
    )  # fmt: skip
    ax.set(xlabel="input (column)", ylabel="largest |weight|", ylim=(0, None))
    return fig
