"""Figures of chapter 02: scores by offset, attention maps, what a mistake moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from llm_course.viz.labels import token_names
from llm_course.viz.style import (
    BLUE,
    GREEN,
    GREY,
    MASKED,
    ORANGE,
    RED,
    SEQUENTIAL,
    numpy,
    subplots,
)


def score_matrix(scores: Any, offsets: Sequence[int]) -> Figure:
    """Left: score of one q (at the row's position) with one k (at the column's),
    `scores` [P, P].

    Right: its diagonals `scores[p, p - offset]` and its first column. The left panel
    marks them.
    """
    scores = numpy(scores)
    size = len(scores)
    fig, (left, right) = subplots(1, 2, height=3.6)
    later = np.triu(np.ones_like(scores, dtype=bool), 1)  # keys after the query
    image = left.imshow(np.ma.array(scores, mask=later), cmap=SEQUENTIAL)
    left.set_facecolor(MASKED)
    left.set(
        xlabel="position of k",
        ylabel="position of q",
        title="score q·k / √D of the same q and k",
    )
    fig.colorbar(image, ax=left, shrink=0.85)
    for offset, color in zip(offsets, (BLUE, "black"), strict=False):
        q_places = np.arange(offset, size)
        left.plot(q_places - offset, q_places, color=color, linewidth=1.5)
        line = np.diagonal(scores, -offset)
        right.plot(q_places, line, color=color, label=f"offset {offset}: both move")
    style = {"color": ORANGE, "linestyle": ":", "linewidth": 2.5}
    left.plot(np.zeros(size), np.arange(size), **style)
    right.plot(np.arange(size), scores[:, 0], **style, label="k stays at 0")
    right.set(
        xlabel="position of q", ylabel="score q·k / √D", title="along the marked lines"
    )
    fig.legend(handles=right.lines, loc="outside lower center", ncols=3)
    return fig


def score_by_offset(offsets: Any, curves: Mapping[str, Any], xlabel: str) -> Figure:
    """Score against offset. `curves`: title -> [words, offsets], one thin line each,
    and their mean."""
    offsets = numpy(offsets)
    fig, axes = subplots(1, len(curves), height=3.2, sharey=True)
    for ax, (title, lines) in zip(np.atleast_1d(axes), curves.items(), strict=True):
        lines = numpy(lines)
        ax.plot(offsets, lines.T, color=GREY, linewidth=0.6, alpha=0.6)
        ax.plot(offsets, lines.mean(0), color=BLUE, linewidth=2.2)
        ax.set(title=title, xlabel=xlabel)
    np.atleast_1d(axes)[0].set(ylabel="score q·k / √D")
    return fig


def mean_score(offsets: Any, mean: Any) -> Figure:
    """One curve, `mean` [offsets]: the score averaged over many heads."""
    fig, ax = subplots(height=2.8)
    ax.plot(numpy(offsets), numpy(mean), color=BLUE, linewidth=2)
    ax.axhline(0, color=GREY, linewidth=0.6)
    ax.set(xlabel="offset: position of q − position of k", ylabel="mean score q·k / √D")
    ax.set_title("all heads")
    return fig


def pair_contributions(offsets: Any, parts: Mapping[str, Any]) -> Figure:
    """Left: the score by offset. Right: what groups of pairs add to it, label ->
    [offsets]."""
    offsets = numpy(offsets)
    lines = {label: numpy(part) for label, part in parts.items()}
    fig, (left, right) = subplots(1, 2, height=3.6, sharey=True)
    left.plot(offsets, sum(lines.values()), color="black", marker="o", markersize=4)
    left.set(ylabel="score q·k / √D", title="the score: the sum over the pairs")
    for (label, part), color in zip(
        lines.items(), (BLUE, GREEN, RED, GREY), strict=False
    ):
        right.plot(offsets, part, color=color, marker="o", markersize=4, label=label)
    right.set(title="what they add")
    for ax in (left, right):
        ax.axhline(0, color=GREY, linewidth=0.6)
        ax.set(xlabel="offset: position of q − position of k", xticks=offsets[::2])
    fig.legend(handles=right.lines[: len(lines)], loc="outside lower center", ncols=4)
    return fig


def maps_side_by_side(maps: Mapping[str, Any], tokens: Sequence[str]) -> Figure:
    """Attention maps [Q, K] of the same head, under different rotations."""
    fig, axes = subplots(1, len(maps), height=4.3, sharey=True)
    for ax, (title, weights) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(numpy(weights), cmap=SEQUENTIAL, vmin=0, vmax=1)
        ax.set(title=title, xlabel="key: the token that is read")
        ax.set_xticks(range(len(tokens)), token_names(tokens), rotation=90)
        ax.set_yticks(range(len(tokens)), token_names(tokens))
    axes[0].set(ylabel="query: the token that reads")
    fig.colorbar(image, ax=axes, shrink=0.7, label="attention weight")
    return fig


def heads_moved(
    to_previous: Any,
    moved: Any,
    named: Mapping[str, int] | None = None,
    threshold: float = 0.5,
) -> Figure:
    """One dot per head: its attention to the previous token, and the share another
    rotation moves.

    `named`: label -> index of a head to point out.
    """
    x, y = numpy(to_previous), numpy(moved)
    fig, ax = subplots(width=6.5, height=3.6)
    for chosen, color, label in (
        (y <= threshold, BLUE, "moves half or less"),
        (y > threshold, RED, "moves more than half"),
    ):
        ax.scatter(
            x[chosen],
            y[chosen],
            s=14,
            color=color,
            alpha=0.7,
            linewidths=0,
            label=label,
        )
    ax.axhline(threshold, color=GREY, linestyle="--", linewidth=1)
    ax.text(
        0.01,
        threshold + 0.01,
        f"{threshold:.0%} moved",
        ha="left",
        va="bottom",
        fontsize=9,
    )
    for label, head in (named or {}).items():
        ax.annotate(
            label,
            (x[head], y[head]),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    ax.set(
        xlabel="attention on the previous token, right pairs",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    ax.set(ylabel="share moved by the wrong pairs")
    ax.legend(loc="upper left")
    return fig
