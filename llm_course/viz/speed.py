"""Figures of notebook 07: what limits a step, and how near the steps come to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

from llm_course.viz.style import BLUE, CYCLE, GREEN, GREY, ORANGE, subplots

__all__ = ["roofline", "predicted_and_measured", "largest_weights", "accepted_runs"]

HOW = {  # how a token was found
    "a pass over guesses, all wrong": "#F3C58B",
    "any other pass": "#E4E4E4",
    "a right guess": GREEN,
}


def roofline(
    bandwidth: float,
    peak: float,
    points: Mapping[str, Mapping[int, tuple[float, float]]],
    between: tuple[float, float] | None = None,
) -> Figure:
    """The limit of a machine, and products of several kinds and numbers of rows.

    bandwidth in GB/s, peak in GFLOP/s; points[kind][rows] is (FLOPs for each byte
    read, GFLOP/s). A band shows the roof `between` two bandwidths.
    """
    fig, ax = subplots(width=7.5, height=3.8)
    intensity = np.geomspace(0.125, 256, 200)
    if between is not None:
        low, high = (np.minimum(rate * intensity, peak) for rate in between)
        ax.fill_between(intensity, low, high, color=GREY, alpha=0.2, lw=0)
    ax.plot(intensity, np.minimum(bandwidth * intensity, peak), color=GREY, lw=2)
    ax.text(0.14, bandwidth * 0.36, f"{bandwidth:.0f} GB/s", color=GREY)
    ax.text(256, peak * 1.5, f"{peak:.0f} GFLOP/s", color=GREY, ha="right")
    looks = (("o", 7, -12), ("s", -12, -13), ("^", -13, 6), ("D", 7, 5))
    for (kind, of_rows), color, look in zip(points.items(), CYCLE, looks, strict=False):
        marker, *aside = look  # labels of neighbours go to different sides
        x, y = zip(*of_rows.values(), strict=True)
        ax.plot(x, y, marker, color=color, label=kind, fillstyle="none", mew=1.5)
        for rows, place in of_rows.items():
            ax.annotate(
                str(rows), place, size=8.5, color=color, textcoords="offset points",
                xytext=aside if place[0] * bandwidth > peak else (7, -12),
            )  # fmt: skip
    ax.legend(loc="lower right", title="kind; the numbers are rows")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="FLOPs for each byte that is read",
        ylabel="GFLOP/s",
        ylim=(bandwidth * 0.1, peak * 2.2),
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    return fig


def predicted_and_measured(
    names: Sequence[str], predicted: ArrayLike, measured: ArrayLike, unit: str
) -> Figure:
    """Two bars for each name: a prediction, and what was reached, with its share of the
    prediction."""
    fig, ax = subplots(width=8.0, height=0.55 * len(names) + 1.2)
    y = np.arange(len(names))
    grey = "predicted from the bandwidth"
    orange = "measured (share of the prediction)"
    ax.barh(y - 0.2, np.asarray(predicted), 0.38, color=GREY, label=grey)
    bars = ax.barh(y + 0.2, np.asarray(measured), 0.38, color=ORANGE, label=orange)
    shares = np.asarray(measured) / np.asarray(predicted)
    labels = [
        f"{m:.0f} ({share:.0%})"
        for m, share in zip(np.asarray(measured), shares, strict=True)
    ]
    ax.bar_label(bars, labels, padding=3, fontsize=8.5)
    ax.set_yticks(y, names)
    ax.invert_yaxis()
    ax.set_xlabel(unit)
    ax.legend(loc="upper right")
    return fig


def largest_weights(weight: ArrayLike) -> Figure:
    """The largest absolute weight of each row and of each column of a matrix [out, in],
    and of the whole."""
    sizes = np.abs(np.asarray(weight))
    fig, axes = subplots(1, 2, width=9.0, height=2.6, sharey=True)
    for ax, axis, name in zip(
        axes, (1, 0), ("row (output)", "column (input)"), strict=True
    ):
        ax.plot(sizes.max(axis=axis), color=BLUE, lw=0.8)
        ax.axhline(sizes.max(), color=ORANGE, lw=1)
        ax.set(xlabel=name, ylim=(0, sizes.max() * 1.15))
    axes[0].set_ylabel("largest |weight|")
    axes[0].text(0, sizes.max() * 1.03, "largest of the whole matrix", color=ORANGE)
    return fig


def accepted_runs(
    texts: Mapping[str, Sequence[tuple[str, str]]], columns: int = 96
) -> Figure:
    """Texts token by token, coloured by how each was found.

    texts[title] holds pairs (token, one of HOW). Lines have so many `columns`.
    """
    placed = {title: _in_lines(pairs, columns) for title, pairs in texts.items()}
    lines = [place[-1][0] + 1 for place in placed.values()]
    height = 0.24 * sum(lines) + 0.45 * len(lines) + 0.3
    fig, axes = subplots(
        len(lines), 1, width=9.5, height=height, squeeze=False, height_ratios=lines
    )
    for ax, count, (title, place) in zip(
        axes[:, 0], lines, placed.items(), strict=True
    ):
        for line, column, token, how in place:
            width = len(token)
            ax.barh(line, width - 0.16, left=column, height=0.86, color=HOW[how])
            ax.text(
                column + width / 2, line, token.strip(), size=7.5, family="monospace",
                color="white" if how == "a right guess" else "black", ha="center",
                va="center_baseline",
            )  # fmt: skip
        ax.set(xlim=(0, columns), ylim=(count - 0.5, -0.5), title=title)
        ax.set_axis_off()
    handles = [Patch(facecolor=color, label=how) for how, color in HOW.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(HOW))
    return fig


def _in_lines(
    pairs: Sequence[tuple[str, str]], columns: int
) -> list[tuple[int, int, str, str]]:
    """(line, column, token, how) of each token; a line break is shown as a sign."""
    line, column, placed = 0, 0, []
    for token, how in pairs:
        shown = token.replace("\n", "⏎")
        if column + len(shown) > columns:
            line, column = line + 1, 0
        placed.append((line, column, shown, how))
        column += len(shown)
    return placed
