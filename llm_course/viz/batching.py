"""Figures of notebook 08: who computes when, where keys and values lie, and what load
does to a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from llm_course.viz.style import BLUE, CYCLE, GREY, ORANGE, subplots

__all__ = [
    "Bar",
    "schedules",
    "memory_maps",
    "block_tables",
    "tokens_a_step",
    "load_and_latency",
]

Bar = tuple[int, int, int, int]  # row, request, first step, steps
PALE = "#E6E6E6"


def color_of(request: int) -> str:
    """The colour of a request: there are as many as the palette has, grey aside."""
    return CYCLE[request % (len(CYCLE) - 1)]


def ink_on(color: str) -> str:
    """The colour of a number that stands on another colour."""
    return "white" if color == BLUE else "black"


def schedules(plans: Mapping[str, Sequence[Bar]], rows: int) -> Figure:
    """One panel a plan, title -> bars: which request has which row in which steps. A
    place of the rectangle of rows and steps that nobody has is grey."""
    end = max(first + n for bars in plans.values() for _, _, first, n in bars)
    fig, axes = subplots(
        len(plans), width=9.0, height=(0.33 * rows + 0.8) * len(plans) + 0.35,
        sharex=True, squeeze=False,
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
                color=ink_on(color_of(request)),
            )  # fmt: skip
        ax.set_title(title)
        ax.set(yticks=range(rows), ylabel="row", xlim=(0, end))
        ax.invert_yaxis()
    axes[-1, 0].set_xlabel("step")
    fig.legend(
        handles=[
            Patch(color=color_of(0), label="a row at work (number: request)"),
            Patch(color=PALE, label="an empty place"),
        ],
        loc="outside lower center",
        ncols=2,
    )
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
            Patch(color=color_of(0), label="a token (number: request)"),
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
            if owner >= 0 and (x == 0 or slots[y, x - 1] != owner):
                ax.text(
                    x + 0.5, y, str(owner), ha="center", va="center", size=8,
                    color=ink_on(color),
                )  # fmt: skip
    if page_size:
        for x in range(0, width + 1, page_size):
            ax.axvline(x, color="black", lw=1.2)
    ax.set(xlim=(0, width), ylim=(lines - 0.4, -0.6), xticks=[], yticks=[])


def block_tables(
    tables: Sequence[tuple[Sequence[int], int]], slots: ArrayLike
) -> Figure:
    """The table of each request, (its pages, how many tokens it has), above the memory
    [pages, slots a page], whose slots hold a request, or -1. An arrow leads from each
    entry of a table to its page."""
    slots = np.asarray(slots)
    count, size = slots.shape
    fig, ax = subplots(width=9.0, height=2.8)
    memory = 2.2
    for page, held in enumerate(slots):
        left = page * (size + 1)
        for x, owner in enumerate(held):
            color = color_of(int(owner)) if owner >= 0 else "white"
            ax.barh(
                memory, 1, left=left + x, height=0.8, color=color, edgecolor=GREY,
                lw=0.5,
            )  # fmt: skip
        ax.text(left + size / 2, memory + 0.75, f"page {page}", ha="center", size=9)
    for request, (pages, length) in enumerate(tables):
        start = request * (count // len(tables)) * (size + 1)
        label = f"request {request}, {length} tokens"
        ax.text(start, -0.5, label, size=9, color="black")
        for i, page in enumerate(pages):
            x, y = start + 2.2 * i, 0
            ax.barh(
                y, 2.0, left=x, height=0.55, color="white",
                edgecolor=color_of(request), lw=1.5,
            )  # fmt: skip
            ax.text(x + 1, y, str(page), ha="center", va="center", size=9)
            ax.annotate(
                "", (page * (size + 1) + size / 2, memory - 0.45), (x + 1, y + 0.3),
                arrowprops={"arrowstyle": "->", "color": color_of(request), "lw": 1.2},
            )  # fmt: skip
    ax.set(ylim=(memory + 1.0, -1.0), xlim=(-0.5, count * (size + 1)))
    ax.axis("off")
    return fig


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
    load: ArrayLike,
    curves: Mapping[str, Mapping[str, ArrayLike]],
    capacities: Mapping[str, float],
    unit: str,
) -> Figure:
    """Three panels against load: time to first token ("median" and "95th percentile" of
    curves[label]), "throughput" and "goodput". A dotted line at each capacity."""
    fig, axes = subplots(1, 3, width=10.0, height=3.5)
    panels = {
        f"{unit} to the first token": ("median", "95th percentile"),
        "requests served": ("throughput",),
        "requests served well": ("goodput",),
    }
    for ax, (title, names) in zip(axes, panels.items(), strict=True):
        for (label, values), color in zip(curves.items(), CYCLE, strict=False):
            for name, style in zip(names, ("o-", "--"), strict=False):
                text = f"{label}, {name}" if len(names) > 1 else label
                ax.plot(load, values[name], style, color=color, ms=4, label=text)
            ax.axvline(capacities[label], color=color, ls=":", lw=1.5)
        ax.set(title=title, xlabel=f"load: requests in 100 {unit}", ylim=(0, None))
    lines, _ = axes[0].get_legend_handles_labels()
    capacity = Line2D([], [], color=GREY, ls=":", lw=1.5, label="capacity")
    fig.legend(handles=[*lines, capacity], loc="outside lower center", ncols=5)
    axes[1].set_ylabel(f"in 100 {unit}")
    return fig
