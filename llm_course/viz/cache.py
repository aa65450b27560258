"""Figures of notebook 06: what a cache saves, what it holds, and where the time
goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from llm_course.viz.decoder import label
from llm_course.viz.labels import token_names
from llm_course.viz.style import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SEQUENTIAL,
    SKY,
    numpy,
    subplots,
)
from llm_course.viz.style import (
    lines as lines,  # for the notebook, beside the figures here
)

YELLOW = "#F0E442"  # the eighth of Okabe and Ito's colours


def new_rows(maps: Sequence[Any], tokens: Sequence[str]) -> Figure:
    """Attention maps [S, S] of consecutive steps, each one token longer; the new row is
    framed.

    `tokens` label the longest one.
    """
    size, tokens = len(tokens), [label(token) for token in token_names(tokens)]
    fig, axes = subplots(1, len(maps), width=9.5, height=3.9)
    for ax, weights in zip(axes, maps, strict=True):
        values = numpy(weights)
        count = len(values)
        drawn = np.full((size, size), np.nan)
        drawn[:count, :count] = np.where(np.tri(count, dtype=bool), values, np.nan)
        image = ax.imshow(drawn, cmap=SEQUENTIAL, vmin=0, vmax=1)
        box = Rectangle(
            (-0.5, count - 1.5), count, 1, fill=False, ec=RED, lw=2.5, clip_on=False
        )
        ax.add_patch(box)
        ax.set_title(f"{count} tokens: {count} rows,\n1 of them new", fontsize=10)
        ax.set_xticks(range(count), tokens[:count], rotation=90)
        ax.set_yticks(range(count), tokens[:count])
        ax.tick_params(length=0, labelsize=8)
        ax.spines[:].set_visible(False)
    fig.colorbar(image, ax=axes, shrink=0.6, label="attention weight")
    fig.supylabel("query", fontsize=10)
    fig.supxlabel("key", fontsize=10)
    return fig


def memory(
    tokens: Any,
    caches: Mapping[str, Any],
    weights: Mapping[str, float],
    limits: Sequence[float] = (24, 80),
) -> Figure:
    """Gigabytes of weights and caches together, against the tokens in all caches.

    caches: model -> GB at each number of tokens, in proportion to it. weights: model ->
    GB. A point marks where the two are equal. limits: the memory of a card, in GB.
    """
    fig, ax = subplots(width=8.0, height=4.4)
    for limit in limits:
        ax.axhline(limit, color=GREY, linestyle="--", linewidth=1.0)
        ax.annotate(
            f"a card with {limit:g} GB",
            (tokens[0], limit),
            (4, 3),
            textcoords="offset points",
            color=GREY,
            fontsize=9,
        )
    for (name, values), color in zip(caches.items(), CYCLE, strict=False):
        ax.plot(tokens, weights[name] + numpy(values), color=color, label=name)
        equal = float(weights[name] / numpy(values)[-1] * numpy(tokens)[-1])
        ax.plot(equal, 2 * weights[name], "o", color=color)
    ax.plot([], [], "o", color=GREY, label="as much cache as weights")
    ax.set(xscale="log", yscale="log", xlabel="tokens in the cache, all rows together")
    ax.set_ylabel("GB of weights and cache")
    ax.set_xlim(tokens[0], tokens[-1])
    fig.legend(loc="outside lower center", ncols=5)
    return fig


def roofline(
    work: Sequence[float],
    achieved: Sequence[float],
    labels: Sequence[str],
    peak: float,
    bandwidth: float,
) -> Figure:
    """Operations per second against operations per byte, under the two limits of a
    machine.

    work: FLOPs per byte read. achieved and peak: GFLOP/s. bandwidth: GB/s.
    """
    fig, ax = subplots(width=8.0, height=4.2)
    x = np.geomspace(min(work) / 3, max(work) * 4, 200)
    ax.plot(
        x, np.minimum(peak, bandwidth * x), color=GREY, label="limit of this machine"
    )
    ax.axvline(peak / bandwidth, color=GREY, linestyle=":", linewidth=1.0)
    for side, name, step in (
        ("right", "limit: reading", -6),
        ("left", "limit: arithmetic", 6),
    ):
        ax.annotate(
            name,
            (peak / bandwidth, min(achieved) / 3),
            (step, 6),
            textcoords="offset points",
            ha=side,
            color=GREY,
        )
    ax.plot(work, achieved, "o", color=RED, label="one forward pass")
    for a, b, name in zip(work, achieved, labels, strict=True):
        below = min(peak, bandwidth * a) / b
        ax.annotate(
            f"{name}:\nlimit / {below:.1f}",
            (a, b),
            (6, -4),
            textcoords="offset points",
            va="top",
            fontsize=9,
        )
    ax.set(
        xscale="log", yscale="log", xlabel="FLOPs per byte of weights", ylabel="GFLOP/s"
    )
    ax.set_ylim(min(achieved) / 3, 2.5 * max(peak, *achieved))
    ax.legend(loc="lower right")
    return fig


def budget(
    held: Sequence[Mapping[str, float]],
    kept: Sequence[Sequence[float]],
    refused: Sequence[int],
    limit: float,
    labels: Sequence[str],
) -> Figure:
    """Megabytes that a manager holds after each event, a block for each request.

    held: request -> MB in use, after each event; a request has one colour throughout.
    kept: MB of each freed cache. `refused` are the events that were.
    """
    fig, ax = subplots(width=9.0, height=3.8)
    shades = (*CYCLE[:6], YELLOW)  # grey is for what is kept
    colors: dict[str, str] = {}
    for x, (requests, free) in enumerate(zip(held, kept, strict=True)):
        bottom = 0.0
        for name, size in requests.items():
            color = colors.setdefault(name, shades[len(colors) % len(shades)])
            ax.bar(x, size, bottom=bottom, color=color, width=0.9, edgecolor="white")
            ink = "white" if color == BLUE else "black"
            middle = bottom + size / 2
            ax.text(x, middle, name, ha="center", va="center", color=ink)
            bottom += size
        for size in free:
            ax.bar(x, size, 0.9, bottom, color="none", ec=GREY, hatch="///")
            bottom += size
    ax.axhline(limit, color=RED, linewidth=1.5)
    for x in refused:
        ax.plot(x, limit * 1.06, "x", color=RED, clip_on=False)
    ax.set(xlabel="event: + a request, − its end", ylabel="MB", ylim=(0, 1.15 * limit))
    ax.set_xticks(range(len(labels)), [event.replace("-", "−") for event in labels])
    ax.set_xlim(-0.6, max(len(labels), 10) - 0.4)
    handles: list[Any] = [
        Patch(facecolor="none", edgecolor=GREY, hatch="///", label="freed, kept"),
        Line2D([], [], color=RED, label="budget"),
        Line2D([], [], color=RED, marker="x", ls="", label="a request refused"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def turns(held: Sequence[int], fed: Sequence[int], replied: Sequence[int]) -> Figure:
    """Tokens of each turn of a conversation: already in the cache, prefilled, and
    decoded."""
    fig, ax = subplots(width=8.0, height=0.55 * len(held) + 1.3)
    rows, left = np.arange(len(held)), np.zeros(len(held))
    kinds = (
        ("in the cache", held, SKY),
        ("prefilled", fed, RED),
        ("decoded", replied, ORANGE),
    )
    for kind, counts, color in kinds:
        ax.barh(rows, counts, left=left, color=color, height=0.75, label=kind)
        for y, count in enumerate(counts):
            if count:
                ax.text(left[y] + count / 2, y, str(count), ha="center", va="center")
        left = left + np.asarray(counts)
    ax.set_yticks(rows, [f"turn {row + 1}" for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel("tokens")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def timeline(runs: Mapping[str, Sequence[float]]) -> Figure:
    """When each token came, in seconds after the start: label -> times of one
    generation.

    The bar before the first mark is the time to first token; the text says how long it
    was, and how far apart the marks are (the median).
    """
    fig, ax = subplots(width=9.0, height=0.8 * len(runs) + 1.2)
    end = max(times[-1] for times in runs.values())
    for y, times in enumerate(runs.values()):
        ax.barh(y, times[0], color=SKY, height=0.6)
        ax.vlines(times, y - 0.3, y + 0.3, color=BLUE, linewidth=1.0)
        apart = np.median(np.diff(times))
        text = f"first: {1000 * times[0]:.0f} ms\nthen: {1000 * apart:.0f} ms (median)"
        ax.text(times[-1] + 0.02 * end, y, text, va="center", fontsize=9)
    ax.set_yticks(range(len(runs)), list(runs))
    ax.invert_yaxis()
    ax.set_xlim(0, 1.3 * end)
    ax.set_xlabel("seconds since the start")
    handles = [
        Patch(color=SKY, label="until the first token"),
        Line2D([], [], color=BLUE, marker="|", ls="", ms=12, label="a token"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def error_growth(
    steps: Sequence[int], curves: Mapping[str, Sequence[float]], floor: float = 1e-5
) -> Figure:
    """Largest relative difference of the logits after each new token, on a log axis.

    What is below `floor`, where rounding decides, is drawn at half of it, in the middle
    of a grey band.
    """
    fig, ax = subplots(width=8.0, height=3.4)
    for (name, values), color in zip(
        curves.items(), (GREEN, RED, ORANGE), strict=False
    ):
        errors = numpy(values)
        drawn = np.where(errors < floor, floor / 2, errors)
        ax.plot(steps, drawn, "o-", color=color, ms=4, label=name)
    band = f"rounding: below {floor:.0e}"
    ax.axhspan(floor / 4, floor, color=GREY, alpha=0.25, label=band)
    ax.set(
        yscale="log", xlabel="new token", ylabel="largest difference / largest logit"
    )
    ax.set_ylim(floor / 4, 3)
    fig.legend(loc="outside lower center", ncols=len(curves) + 1)
    return fig
