"""A map of the model, with the part a notebook builds lit up."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from llm_course.viz.style import BLUE, GREEN, GREY, ORANGE, subplots

# name -> (label, x, y): the stream of data runs upwards, the layer's parts stand in the
# middle.
PARTS = {
    "embed": ("token embedding", 0.0, 0.0),
    "input_norm": ("RMSNorm", 0.0, 1.25),
    "rope": ("RoPE on q and k", 3.1, 2.25),
    "attention": ("self-attention\n(grouped queries)", 0.0, 2.25),
    "post_norm": ("RMSNorm", 0.0, 3.6),
    "mlp": ("MLP (SwiGLU)", 0.0, 4.6),
    "norm": ("RMSNorm", 0.0, 5.95),
    "head": ("output head → logits", 0.0, 6.95),
    "generate": ("sampling loop → text", 3.1, 6.95),
}
WIDTH, HEIGHT = 2.6, 0.72


def model_map(
    lit: Collection[str],
    done: Collection[str] = (),
    *,
    loop: bool = False,
    stream: bool = False,
    wiring: bool = False,
) -> Figure:
    """The path from token ids to text; `lit` parts are orange, `done` ones (earlier
    chapters) blue.

    With `loop` an orange arrow leads from the sampling loop back to the token ids; with
    `stream` the residual stream is green and named; with `wiring` the additions and the
    frame of the repeated layer are orange too.
    Raises ValueError for a name that is not in PARTS.
    """
    if unknown := sorted((set(lit) | set(done)) - set(PARTS)):
        raise ValueError(f"unknown parts {unknown}; the map has {list(PARTS)}")
    fig, ax = subplots(width=6.0, height=5.6)
    _draw_frame(ax, ORANGE if wiring else GREY)
    if stream:
        _draw_stream(ax)
    for name, (label, x, y) in PARTS.items():
        _draw_part(
            ax, label, x, y, ORANGE if name in lit else BLUE if name in done else None
        )
    ax.text(0.0, -1.15, "token ids", ha="center", va="center", fontsize=10)
    if loop:
        _draw_loop(ax)
    ax.set(xlim=(-3.2, 5.6 if loop else 4.6), ylim=(-1.5, 7.7), aspect="equal")
    ax.axis("off")
    return fig


def _draw_part(ax: Axes, label: str, x: float, y: float, color: str | None) -> None:
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0.02,rounding_size=0.12",
        facecolor=color or "white",
        edgecolor=color or GREY,
        linewidth=1.2,
    )
    ax.add_patch(box)
    ax.text(
        x,
        y,
        label,
        ha="center",
        va="center",
        fontsize=9,
        color="white" if color == BLUE else "black",
    )


def _draw_loop(ax: Axes) -> None:
    """The way back: the chosen token is appended to the token ids."""
    (x, top), (right, bottom) = PARTS["generate"][1:], (5.0, -1.15)
    ax.plot(
        [x + WIDTH / 2, right, right], [top, top, bottom], color=ORANGE, linewidth=1.6
    )
    arrow = {
        "arrowstyle": "-|>",
        "color": ORANGE,
        "linewidth": 1.6,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", (0.75, bottom), (right, bottom), arrowprops=arrow)
    look: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "fontsize": 9,
        "color": GREY,
    }
    ax.text(
        right + 0.3,
        (top + bottom) / 2,
        "the chosen token is appended",
        rotation=90,
        **look,
    )


def _draw_stream(ax: Axes) -> None:
    """The residual stream: from the embedding past both parts to the final norm."""
    left, bottom, top = -1.65, HEIGHT / 2, 5.95 - HEIGHT / 2
    xs = [0, 0, left, left, 0, 0, left, left, 0, 0]
    ys = [bottom, *(0.75, 0.75, 2.93, 2.93), *(3.1, 3.1, 5.2, 5.2), top]
    ax.plot(xs, ys, color=GREEN, linewidth=2.2)
    ax.text(-2.05, 4.15, "residual\nstream", ha="right", fontsize=9, color=GREEN)


def _draw_frame(ax: Axes, color: str) -> None:
    """The layer's frame and the two residual additions in `color`, the arrows of the
    stream."""
    dashes, width = (0, (4, 3)), 1.0 if color == GREY else 1.6
    frame = Rectangle((-1.95, 0.62), 3.55, 4.75, fill=False, ec=color, ls=dashes)
    frame.set_linewidth(width)
    ax.add_patch(frame)
    ax.text(
        -2.05,
        3.0,
        "one layer,\nrepeated",
        ha="right",
        va="center",
        fontsize=9,
        color=GREY,
    )
    arrow = {
        "arrowstyle": "-|>",
        "color": GREY,
        "linewidth": 1.1,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ys = [-0.95, 0.0, 1.25, 2.25, 3.6, 4.6, 5.95, 6.95]
    for low, high in pairwise(ys):
        start = low + (HEIGHT / 2 if low > -0.9 else 0)
        ax.annotate("", (0, high - HEIGHT / 2), (0, start), arrowprops=arrow)
    # residual connections pass the parts by
    for bottom, top in (
        (0.75, 2.93),
        (3.1, 5.2),
    ):
        ax.plot(
            [0, -1.65, -1.65, 0],
            [bottom, bottom, top, top],
            color=color,
            lw=width + 0.1,
        )
        ax.text(
            0,
            top,
            "+",
            ha="center",
            va="center",
            fontsize=11,
            bbox={"boxstyle": "circle,pad=0.1", "fc": "white", "ec": color},
        )
    for y, target in ((2.25, 1.3), (6.95, None)):
        tail, head = (
            ((3.1 - 1.3, y), (target, y)) if target else ((1.3, y), (3.1 - 1.3, y))
        )
        ax.annotate("", head, tail, arrowprops=arrow)
