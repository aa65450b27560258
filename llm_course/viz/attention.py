"""Figures of chapter 03: attention maps, all heads of a layer, who shares keys, the
sink, the scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import FancyBboxPatch, Rectangle

from llm_course.viz.labels import plain, token_names
from llm_course.viz.style import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    MASKED,
    ORANGE,
    RED,
    SEQUENTIAL,
    numpy,
    subplots,
)


def visible(token: str) -> str:
    """A token as an axis label: one line, and a mark where there would be nothing to
    see."""
    return token.replace("\n", "⏎").strip() or "␣"


def token_ticks(ax: Axes, columns: int, rows: int, tokens: Sequence[str]) -> None:
    """Tokens along both axes of a map: the first ones are the columns, the last ones
    the rows."""
    labels = [visible(name) for name in token_names(tokens)]
    ax.set_xticks(range(columns), labels[:columns], rotation=90)
    ax.set_yticks(range(rows), labels[-rows:])


def _heat(ax: Axes, values: Any, tokens: Sequence[str], **options: Any) -> AxesImage:
    """One map: rows are queries, columns are keys. Minus infinity is drawn grey."""
    values = numpy(values)
    shown = np.ma.masked_where(~np.isfinite(values), values)
    image = ax.imshow(shown, **options)
    ax.set_facecolor(MASKED)
    token_ticks(ax, values.shape[1], values.shape[0], tokens)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return image


def _weights(ax: Axes, weights: Any, tokens: Sequence[str]) -> AxesImage:
    """A map of weights [Q, K]. Grey is a key that comes after its query and has a
    weight of 0."""
    weights = numpy(weights)
    queries, keys = weights.shape
    removed = np.triu(weights == 0, k=1 + keys - queries)
    shown = np.where(removed, -np.inf, weights)
    return _heat(ax, shown, tokens, cmap=SEQUENTIAL, vmin=0, vmax=1)


def mask_stages(
    scores: Any, masked: Any, weights: Any, tokens: Sequence[str]
) -> Figure:
    """The same map three times, each [S, S]: scores, scores after the mask, weights
    after softmax.

    The two maps of scores share one scale, lowest to highest: only differences matter
    to a softmax. What the mask removed is grey.
    """
    scores, masked = numpy(scores), numpy(masked)
    finite = scores[np.isfinite(scores)]
    scale = {"cmap": SEQUENTIAL, "vmin": finite.min(), "vmax": finite.max()}
    fig, axes = subplots(1, 3, width=9.6, height=4.0, sharey=True)
    _heat(axes[0], scores, tokens, **scale)
    image = _heat(axes[1], masked, tokens, **scale)
    fig.colorbar(
        image, ax=axes[:2], location="bottom", shrink=0.5, label="score, q·k / √D"
    )
    image = _weights(axes[2], weights, tokens)
    fig.colorbar(image, ax=axes[2], location="bottom", shrink=0.9, label="weight")
    for ax, title in zip(
        axes, ("1  scores", "2  after the mask", "3  after softmax"), strict=True
    ):
        ax.set(title=title, xlabel="key: the token that is read")
    axes[0].set_ylabel("query: the token that reads")
    return fig


def attention_map(weights: Any, tokens: Sequence[str], title: str = "") -> Figure:
    """One head's weights [Q, K], with the larger ones written into their squares."""
    weights = numpy(weights)
    size = 2.2 + 0.34 * weights.shape[1]
    fig, ax = subplots(width=size + 0.9, height=size)
    image = _weights(ax, weights, tokens)
    fig.colorbar(image, ax=ax, shrink=0.8, label="weight")
    for i, j in np.argwhere(weights >= 0.1):
        color = "black" if weights[i, j] > 0.6 else "white"
        text = f"{weights[i, j]:.2f}".lstrip("0")
        ax.text(j, i, text, ha="center", va="center", fontsize=7.5, color=color)
    ax.set_title(plain(title))
    ax.set(xlabel="key: the token that is read", ylabel="query: the token that reads")
    return fig


