"""Figures of notebook 01: scales of activations, RMSNorm's weight and epsilon, the gate
of the MLP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from llm_course.viz.labels import token_names
from llm_course.viz.style import BLUE, CYCLE, DIVERGING, GREY, ORANGE, numpy, subplots


def scale_by_layer(before: Tensor, after: Tensor, labels: Sequence[str]) -> Figure:
    """RMS of each token's vector at each layer, before the norm and after it.

    before, after: [layers, S] positive numbers; labels: one a token. Both panels share
    a log axis.
    """
    fig, axes = subplots(1, 2, width=9.5, height=3.4, sharey=True)
    for ax, values, title in zip(
        axes, (before, after), ("what enters the norm", "what comes out"), strict=True
    ):
        names = map(repr, token_names(labels))
        for token, (name, color) in enumerate(zip(names, CYCLE, strict=False)):
            line = numpy(values)[:, token]
            ax.plot(line, color=color, marker="o", markersize=2.5, label=name)
        ax.set(yscale="log", xlabel="layer of the norm", title=title)
        ax.tick_params(labelleft=True)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("RMS of the vector")
    axes[1].legend(title="token", loc="upper right")
    return fig


def depth_bands(stacks: Mapping[str, Sequence[Tensor]]) -> Figure:
    """Distribution of the entries' sizes by depth, a panel a stack: the median and the
    middle 90 %.

    stacks: title -> the vectors at each depth, of any shape. The panels share a log
    axis.
    """
    fig, axes = subplots(
        1, len(stacks), width=9.5, height=3.2, sharey=True, squeeze=False, sharex=True
    )
    for i, (ax, (title, steps)) in enumerate(zip(axes[0], stacks.items(), strict=True)):
        low, median, high = np.array(
            [np.quantile(np.abs(numpy(x)), (0.05, 0.5, 0.95)) for x in steps]
        ).T
        depth = np.arange(len(steps))
        ax.fill_between(depth, low, high, color=CYCLE[i], alpha=0.25, linewidth=0)
        ax.plot(depth, median, color=CYCLE[i])
        ax.set(yscale="log", xlabel="matrices", title=title)
    axes[0, 0].set_ylabel("size of an entry")
    return fig


def epsilon_knee(
    scales: Tensor,
    curves: Mapping[str, Tensor],
    real: Tensor,
    knees: Sequence[float] = (),
) -> Figure:
    """RMS of the output against RMS of the input, a curve an epsilon; `real` inputs as
    a band.

    scales [N] and curves' values [N] are RMS values; real: RMS values of the real
    model's inputs; knees: for each curve, the input where it has a dot.
    """
    fig, ax = subplots(width=7.5, height=3.6)
    for (label, values), color in zip(curves.items(), CYCLE, strict=False):
        style = "--" if "outside" in label else "-"
        ax.plot(numpy(scales), numpy(values), style, color=color, label=label)
    for knee, values, color in zip(knees, curves.values(), CYCLE, strict=False):
        ax.plot(knee, np.interp(knee, numpy(scales), numpy(values)), "o", color=color)
    low, high = numpy(real).min(), numpy(real).max()
    ax.axvspan(low, high, color=GREY, alpha=0.15, linewidth=0)
    ax.text(
        (low * high) ** 0.5,
        0.06,
        "SmolLM2's\ninputs",
        ha="center",
        fontsize=9,
    )
    ax.set(
        xscale="log",
        xlabel="RMS of the input",
        ylabel="RMS of the output",
        ylim=(0, 1.08),
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def norm_weights(relative: Tensor, typical: Tensor, marked: Sequence[int]) -> Figure:
    """Every norm vector of a model as a row, and below it the average over the rows.

    relative [norms, hidden], two norms a layer and the final one: |weight| over the
    row's median, red above 1 and blue below. typical [hidden]: the average of each
    column. The channels in `marked` are named.
    """
    fig, (top, bottom) = subplots(
        2,
        1,
        width=9.5,
        height=5.2,
        sharex=True,
        gridspec_kw={"height_ratios": [3, 1.6]},
    )
    values = np.log2(numpy(relative) + 2**-6)
    norms, hidden = values.shape
    box = (-0.5, hidden - 0.5, norms / 2, 0)  # a row is half a layer high
    image = top.imshow(
        values, aspect="auto", cmap=DIVERGING, vmin=-3, vmax=3, extent=box
    )
    top.set_ylabel("layer (two rows each)")
    layers = norms // 2
    fives = range(0, layers, 5)
    top.set_yticks([*fives, layers + 0.25], [*map(str, fives), "final"])
    # above the names of the channels
    top.set_title("|weight| / median of its row", pad=32)
    bar = fig.colorbar(image, ax=top, ticks=[-3, -2, -1, 0, 1, 2, 3])
    bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"])

    for channel in marked:
        name_place = (channel, -0.04 * norms)
        top.annotate(
            str(channel),
            (channel, 0),
            name_place,
            ha="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "black", "linewidth": 0.8},
        )
    average = numpy(typical)
    bottom.scatter(np.arange(len(average)), average, s=5, color=BLUE, linewidth=0)
    for channel in marked:
        bottom.scatter(channel, average[channel], s=24, color=ORANGE)
        bottom.annotate(
            str(channel),
            (channel, average[channel]),
            xytext=(0, 14 if average[channel] > 0.5 else 5),  # above the cloud
            textcoords="offset points",
            fontsize=9,
            ha="center",
        )
    bottom.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    bottom.set(yscale="log", xlabel="channel", ylabel="geom. mean", ylim=(0.05, 2))
    bottom.set_yticks([0.1, 1], ["1/10", "1"])
    return fig


def activation_and_gate(
    x: Tensor, curves: Mapping[str, Tensor], axis: Tensor, product: Tensor
) -> Figure:
    """Left: activation functions over x [N]. Right: SiLU(gate) * up over axis [M] both
    ways.

    curves: label -> [N]; product [M, M]: a row for each value of up, a column for each
    gate. The colours end where the left half does, or the dip below zero would not
    show; contour lines go on from there.
    """
    fig, (left, right) = subplots(1, 2, width=9.5, height=3.4)
    for (label, y), style in zip(curves.items(), ("-", "--", ":"), strict=False):
        left.plot(numpy(x), numpy(y), style, label=label)
    left.axhline(0, color=GREY, linewidth=0.8)
    left.set(xlabel="z", title="activations")
    left.legend(loc="upper left")
    values = numpy(product)
    limit = np.abs(values[:, numpy(axis) < 0]).max()
    extent = [float(axis[0]), float(axis[-1])] * 2
    shown = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit, "aspect": "auto"}
    image = right.imshow(values, origin="lower", extent=extent, **shown)
    levels = [-8, -4, -2, 2, 4, 8]
    contours = right.contour(
        numpy(axis), numpy(axis), values, levels, colors="white", linewidths=0.8
    )
    right.clabel(contours, fontsize=8)
    right.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    right.set(xlabel="gate", ylabel="up", title="SiLU(gate) × up")
    fig.colorbar(image, ax=right, extend="both")
    return fig


def gate_at_work(
    gates: Mapping[str, Tensor],
    shares: Mapping[str, Tensor],
    chance: Mapping[str, Tensor],
) -> Figure:
    """Left: where the gate's inputs fall, by layer. Right: how few neurons carry the
    output.

    gates: label -> values of any shape; shares: label -> [I], the cumulative share of
    the squared neurons, largest first, with a dot at 90 %; chance: the same for random
    neurons, drawn dotted in the colour of the label.
    """
    fig, (left, right) = subplots(1, 2, width=9.5, height=3.4)
    bins = np.linspace(-6, 6, 97)
    for (label, values), color in zip(gates.items(), CYCLE, strict=False):
        left.hist(
            numpy(values).ravel(),
            bins,
            density=True,
            histtype="step",
            color=color,
            label=label,
        )
    left.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    left.set(
        xlabel="gate (before SiLU)", ylabel="density", title="distribution of the gates"
    )
    left.legend()
    for (label, values), color in zip(shares.items(), CYCLE, strict=False):
        share, by_chance = numpy(values), numpy(chance[label])
        neurons = np.arange(1, len(share) + 1)
        right.plot(neurons, share, color=color, label=label)
        right.plot(neurons, by_chance, ":", color=color)
        enough = int((share < 0.9).sum())  # where the curve reaches 90 %
        right.scatter(enough + 1, share[enough], s=16, color=color)
    right.plot([], [], ":", color="black", label="by chance")
    right.axhline(0.9, color=GREY, linewidth=0.8)
    right.set(xscale="log", ylim=(0, 1.02))
    right.set(xlabel="neurons, largest first", ylabel="share of the sum of squares")
    right.set_title("how few neurons hold 90 % (grey line)")
    right.legend(loc="lower right")
    return fig
