"""Figures of notebook 08: who computes when, where keys and values lie, and what load
does to a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from llm_course.viz.style import BLUE, CYCLE, GREY, ORANGE, subplots

__all__ = ["Bar", "schedules", "memory_maps", "tokens_a_step", "load_and_latency"]

Bar = tuple[int, int, int, int]  # row, request, first step, steps
PALE = "#E6E6E6"


def color_of(request: int) -> str:
    """The colour of a request: there are as many as the palette has, grey aside."""
    return CYCLE[request % (len(CYCLE) - 1)]


def schedules(plans: Mapping[str, Sequence[Bar]], rows: int) -> Figure:
    """One panel a plan, title -> bars: which request has which row in which steps. What
    is left free of the rectangle of rows and steps is grey."""
    end = max(first + n for bars in plans.values() for _, _, first, n in bars)
    fig, axes = subplots(
        len(plans), width=9.0, height=(0.33 * rows + 0.8) * len(plans), sharex=True,
        squeeze=False,
    )  # fmt: skip
    for ax, (title, bars) in zip(axes[:, 0], plans.items(), strict=True):
        last = max(first + n for _, _, first, n in bars)
        ax.barh(range(rows), last, color=PALE, height=0.8)
        for row, request, first, n in bars:
            ax.barh(
                row, n, left=first, color=color_of(request), height=0.8,
                edgecolor="white", lw=1.5,
            )  # fmt: skip
            ax.text(
                first + n / 2, row, str(request), ha="center", va="center", size=9,
                color="white" if color_of(request) == BLUE else "black",
            )  # fmt: skip
        ax.set_title(title)
        ax.set(yticks=range(rows), ylabel="row", xlim=(0, end))
        ax.invert_yaxis()
    axes[-1, 0].set_xlabel("step")
    return fig


def memory_maps(maps: Mapping[str, ArrayLike], page_sizes: Sequence[int]) -> Figure:
    """One panel a map, title -> slots [lines, slots a line]: the request whose token
    lies in a slot, -1 where it is reserved and empty, -2 where it is free. Lines part
    the pages, unless the size of a map's pages is 0."""
    fig, axes = subplots(
        1, len(maps), width=9.0, height=2.9, squeeze=False,
    )  # fmt: skip
    for ax, title, size in zip(axes[0], maps, page_sizes, strict=True):
        _draw_slots(ax, np.asarray(maps[title]), size)
        ax.set_title(title)
    fig.legend(
        handles=[
            Patch(color=color_of(0), label="a token (colour: request)"),
            Patch(facecolor=GREY, label="reserved, empty"),
            Patch(facecolor="white", edgecolor=GREY, label="free"),
        ],
        loc="outside lower center",
        ncols=3,
    )
    return fig


def _draw_slots(ax: Axes, slots: np.ndarray, page_size: int) -> None:
    lines, width = slots.shape
    for y in range(lines):
        for x in range(width):
            owner = int(slots[y, x])
            color = {-1: GREY, -2: "white"}.get(owner) or color_of(owner)
            ax.barh(y, 1, left=x, height=0.9, color=color, edgecolor=PALE, lw=0.5)
    if page_size:
        for x in range(0, width + 1, page_size):
            ax.axvline(x, color="black", lw=1.2)
    ax.set(xlim=(0, width), ylim=(lines - 0.4, -0.6), xticks=[], yticks=[])


def tokens_a_step(
    plans: Mapping[str, Sequence[tuple[int, int]]], budget: int | None = None
) -> Figure:
    """One panel a plan, title -> (tokens of rows that generate, tokens of prompts) in
    each step."""
    fig, axes = subplots(
        1, len(plans), width=9.0, height=2.9, sharey=True, squeeze=False,
    )  # fmt: skip
    for ax, (title, steps) in zip(axes[0], plans.items(), strict=True):
        generated, prompts = np.array(steps).T
        x = np.arange(len(steps))
        ax.bar(x, generated, color=CYCLE[0], label="one token each", width=0.85)
        ax.bar(x, prompts, bottom=generated, color=ORANGE, label="prompts", width=0.85)
        if budget:
            ax.axhline(budget, color=GREY, lw=1, ls="--")
        ax.set_title(title)
        ax.set_xlabel("step")
    axes[0, 0].set_ylabel("tokens computed")
    axes[0, -1].legend(loc="upper right")
    return fig


def load_and_latency(
    load: ArrayLike, curves: Mapping[str, tuple[ArrayLike, ArrayLike]], unit: str
) -> Figure:
    """Latency against load: curves[label] is (median, 95th percentile) at each load."""
    fig, ax = subplots(width=7.5, height=3.4)
    for (label, (middle, high)), color in zip(curves.items(), CYCLE, strict=False):
        ax.plot(load, middle, "o-", color=color, ms=4, label=f"{label}, median")
        ax.plot(load, high, "--", color=color, lw=1, label=f"{label}, 95 of 100")
    ax.set(xlabel="requests that arrive in 100 steps", ylabel=unit, yscale="log")
    ax.legend(loc="upper left")
    return fig
