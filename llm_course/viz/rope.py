"""Figures of chapter 02: turning pairs, wavelengths, clocks, the two layouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, Patch, Rectangle, Wedge

from llm_course.viz.style import (
    BLUE,
    CYCLE,
    DIVERGING,
    GREEN,
    GREY,
    ORANGE,
    RED,
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
    ax.bar(
        pairs[never], turn[never], color=ORANGE, label="no full turn within the context"
    )
    ax.axhline(context, color="black", linestyle="--", linewidth=1)
    ax.text(
        -0.4, context * 1.12, f"context: {context:,} positions", va="bottom", fontsize=9
    )
    if never.any():
        first = int(
            never.argmax()
        )  # it may miss the context by a hair: say by how much
        ax.annotate(
            f"pair {first}: {turn[first]:,.0f}",
            (first, turn[first]),
            (first - 0.6, 3 * turn[first]),
            ha="right",
            fontsize=9,
            arrowprops={"arrowstyle": "-", "linewidth": 0.8},
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


def unmet_angles(
    inv_freq: Any, pairs: Sequence[int], context: int, factor: int
) -> Figure:
    """The angle of a pair by offset, to `factor` contexts, as it is and divided by
    `factor`.

    One panel per pair; shaded are the angles that no offset within the context reaches.
    """
    omega = numpy(inv_freq)
    offsets = np.linspace(0, factor * context, 4001)
    fig, axes = subplots(1, len(pairs), height=3.4, sharey=True)
    for ax, i in zip(axes, pairs, strict=True):
        met = min(context * omega[i], 2 * np.pi)
        if met < 2 * np.pi:
            ax.axhspan(met, 2 * np.pi, color=RED, alpha=0.18, linewidth=0)
        for slowed, color, label in (
            (1, BLUE, "plain"),
            (factor, GREEN, f"divided by {factor}"),
        ):
            angle = offsets * omega[i] / slowed % (2 * np.pi)
            angle[1:][np.diff(angle) < 0] = np.nan  # no line back from 2π to 0
            ax.plot(offsets / 1000, angle, color=color, linewidth=1.4, label=label)
        edge = {"color": "black", "linestyle": "--", "linewidth": 1}
        ax.axvline(context / 1000, label=f"context: {context:,}", **edge)
        turns = context * omega[i] / (2 * np.pi)
        said = "all angles met" if met == 2 * np.pi else "some never met"
        ax.set(title=f"pair {i}: {turns:.1f} turns, {said}")
        ax.set(xlabel="offset, in thousands", xlim=(0, factor * context / 1000))
    axes[0].set(ylabel="angle, modulo a full turn", ylim=(0, 2 * np.pi))
    axes[0].set_yticks([0, np.pi, 2 * np.pi], ["0", "π", "2π"])
    shade = Patch(color=RED, alpha=0.18, linewidth=0, label="never met in training")
    lines = axes[0].get_legend_handles_labels()[0]
    fig.legend(handles=[*lines, shade], loc="outside upper center", ncols=4)
    return fig


def cos_sin_heatmap(cos: Any, sin: Any, flat_from: int | None = None) -> Figure:
    """The two tables, each [positions, pairs], with positions running to the right; a
    dotted line above pair `flat_from`."""
    fig, axes = subplots(2, 1, height=4.6, sharex=True)
    for ax, name, table in zip(
        axes, ("cos", "sin"), (numpy(cos), numpy(sin)), strict=True
    ):
        image = ax.imshow(table.T, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
        ax.set(title=f"{name}(p · ωᵢ)", ylabel="pair i")
        if flat_from is not None:
            ax.axhline(flat_from - 0.5, color="black", linestyle=":", linewidth=1.5)
    axes[1].set(xlabel="position p")
    fig.colorbar(image, ax=axes, shrink=0.7, ticks=[-1, 0, 1])
    return fig


def _tint(color: str, share: float) -> tuple[float, ...]:
    """So much of a colour on white, opaque: tints that overlap do not add up."""
    return tuple(1 - share * (1 - part) for part in to_rgb(color))


def clocks(
    inv_freq: Any, pairs: Sequence[int], positions: Sequence[int], context: int
) -> Figure:
    """One row of dials per position, one column per pair; the hand starts at 3 o'clock.

    The number in a dial's corner counts its full turns so far. The dark sector shows
    the turn that the hand is in; the rest is pale after a full turn and white before.
    Orange dials are the pairs that never complete a turn within the context.
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
            if turns:
                ax.text(
                    1.0, -1.0, f"{turns:,.0f}", fontsize=8, ha="center", va="center"
                )
            ground, sector = _tint(color, 0.1 if turns else 0.0), _tint(color, 0.35)
            ax.add_patch(Circle((0, 0), 1, facecolor=ground, edgecolor="none"))
            ax.add_patch(Wedge((0, 0), 1, 0, sweep, color=sector, linewidth=0))
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


def drift(
    positions: Any, exact: Any, rounded: Any, labels: Sequence[str], pair: int
) -> Figure:
    """Two curves of one pair over the same positions, one panel per stretch; each
    argument is a list."""
    fig, axes = subplots(1, len(positions), height=2.8, sharey=True)
    for ax, p, a, b in zip(axes, positions, exact, rounded, strict=True):
        ax.plot(numpy(p), numpy(a), color=BLUE, label=labels[0])
        ax.plot(numpy(p), numpy(b), color=RED, linestyle="--", label=labels[1])
        ax.set(xlabel="position p", title=f"pair {pair}, from position {int(p[0]):,}")
    axes[0].set(ylabel="cos(p · ω)", ylim=(-1.05, 1.45), yticks=[-1, 0, 1])
    axes[0].legend(loc="upper left", ncols=2)
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
