"""Figures of chapter 02: turning pairs, wavelengths, clocks, scores by offset, the two
layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, Rectangle, Wedge

from llm_course.viz.style import (
    BLUE,
    CYCLE,
    DIVERGING,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SEQUENTIAL,
    numpy,
    subplots,
)


def turning_pair(turned: Any, moved: Sequence[tuple[str, Any, Any]]) -> Figure:
    """Left: one pair at positions 0, 1, 2, …, `turned` [P, 2]. Then one panel per
    `(title, q, k)`.

    Each q and k is a rotated pair [2]; the panel marks the angle from k to q.
    """
    turned = numpy(turned)
    fig, axes = subplots(1, 1 + len(moved), width=9.0, height=3.3)
    for p, (x, y) in enumerate(turned):
        shade = 0.25 + 0.75 * (p + 1) / len(turned)
        _arrow(axes[0], (x, y), BLUE, alpha=shade)
        axes[0].text(1.17 * x, 1.17 * y, str(p), ha="center", va="center", fontsize=9)
    axes[0].set_title("one pair at positions 0, 1, 2, …")
    for ax, (title, q, k) in zip(axes[1:], moved, strict=True):
        q, k = numpy(q), numpy(k)
        _arrow(ax, q, BLUE)
        _arrow(ax, k, ORANGE)
        for name, (x, y), color in (("q", q, BLUE), ("k", k, ORANGE)):
            ax.text(
                1.18 * x,
                1.18 * y,
                name,
                ha="center",
                va="center",
                color=color,
                weight="bold",
            )
        start, stop = (np.degrees(np.arctan2(v[1], v[0])) for v in (k, q))
        ax.add_patch(
            Arc((0, 0), 0.9, 0.9, theta1=start, theta2=stop, color=GREEN, linewidth=2)
        )
        ax.set_title(title)
    radius = 1.3 * max(
        np.linalg.norm(v) for v in (*turned, *(numpy(m[1]) for m in moved))
    )
    for ax in axes:
        (
            ax.axhline(0, color=GREY, linewidth=0.6),
            ax.axvline(0, color=GREY, linewidth=0.6),
        )
        ax.set(
            xlim=(-radius, radius),
            ylim=(-radius, radius),
            aspect="equal",
            xticks=[],
            yticks=[],
        )
        ax.spines[:].set_visible(False)
    return fig


def _arrow(ax: Axes, tip: Any, color: str, alpha: float = 1.0) -> None:
    style = {"arrowstyle": "-|>", "color": color, "linewidth": 2, "alpha": alpha}
    ax.annotate(
        "", tuple(tip), (0, 0), arrowprops={**style, "shrinkA": 0, "shrinkB": 0}
    )


def wavelengths(inv_freq: Any, context: int) -> Figure:
    """Positions per full turn of each pair, on a log axis, against the context
    length."""
    turn = 2 * np.pi / numpy(inv_freq)  # [pairs]
    never = turn > context
    fig, ax = subplots(height=3.6)
    pairs = np.arange(len(turn))
    ax.bar(
        pairs[~never],
        turn[~never],
        color=BLUE,
        label="turns at least once within the context",
    )
    ax.bar(pairs[never], turn[never], color=ORANGE, label="never completes a turn")
    ax.axhline(context, color="black", linestyle="--", linewidth=1)
    ax.text(
        -0.4, context * 1.12, f"context: {context:,} positions", va="bottom", fontsize=9
    )
    ax.set(yscale="log", xlabel="pair i", ylabel="positions per turn, 2π / ωᵢ")
    ax.set(xticks=[*pairs[::4].tolist(), len(turn) - 1], xlim=(-0.7, len(turn) - 0.3))
    ax.legend(loc="upper left", bbox_to_anchor=(0, 0.98))
    return fig


def turn_lengths(turns: dict[str, Any], context: int) -> Figure:
    """Positions per full turn of each pair, a line a way of scaling: label ->
    [pairs]."""
    fig, ax = subplots(height=3.4)
    # Later lines lie on earlier ones in places, so the markers are open and become
    # smaller.
    for (label, turn), size in zip(turns.items(), (9, 6, 3), strict=False):
        ax.plot(
            numpy(turn),
            marker="o",
            markersize=size,
            fillstyle="none",
            linewidth=1,
            label=label,
        )
    ax.axhline(context, color="black", linestyle="--", linewidth=1)
    ax.text(
        0, context * 1.15, f"context: {context:,} positions", va="bottom", fontsize=9
    )
    ax.set(yscale="log", xlabel="pair i", ylabel="positions per turn")
    ax.legend(loc="lower right")
    return fig


def cos_sin_heatmap(cos: Any, sin: Any) -> Figure:
    """The two tables, each [positions, pairs], with positions running to the right."""
    fig, axes = subplots(2, 1, height=4.6, sharex=True)
    for ax, name, table in zip(
        axes, ("cos", "sin"), (numpy(cos), numpy(sin)), strict=True
    ):
        image = ax.imshow(table.T, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
        ax.set(title=f"{name}(p · ωᵢ)", ylabel="pair i")
    axes[1].set(xlabel="position p")
    fig.colorbar(image, ax=axes, shrink=0.7, ticks=[-1, 0, 1])
    return fig


def clocks(
    inv_freq: Any, pairs: Sequence[int], positions: Sequence[int], context: int
) -> Figure:
    """One row of dials per position, one column per pair; the hand starts at 3 o'clock.

    The number in a dial's corner counts its full turns so far; a tint shows the turn it
    is in. Orange dials are the pairs that never complete a turn within the context.
    """
    inv_freq = numpy(inv_freq)
    size = (0.55 + 0.95 * len(positions)) * 9.0 / (1.2 + len(pairs))
    fig, axes = subplots(len(positions), len(pairs), height=size)
    for row, p in zip(axes, positions, strict=True):
        for ax, i in zip(row, pairs, strict=True):
            angle = float(p * inv_freq[i])
            color = ORANGE if 2 * np.pi / inv_freq[i] > context else BLUE
            turns, rest = divmod(angle, 2 * np.pi)
            sweep = np.degrees(rest)
            ax.add_patch(
                Wedge((0, 0), 1, 0, sweep, color=color, alpha=0.25, linewidth=0)
            )
            if turns:
                ax.text(
                    1.0, -1.0, f"{turns:,.0f}", fontsize=8, ha="center", va="center"
                )
            ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=GREY))
            ax.plot(
                [0, 0.9 * np.cos(angle)],
                [0, 0.9 * np.sin(angle)],
                color=color,
                linewidth=2.2,
            )
            ax.set(
                xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xticks=[], yticks=[]
            )
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(f"p = {p:,}", rotation=0, ha="right", va="center")
    for ax, i in zip(axes[0], pairs, strict=True):
        turn = 2 * np.pi / inv_freq[i]
        ax.set_title(
            f"pair {i}\n{turn:,.1f}" if turn < 10 else f"pair {i}\n{turn:,.0f}",
            loc="center",
        )
    axes[0, 0].annotate(
        "positions\nper turn",
        (-1.45, 1.33),
        ha="right",
        va="bottom",
        fontsize=9,
        annotation_clip=False,
    )
    return fig


def drift(positions: Any, exact: Any, rounded: Any, labels: Sequence[str]) -> Figure:
    """Two curves over the same positions, one panel per stretch; each argument is a
    list."""
    fig, axes = subplots(1, len(positions), height=2.8, sharey=True)
    for ax, p, a, b in zip(axes, positions, exact, rounded, strict=True):
        ax.plot(numpy(p), numpy(a), color=BLUE, label=labels[0])
        ax.plot(numpy(p), numpy(b), color=RED, linestyle="--", label=labels[1])
        ax.set(xlabel="position p", title=f"from position {int(p[0]):,}")
    axes[0].set(ylabel="cos(p · ω)", ylim=(-1.05, 1.45), yticks=[-1, 0, 1])
    axes[0].legend(loc="upper left", ncols=2)
    return fig


def score_matrix(scores: Any, offsets: Sequence[int]) -> Figure:
    """Left: score of one q (at the row's position) with one k (at the column's),
    `scores` [P, P].

    Right: its diagonals `scores[p, p - offset]` and its first column. The left panel
    marks them.
    """
    scores = numpy(scores)
    size = len(scores)
    fig, (left, right) = subplots(1, 2, height=3.6)
    image = left.imshow(scores, cmap=SEQUENTIAL)
    left.set(
        xlabel="position of k",
        ylabel="position of q",
        title="score of the same q and k",
    )
    fig.colorbar(image, ax=left, shrink=0.85, label="score q·k / √D")
    for offset, color in zip(offsets, (RED, "black", ORANGE), strict=False):
        q_places = np.arange(offset, size)
        left.plot(q_places - offset, q_places, color=color, linewidth=1.5)
        line = np.diagonal(scores, -offset)
        right.plot(q_places, line, color=color, label=f"offset {offset}: both move")
    style = {"color": GREY, "linestyle": ":", "linewidth": 1.8}
    left.plot(np.zeros(size), np.arange(size), **style)
    right.plot(np.arange(size), scores[:, 0], **style, label="k stays at 0")
    right.set(
        xlabel="position of q", ylabel="score q·k / √D", title="along the marked lines"
    )
    low, high = scores.min(), scores.max()
    # room for the legend
    right.set(ylim=(low - 0.05 * (high - low), high + 0.45 * (high - low)))
    right.legend(loc="upper right")
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
    right.legend(loc="lower right")
    return fig


def layouts(order: Any) -> Figure:
    """Which channels turn together: half-split above, adjacent below, and who goes
    where.

    `order` [D]: place j of the adjacent layout holds channel order[j] of the half-split
    one.
    """
    order = numpy(order)
    dim = len(order)
    fig, ax = subplots(height=3.7)
    for place in range(dim):
        channel = int(order[place])
        color = CYCLE[(place // 2) % len(CYCLE)]
        for y, x in ((1.0, channel), (-1.0, place)):
            ax.add_patch(
                Rectangle((x - 0.4, y - 0.25), 0.8, 0.5, facecolor=color, alpha=0.35)
            )
            ax.text(x, y, f"x[{channel}]", ha="center", va="center", fontsize=10)
        ax.plot([channel, place], [0.72, -0.72], color=color, linewidth=1.2)
    for i in range(dim // 2):
        color = CYCLE[i % len(CYCLE)]
        top, low = order[2 * i : 2 * i + 2], (2 * i, 2 * i + 1)
        height = 0.5 + 0.12 * i
        ax.add_patch(_arch(top[0], top[1], 1.27, height, color, 0, 180))
        ax.add_patch(_arch(low[0], low[1], -1.27, 0.5, color, 180, 360))
    label = {"ha": "right", "va": "center", "fontsize": 10}
    ax.text(-0.7, 1.0, f"half-split\nx[i] with x[i + {dim // 2}]", **label)
    ax.text(-0.7, -1.0, "adjacent\nplaces 2i and 2i + 1", **label)
    ax.set(xlim=(-3.0, dim - 0.3), ylim=(-1.75, 1.85))
    ax.axis("off")
    return fig


def _arch(
    left: float, right: float, y: float, height: float, color: str, *span: float
) -> Arc:
    middle, width = (left + right) / 2, right - left
    return Arc(
        (middle, y),
        width,
        height,
        theta1=span[0],
        theta2=span[1],
        color=color,
        linewidth=2,
    )


def maps_side_by_side(maps: Mapping[str, Any], tokens: Sequence[str]) -> Figure:
    """Attention maps [Q, K] of the same head, under different rotations."""
    fig, axes = subplots(1, len(maps), height=4.3, sharey=True)
    for ax, (title, weights) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(numpy(weights), cmap=SEQUENTIAL, vmin=0, vmax=1)
        ax.set(title=title, xlabel="key: the token that is read")
        ax.set_xticks(range(len(tokens)), tokens, rotation=90)
        ax.set_yticks(range(len(tokens)), tokens)
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
        0.99,
        threshold + 0.01,
        f"{threshold:.0%} moved",
        ha="right",
        va="bottom",
        fontsize=9,
    )
    for label, head in (named or {}).items():
        ax.annotate(
            label, (x[head], y[head]), (8, 0), textcoords="offset points", va="center"
        )
    ax.set(
        xlabel="attention on the previous token, right pairs",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    ax.set(ylabel="share moved by the wrong pairs")
    ax.legend(loc="upper left")
    return fig
