"""Figures of notebook 06: what a cache saves, what it holds, and where the time
goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

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


def new_rows(maps: Sequence[Any], tokens: Sequence[str]) -> Figure:
    """Attention maps [S, S] of consecutive steps, each one token longer; the new row is
    framed.

    `tokens` label the longest one.
    """
    size = len(tokens)
    fig, axes = subplots(1, len(maps), width=9.5, height=3.9)
    for ax, weights in zip(axes, maps, strict=True):
        values = numpy(weights)
        count = len(values)
        drawn = np.full((size, size), np.nan)
        drawn[:count, :count] = np.where(np.tri(count, dtype=bool), values, np.nan)
        ax.imshow(drawn, cmap=SEQUENTIAL, vmin=0, vmax=1)
        box = Rectangle(
            (-0.5, count - 1.5), count, 1, fill=False, ec=RED, lw=2.5, clip_on=False
        )
        ax.add_patch(box)
        ax.set_title(f"{count} tokens: {count} rows,\n1 of them new", fontsize=10)
        ax.set_xticks(range(size), tokens, rotation=90)
        ax.set_yticks(range(size), tokens if ax is axes[0] else [])
        ax.tick_params(length=0, labelsize=8)
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("query")
    fig.supxlabel("key", fontsize=10)
    return fig


def memory(
    contexts: Any, caches: Mapping[str, Any], weights: Mapping[str, float]
) -> Figure:
    """Gigabytes of a cache against the context length; the weights of each model as a
    dotted line.

    caches: model -> GB at each context, in proportion to it. weights: model -> GB. A
    point marks the context at which the two are equal.
    """
    fig, ax = subplots(width=8.0, height=4.2)
    for (name, values), color in zip(caches.items(), CYCLE, strict=False):
        ax.plot(contexts, numpy(values), color=color, label=name)
        ax.axhline(weights[name], color=color, linestyle=":", linewidth=1.3)
        equal = float(weights[name] / numpy(values)[-1] * numpy(contexts)[-1])
        ax.plot(equal, weights[name], "o", color=color)
    ax.set(xscale="log", yscale="log", xlabel="tokens in the cache", ylabel="GB")
    ax.set_xlim(contexts[0], contexts[-1])
    ax.plot([], [], color=GREY, linestyle=":", label="the weights")
    fig.legend(loc="outside lower center", ncols=5)
    return fig


def cache_bar(cache_gb: float, weights_gb: float, title: str) -> Figure:
    """One cache beside the weights, as two bars."""
    fig, ax = subplots(width=7.0, height=1.7)
    values = [weights_gb, cache_gb]
    ax.barh([0, 1], values, color=[GREY, ORANGE], height=0.7)
    for y, value in enumerate(values):
        ax.text(value, y, f" {value:.3g} GB", va="center")
    ax.set_yticks([0, 1], ["weights", "cache"])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * max(values))
    ax.set(xlabel="GB", title=title)
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
    x = np.geomspace(min(work) / 2, max(work) * 2, 200)
    ax.plot(
        x, np.minimum(peak, bandwidth * x), color=GREY, label="limit of this machine"
    )
    ax.axvline(peak / bandwidth, color=GREY, linestyle=":", linewidth=1.0)
    ax.plot(work, achieved, "o", color=RED, label="one forward pass")
    for a, b, label in zip(work, achieved, labels, strict=True):
        ax.annotate(label, (a, b), (4, -12), textcoords="offset points", fontsize=9)
    ax.set(
        xscale="log", yscale="log", xlabel="FLOPs per byte of weights", ylabel="GFLOP/s"
    )
    ax.set_ylim(min(achieved) / 3, 2.5 * max(peak, *achieved))
    ax.legend(loc="lower right")
    return fig


def budget(
    used: Sequence[float],
    kept: Sequence[float],
    refused: Sequence[int],
    limit: float,
    labels: Sequence[str],
) -> Figure:
    """Megabytes that a manager holds after each event; `refused` are the events that
    were."""
    fig, ax = subplots(width=8.5, height=3.2)
    events = np.arange(len(used))
    ax.bar(events, used, color=BLUE, width=0.9, label="in use")
    ax.bar(
        events, kept, bottom=used, color=SKY, width=0.9, label="freed, kept for reuse"
    )
    ax.axhline(limit, color=RED, linewidth=1.3, label="budget")
    ax.plot(
        refused,
        [limit * 1.06] * len(refused),
        "x",
        color=RED,
        label="a request refused",
        clip_on=False,
    )
    ax.set(xlabel="event: + a request, − its end", ylabel="MB", ylim=(0, 1.15 * limit))
    ax.set_xticks(events, labels)
    ax.set_xlim(-0.6, len(used) - 0.4)
    fig.legend(loc="outside lower center", ncols=4)
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
    for label, counts, color in kinds:
        ax.barh(rows, counts, left=left, color=color, height=0.75, label=label)
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

    The bar before the first mark is the time to first token.
    """
    fig, ax = subplots(width=9.0, height=0.8 * len(runs) + 1.2)
    for y, times in enumerate(runs.values()):
        ax.barh(y, times[0], color=SKY, height=0.6)
        ax.vlines(times, y - 0.3, y + 0.3, color=BLUE, linewidth=1.0)
        ax.plot(times[-1], y, "|", color=RED, markersize=22, markeredgewidth=2)
    ax.set_yticks(range(len(runs)), list(runs))
    ax.invert_yaxis()
    ax.set_xlim(0)
    ax.set_xlabel("seconds since the start")
    handles = [
        Patch(color=SKY, label="until the first token"),
        Patch(color=BLUE, label="a token"),
        Patch(color=RED, label="the last token"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def error_growth(
    steps: Sequence[int], curves: Mapping[str, Sequence[float]], floor: float = 1e-5
) -> Figure:
    """Largest relative difference of the logits after each new token, on a log axis.

    What is below `floor`, where rounding decides, is drawn there.
    """
    fig, ax = subplots(width=8.0, height=3.4)
    for (label, values), color in zip(
        curves.items(), (GREEN, RED, ORANGE), strict=False
    ):
        ax.plot(
            steps,
            np.maximum(numpy(values), floor),
            "o-",
            color=color,
            ms=4,
            label=label,
        )
    band = f"rounding: below {floor:.0e}, drawn at the edge"
    ax.axhspan(floor / 2, floor, color=GREY, alpha=0.25, label=band)
    ax.set(
        yscale="log", xlabel="new token", ylabel="largest difference / largest logit"
    )
    ax.set_ylim(floor / 2, 3)
    fig.legend(loc="outside lower center", ncols=len(curves) + 1)
    return fig
