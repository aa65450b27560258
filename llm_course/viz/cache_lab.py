"""The still pictures of notebook 06's widgets: memory of several models, slots of a
cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from llm_course.viz.decoder import label
from llm_course.viz.labels import token_names
from llm_course.viz.style import BLUE, GREEN, GREY, ORANGE, subplots

KINDS = {  # what a slot holds: its colour
    "prompt": BLUE,
    "new": ORANGE,
    "reused": GREEN,
    "truncated": "#D9D9D9",
    "free": "none",
}


def memory_bars(
    gigabytes: Mapping[str, tuple[float, float]],
    title: str,
    limits: Sequence[float] = (24, 80),
) -> Figure:
    """Weights and cache of each model, (GB, GB), one behind the other; a dashed line is
    the memory of a graphics card."""
    fig, ax = subplots(width=8.0, height=0.5 * len(gigabytes) + 1.6)
    rows = np.arange(len(gigabytes))
    pairs = np.array(list(gigabytes.values()))  # [models, 2]
    longest = max(*limits, *pairs.sum(axis=1))
    for i, (part, color) in enumerate((("weights", GREY), ("cache", ORANGE))):
        left = pairs[:, :i].sum(axis=1)
        ax.barh(
            rows, pairs[:, i], left=left, height=0.6, color=color, ec=color, label=part
        )
    for row, (weights, cache) in zip(rows, pairs, strict=True):
        text = f" {weights:.3g} + {cache:.3g} = {weights + cache:.3g} GB"
        end = weights + cache
        # past a dashed line that the text would cross
        end = max([end, *(x for x in limits if end < x < end + 0.35 * longest)])
        ax.text(end, row, text, va="center", fontsize=9)
    for limit in limits:
        ax.axvline(limit, color="black", linestyle="--", linewidth=1)
        ax.text(limit, -0.65, f"{limit:g} GB", ha="center", va="bottom", fontsize=9)
    ax.set_yticks(rows, list(gigabytes))
    ax.set(xlim=(0, 1.4 * longest), xlabel="GB")
    ax.set_ylim(len(rows) - 0.5, -0.6)
    ax.set_title(title, pad=20)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def slots(texts: Sequence[str], kinds: Sequence[str]) -> Figure:
    """The slots of one layer's cache in order: the token of each, coloured by kind."""
    fig, ax = subplots(height=1.7)
    for x, (name, kind) in enumerate(zip(token_names(texts), kinds, strict=True)):
        ax.bar(x, 1, 0.9, color=KINDS[kind], edgecolor=GREY)
        color = "white" if kind in ("prompt", "reused") else "black"
        turned = 90 if len(texts) > 12 else 0
        look = {"ha": "center", "va": "center", "rotation": turned, "color": color}
        ax.text(x, 0.5, label(name), fontsize=9, **look)
    ax.set(xlabel="slot", yticks=[], ylim=(0, 1.05), xlim=(-0.6, len(texts) - 0.4))
    ax.set_xticks(range(0, len(texts), 1 if len(texts) <= 16 else 2))
    for side in ("left", "top", "right"):
        ax.spines[side].set_visible(False)
    handles = [
        Patch(facecolor=color, edgecolor=GREY, label=kind)
        for kind, color in KINDS.items()
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(KINDS))
    return fig
