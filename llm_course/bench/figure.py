"""The results of a run as a figure."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from llm_course.bench.results import (
    CACHED,
    LLAMA,
    NATIVE,
    REFERENCE,
    CaseResult,
    Results,
    column,
    shares,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = (  # as many as can be told apart
    CACHED,
    *(NATIVE[kind] for kind in ("float32", "int8", "q4_1")),
    REFERENCE,
    LLAMA["F32"],
)


def figure(results: Results) -> Figure:
    """Both phases relative to `transformers` (to our plain cache where that is not
    there), and the share of the memory's bandwidth in decode. Small dots are rounds,
    large ones their medians.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    from llm_course.viz.style import BLUE, GREEN, GREY, ORANGE, RED, SKY, subplots

    palette = zip(SHOWN, (RED, BLUE, GREEN, SKY, GREY, ORANGE), strict=True)
    there = {name for case in results.cases for name in case.timings}
    colors = {name: color for name, color in palette if name in there}
    base = REFERENCE if REFERENCE in colors else CACHED
    fig, axes = subplots(
        1, 3, width=11.0, height=1.6 + 0.55 * len(results.cases), sharey=True
    )
    for y, case in enumerate(results.cases):
        names = [name for name in colors if name in case.timings]
        for i, name in enumerate(names):
            where = y + 0.14 * (i - (len(names) - 1) / 2)
            for ax, values in zip(axes, panels(case, name, base, results), strict=True):
                style = {"color": colors[name], "clip_on": False}
                heights = [where] * len(values)
                ax.plot(values, heights, "o", markersize=2.5, alpha=0.4, **style)
                ax.plot([median(values)], [where], "o", markersize=6, **style)
    for ax in axes[:2]:
        ax.set(xscale="log", xlabel=f"times as fast as {base} (log scale)")
        ax.axvline(1.0, color=colors[base], linewidth=1, zorder=0)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0].set_title("to the first token")
    axes[1].set_title("each token after it")
    axes[2].set(title="weights read", xlabel="share of the memory's bandwidth")
    axes[2].set_xlim(left=0)
    axes[0].set_yticks(range(len(results.cases)))
    axes[0].set_yticklabels(
        [f"prompt {c.prompt}\nbatch {c.batch}" for c in results.cases]
    )
    axes[0].invert_yaxis()
    handles = [axes[0].plot([], [], "o", color=color)[0] for color in colors.values()]
    fig.legend(handles, list(colors), loc="outside lower center", ncols=len(colors))
    return fig


def panels(
    case: CaseResult, name: str, base: str, results: Results
) -> list[list[float]]:
    """What the three panels show of one contestant in one case, a value a round."""
    first, later = (
        [
            b / a
            for a, b in zip(column(case, name, p), column(case, base, p), strict=True)
        ]
        for p in ("first", "later")
    )
    return [first, later, shares(case, name, results.read[name])]
