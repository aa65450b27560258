"""The still pictures of notebook 06's widgets: memory of several models, slots of a
cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

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
    """Weights and cache of each model, (GB, GB), as two bars on a log axis; a dashed
    line is the memory of a card."""
    fig, ax = subplots(width=8.0, height=0.75 * len(gigabytes) + 1.4)
    rows = np.arange(len(gigabytes))
    pairs = np.array(list(gigabytes.values()))  # [models, 2]
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    beside = {"textcoords": "offset points", "va": "center", "fontsize": 9, "bbox": box}
    for i, (label, color) in enumerate((("weights", GREY), ("cache", ORANGE))):
        y = rows + 0.36 * i - 0.18
        ax.barh(y, pairs[:, i], height=0.34, color=color, label=label)
        for place, value in zip(y, pairs[:, i], strict=True):
            ax.annotate(f"{value:.3g} GB", (value, place), (4, 0), **beside)
    for limit in limits:
        ax.axvline(limit, color="black", linestyle="--", linewidth=1)
        ax.text(limit, -0.55, f"{limit:g} GB", ha="center", va="bottom", fontsize=9)
    ax.set_yticks(rows, list(gigabytes))
    ax.set(xscale="log", xlim=(1e-3, 1e4), xlabel="GB")
    ax.set_ylim(len(rows) - 0.5, -0.6)
    ax.set_title(title, pad=16)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def slots(texts: Sequence[str], kinds: Sequence[str]) -> Figure:
    """The slots of one layer's cache in order: the token of each, coloured by kind."""
    fig, ax = subplots(height=1.7)
    for x, (name, kind) in enumerate(zip(token_names(texts), kinds, strict=True)):
        ax.bar(x, 1, 0.9, color=KINDS[kind], edgecolor=GREY)
        ax.text(x, 0.5, name, ha="center", va="center", rotation=90, fontsize=9)
    ax.set(xlabel="slot", yticks=[], ylim=(0, 1.05), xlim=(-0.6, len(texts) - 0.4))
    ax.set_xticks(range(0, len(texts), 2))
    for side in ("left", "top", "right"):
        ax.spines[side].set_visible(False)
    handles = [
        Patch(facecolor=color, edgecolor=GREY, label=kind)
        for kind, color in KINDS.items()
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(KINDS))
    return fig
