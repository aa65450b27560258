"""Figures of notebook 05: next-token distributions, filters, draws, batches, and the
cost of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from llm_course.viz.decoder import label
from llm_course.viz.labels import plain, token_names
from llm_course.viz.style import BLUE, CYCLE, GREY, ORANGE, RED, SKY, numpy, subplots
from llm_course.viz.style import (
    lines as lines,  # for the notebook, beside the figures here
)

PALE = "#B8B8B8"
LEAST = 1e-5  # the bottom of a log axis of probabilities
# What a cell of `batch_grid` can be: colour of the cell, colour of its text.
KINDS = {
    "pad": ("#EFEFEF", GREY),
    "prompt": (SKY, "black"),
    "generated": (ORANGE, "black"),
    "end": (RED, "white"),
}


def next_token_bars(
    panels: Mapping[str, Tensor],
    tokens: Callable[[list[int]], list[str]],
    top: int = 15,
) -> Figure:
    """The `top` most probable next tokens, one panel a prompt.

    panels: title -> probabilities [V]; tokens: ids -> labels, as `tokenizer.tokens`.
    The panels share the horizontal axis; each says how much probability all other
    tokens hold together.
    """
    fig, axes = subplots(
        1, len(panels), width=9.5, height=0.22 * top + 1.0, squeeze=False
    )
    for ax, (title, probs) in zip(axes[0], panels.items(), strict=True):
        order = probs.argsort(descending=True)[:top].tolist()
        values = numpy(probs[order])
        ax.barh(range(top), values, color=BLUE)
        for row, p in enumerate(values):
            ax.text(p + 0.01, row, f"{p:.1%}", va="center", fontsize=8)
        _token_axis(ax, tokens(order))
        ax.set(xlabel="probability", title=plain(title), xlim=(0, 1))
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        rest = f"the other {len(probs) - top:,} tokens: {1 - values.sum():.0%}"
        ax.text(0.97, 0.05, rest, transform=ax.transAxes, ha="right", color=GREY)
    return fig


def filter_bars(
    before: Tensor,
    after: Mapping[str, Tensor],
    tokens: Callable[[list[int]], list[str]],
    top: int = 20,
) -> Figure:
    """What each filter makes of one distribution, for its `top` most probable tokens.

    before [V]: the probabilities at temperature 1, drawn as outlines; after: title ->
    probabilities [V]. Tokens that a filter removed (probability 0) are grey, kept ones
    blue at their new height. Above each panel stands how many tokens of the whole
    vocabulary are left, below the bars what all the tokens hold that are not drawn,
    before and after.
    """
    order = before.argsort(descending=True)[:top].tolist()
    width = 9.5 if len(after) > 1 else 6.4
    fig, axes = subplots(
        1, len(after), width=width, height=0.215 * top + 1.3, sharey=True, squeeze=False
    )
    old, rows = numpy(before[order]), np.arange(top)
    longest = max(float(p.max()) for p in (before, *after.values()))
    for ax, (title, probs) in zip(axes[0], after.items(), strict=True):
        new = numpy(probs[order])
        ax.barh(rows[new == 0], old[new == 0], color=PALE)
        ax.barh(rows, new, color=BLUE)
        ax.barh(rows, old, facecolor="none", edgecolor="black", linewidth=0.7)
        ax.set(
            title=f"{title}\ntokens left: {int((probs > 0).sum()):,}",
            xlabel="probability",
        )
        ax.set_xlim(0, 1.08 * longest)
        others = f"{_share_beside(before, order)} → {_share_beside(probs, order)}"
        ax.text(0.04 * longest, top, others, va="center", weight="bold")
    _token_axis(axes[0, 0], tokens(order))
    axes[0, 0].set_yticks(range(top + 1), [*map(label, tokens(order)), "all others"])
    axes[0, 0].set_ylim(top + 0.6, -0.6)
    handles = [
        Patch(facecolor=BLUE, label="kept, at its new probability"),
        Patch(facecolor=PALE, edgecolor="black", linewidth=0.7, label="removed"),
        Patch(facecolor="none", edgecolor="black", linewidth=0.7, label="before"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def _share_beside(probs: Tensor, drawn: list[int]) -> str:
    """What all tokens hold but those drawn, in percent."""
    return f"{max(0.0, 1 - numpy(probs[drawn]).sum(dtype=np.float64)):.0%}"


def temperature_curves(
    temperatures: Tensor,
    probs: Tensor,
    entropy: Tensor,
    ceiling: float,
    labels: Sequence[str],
) -> Figure:
    """Probabilities of a few tokens, and the entropy of all, against temperature.

    Temperatures and probabilities stand on log axes; below `LEAST` a probability is not
    shown. temperatures [N], probs [N, M] for the M labels, entropy [N] in nats;
    ceiling: the entropy of a uniform choice from the vocabulary. Dotted lines mark T =
    1 and T = 2.
    """
    fig, (left, right) = subplots(1, 2, width=9.5, height=3.3)
    for values, token, color in zip(numpy(probs).T, labels, CYCLE, strict=False):
        left.plot(numpy(temperatures), values, color=color, label=label(token))
    left.set(ylabel="probability (log scale)", title="the leading tokens")
    left.set(yscale="log", ylim=(LEAST, 1.5))
    left.legend(title="token")
    right.plot(numpy(temperatures), numpy(entropy), color=BLUE)
    right.axhline(ceiling, color=GREY, linestyle="--", linewidth=1)
    right.text(0.06, ceiling - 0.2, "all tokens equally likely", va="top", color=GREY)
    right.set(ylabel="entropy (nats)", title="the whole distribution")
    for ax in (left, right):
        for marked in (1.0, 2.0):
            ax.axvline(marked, color=GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel="temperature T")
        ax.set_xticks(
            [0.05, 0.1, 0.3, 1, 2, 5, 10], ["0.05", "0.1", "0.3", "1", "2", "5", "10"]
        )
        ax.minorticks_off()
    return fig


def cumulative_mass(prompts: Mapping[str, Tensor], top_p: float, top_k: int) -> Figure:
    """Probability held by the n most probable tokens, against n: what top-p and top-k
    cut.

    prompts: title -> probabilities [V].
    """
    fig, ax = subplots(width=8.0, height=3.6)
    for (title, probs), color in zip(prompts.items(), (ORANGE, BLUE), strict=False):
        mass = np.cumsum(np.sort(numpy(probs))[::-1], dtype=np.float64)
        ranks = np.arange(1, len(mass) + 1)
        ax.plot(ranks, mass, color=color, label=plain(title))
        kept = int((mass < top_p).sum()) + 1
        ax.plot([kept, kept], [0, mass[kept - 1]], color=color, linestyle=":")
        ax.plot(kept, mass[kept - 1], "o", color=color)
        note = f"top-p keeps {kept}"
        side = (
            {"ha": "right", "xytext": (-5, 0)} if kept < top_k else {"xytext": (5, 0)}
        )
        ax.annotate(note, (kept, 0.05), textcoords="offset points", color=color, **side)
    ax.axhline(top_p, color=GREY, linewidth=0.8, linestyle="--")
    ax.text(1.0, top_p + 0.015, f"p = {top_p}", color=GREY)
    ax.axvline(top_k, color=GREY, linewidth=0.8, linestyle="--")
    ax.text(
        top_k * 0.94, 0.3, f"top-k, k = {top_k}", color=GREY, rotation=90, ha="right"
    )
    ax.set(xscale="log", ylim=(0, 1.03), xlabel="number of tokens, most probable first")
    ax.set_ylabel("probability they hold")
    ax.legend(loc="center right")
    return fig


def draws_against_exact(exact: Tensor, counts: Tensor, labels: Sequence[str]) -> Figure:
    """Frequencies of many draws beside the exact probabilities, with the error bars
    they should keep.

    exact [N] probabilities, counts [N] how often each was drawn, labels: one a token.
    Bars are exact, dots are measured; a bar's error bar is ± 2 sqrt(p (1 - p) / m) with
    m draws in all.
    """
    p, draws = numpy(exact), float(counts.sum())
    fig, ax = subplots(width=9.5, height=3.6)
    rows = np.arange(len(p))
    ax.bar(rows, p, color=SKY, width=0.7, label="exact probability")
    sigma = np.sqrt(p * (1 - p) / draws)
    ax.errorbar(
        rows,
        p,
        2 * sigma,
        fmt="none",
        color="black",
        capsize=4,
        label="expected spread, ± 2σ",
    )
    ax.plot(
        rows,
        numpy(counts) / draws,
        "o",
        color=RED,
        markersize=5,
        label=f"{draws:,.0f} draws",
    )
    ax.set_xticks(rows, [label(token) for token in labels], rotation=60, ha="right")
    ax.set_ylabel("probability, frequency")
    ax.legend()
    return fig


def batch_grid(
    labels: Sequence[Sequence[str]], kinds: Sequence[Sequence[str]], columns: int = 16
) -> Figure:
    """A batch as a table: one row a prompt, one cell a column, coloured by what stands
    there.

    labels and kinds: [B][S]; a kind is "pad", "prompt", "generated" or "end". The table
    goes on in a panel below after so many `columns`.
    """
    labels = [token_names(row) for row in labels]
    rows, length = len(labels), len(labels[0])
    panels = -(-length // columns)
    height = panels * (0.42 * rows + 0.55) + 0.4
    fig, axes = subplots(panels, 1, width=9.5, height=height, squeeze=False)
    for panel, ax in enumerate(axes[:, 0]):
        start, end = panel * columns, min((panel + 1) * columns, length)
        for y, x in product(range(rows), range(start, end)):
            face, color = KINDS[kinds[y][x]]
            ax.barh(y, 0.94, left=x - 0.47, height=0.9, color=face)
            text = "pad" if kinds[y][x] == "pad" else _cell_text(labels[y][x])
            ax.text(x, y, text, fontsize=8, color=color, ha="center", va="center")
        ax.set(xlim=(start - 0.5, start + columns - 0.5), ylim=(rows - 0.5, -0.5))
        ax.set_xticks(range(start, end))
        ax.set_yticks(range(rows), [f"row {i}" for i in range(rows)])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[-1, 0].set_xlabel("column")
    used = {kind for row in kinds for kind in row}
    handles = [
        Patch(facecolor=KINDS[kind][0], label=kind) for kind in KINDS if kind in used
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def _cell_text(token: str) -> str:
    """A token as it fits into a narrow cell: a special one, like <|im_end|>, on two
    lines."""
    text = plain(token).replace(" ", "␣")
    return text.replace("_", "_\n") if "<|" in token else text


def _token_axis(ax: Axes, labels: Sequence[str]) -> None:
    """Tokens from top to bottom, a space shown as ␣."""
    ax.set_yticks(range(len(labels)), [label(token) for token in labels])
    ax.set_ylim(len(labels) - 0.4, -0.6)