def head_grid(
    weights: Any, tokens: Sequence[str], num_kv_heads: int, title: str = ""
) -> Figure:
    """All heads of one layer, weights [H, Q, K]: a row of the grid for each key/value
    head."""
    weights = numpy(weights)
    group = len(weights) // num_kv_heads
    height = 0.8 + 2.6 * num_kv_heads
    fig, axes = subplots(
        num_kv_heads,
        group,
        height=height,
        width=9.0,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for head, ax in enumerate(axes.flat):
        image = _weights(ax, weights[head], tokens)
        ax.set_title(f"query head {head}", fontsize=10)
        ax.tick_params(labelsize=8)
    for row, ax in enumerate(axes[:, 0]):
        ax.set_ylabel(
            f"K/V head {row}", color=CYCLE[row % len(CYCLE)], fontsize=12, weight="bold"
        )
    fig.colorbar(image, ax=axes, shrink=0.5, label="weight")
    if title:
        fig.suptitle(plain(title), fontsize=11)
    return fig


def sharing(kv_head_of: Sequence[int]) -> Figure:
    """Query heads above, K/V heads below, a line from each query head to the one it
    reads."""
    kv_heads = sorted(set(kv_head_of))
    fig, ax = subplots(height=2.3)
    middle = {
        kv: float(np.mean([h for h, g in enumerate(kv_head_of) if g == kv]))
        for kv in kv_heads
    }
    for head, kv in enumerate(kv_head_of):
        color = CYCLE[kv % len(CYCLE)]
        ax.plot([head, middle[kv]], [1, 0], color=color, linewidth=1.6, zorder=1)
        _box(ax, head, 1, f"q {head}", 0.66, color)
    for kv, x in middle.items():
        _box(ax, x, 0, f"k {kv}, v {kv}", 1.5, CYCLE[kv % len(CYCLE)])
    ax.text(-0.65, 1, "query heads", ha="right", va="center")
    ax.text(-0.65, 0, "K/V heads", ha="right", va="center")
    ax.set(xlim=(-2.3, len(kv_head_of) - 0.4), ylim=(-0.35, 1.35))
    ax.axis("off")
    return fig


def _box(ax: Axes, x: float, y: float, label: str, width: float, color: str) -> None:
    corner, style = (x - width / 2, y - 0.17), "round,pad=0,rounding_size=0.08"
    ax.add_patch(
        FancyBboxPatch(
            corner, width, 0.34, boxstyle=style, fc="white", ec=color, lw=1.6
        )
    )
    ax.text(x, y, label, ha="center", va="center", fontsize=9)


def cache_growth(
    tokens: Any, gigabytes: Mapping[str, Any], weights_gb: float
) -> Figure:
    """Size of the KV cache against the length of the text, one line for each
    `gigabytes` entry.

    A dashed level shows `weights_gb`, what all weights of the model take.
    """
    fig, ax = subplots(height=3.0)
    ends = {"ha": "left", "va": "center", "fontsize": 9}
    for (name, values), color in zip(
        gigabytes.items(), (RED, BLUE, GREEN), strict=False
    ):
        ax.plot(tokens, values, color=color)
        ax.text(
            tokens[-1] * 1.01,
            values[-1],
            f"{name}: {values[-1]:.2f} GB",
            color=color,
            **ends,
        )
    ax.hlines(weights_gb, 0, tokens[-1], color=GREY, linestyle="--", linewidth=1.2)
    label = f"weights of the model: {weights_gb:.2f} GB"
    ax.text(tokens[-1] * 1.01, weights_gb, label, color=GREY, **ends)
    ax.set(
        xlabel="tokens of context",
        ylabel="KV cache, GB",
        xlim=(0, tokens[-1] * 1.35),
        ylim=(0, None),
    )
    ax.set_xticks(list(range(0, int(tokens[-1]) + 1, 2048)))
    return fig


def scale_study(
    dims: Sequence[int],
    spread: Any,
    largest: Mapping[str, Any],
    slopes: Mapping[str, Any],
) -> Figure:
    """By head width: the standard deviation of q·k, the largest softmax weight, the sum
    of slopes."""
    fig, (left, middle, right) = subplots(1, 3, width=9.6, height=3.2)
    left.plot(dims, np.sqrt(dims), color=GREY, linestyle="--", label="√D")
    left.plot(dims, spread, "o", color=BLUE, label="measured")
    left.set(xscale="log", yscale="log", title="standard deviation of q·k")
    left.set_yticks(np.sqrt(dims), [f"{np.sqrt(d):g}" for d in dims])
    titles = "largest weight (mean)", "sum of the slopes (mean)"
    for ax, curves, title in zip(
        (middle, right), (largest, slopes), titles, strict=True
    ):
        for (name, values), color in zip(curves.items(), (RED, BLUE), strict=True):
            ax.plot(dims, values, "o-", color=color, label=name)
        ax.set(xscale="log", ylim=(0, 1.05), title=title)
    for ax in (left, middle, right):
        ax.set_xticks(dims, [str(d) for d in dims])
        ax.minorticks_off()
        ax.set_xlabel("head width D")
    left.legend()
    middle.legend(loc="center right")
    right.legend(loc="center right")
    return fig


def sink_by_layer(
    sink: Any, share: Any, even: float, value_ratio: Any, marked: Sequence[int] = ()
) -> Figure:
    """The first token, layer by layer. Above: the weight it draws, `sink` [L, H], one
    dot a head.

    `share` [L, H] is its share of the lengths that are added up. `even` is the weight
    that it would draw if every query spread its weight evenly. Below: the length of its
    value vector against the mean of the other tokens', `value_ratio` [L]. The layers
    `marked` stand on grey.
    """
    sink, share, value_ratio = numpy(sink), numpy(share), numpy(value_ratio)
    layers = np.arange(len(sink))
    fig, (top, bottom) = subplots(
        2, 1, height=5.0, sharex=True, gridspec_kw={"height_ratios": [1.5, 1]}
    )
    dots = {"s": 14, "color": GREY, "alpha": 0.6, "linewidths": 0}
    top.scatter(
        np.repeat(layers, sink.shape[1]), sink.ravel(), label="weight, one head", **dots
    )
    top.plot(
        layers,
        sink.mean(axis=1),
        color="black",
        linewidth=2,
        label="weight, mean of the layer",
    )
    top.plot(
        layers,
        share.mean(axis=1),
        color=GREEN,
        linewidth=2,
        label="share of what is added",
    )
    top.axhline(
        even, color=BLUE, linestyle="--", linewidth=1.2, label="weight if spread evenly"
    )
    top.set(ylim=(0, 1.02), ylabel="token 0")
    bottom.bar(layers, value_ratio, color=ORANGE)
    bottom.axhline(
        1, color=GREY, linestyle="--", linewidth=1.2, label="as long as the others'"
    )
    for ax in (top, bottom):
        for layer in marked:
            ax.axvspan(
                layer - 0.5, layer + 0.5, color=MASKED, alpha=0.6, zorder=0, linewidth=0
            )
    bottom.set_xticks(sorted({*range(0, len(sink) - 1, 5), len(sink) - 1, *marked}))
    bottom.set(
        xlabel="layer",
        ylabel="length of v, token 0\n÷ other tokens",
        xlim=(-0.7, len(sink)),
    )
    bottom.legend(loc="upper right")
    top.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, columnspacing=1.2)
    return fig


def alignments(masks: Mapping[str, Any]) -> Figure:
    """Boolean masks [Q, K] side by side: blue squares may be read, white ones may
    not; the frames are the queries' own keys."""
    fig, axes = subplots(1, len(masks), height=2.1, width=8.0, squeeze=False)
    for ax, (title, mask) in zip(axes.flat, masks.items(), strict=True):
        mask = numpy(mask).astype(bool)
        ax.pcolormesh(
            mask, cmap="Blues", vmin=0, vmax=1.4, edgecolors=GREY, linewidth=0.8
        )
        queries, keys = mask.shape
        for i in range(queries):
            corner = (keys - queries + i + 0.07, i + 0.07)
            ax.add_patch(Rectangle(corner, 0.86, 0.86, fill=False, ec=ORANGE, lw=3))
        ax.set_xticks(np.arange(keys) + 0.5, [f"k{j}" for j in range(keys)])
        ax.set_yticks(
            np.arange(queries) + 0.5, [f"q{keys - queries + i}" for i in range(queries)]
        )
        ax.invert_yaxis()
        ax.set(title=title, aspect="equal", xlabel="blue: may read")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return fig
