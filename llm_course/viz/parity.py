"""The parity dashboard of notebook 04: how far each part of a model is from the
reference.

The record is tests/data/parity_by_layer.json. Its "prompts" hold the largest error of
every part, taken over the whole output. Its "sample" holds, for each part, some entries
of the reference's output, and for each position the largest magnitude there: with it
any model can be compared, without the reference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from llm_course.viz.style import GREY, numpy, subplots

THRESHOLD = 1e-5  # what float32 may differ by, relative to the largest entry
FLOOR, TOP = 1e-8, 1.0  # the ends of the colour scale
WITHIN = 1e-7  # errors within the threshold are drawn as this one
# The parts of a layer in the order of the computation, and how a column calls them.
COLUMNS = {
    "input_layernorm": "norm 1",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn": "attention",
    "post_attention_layernorm": "norm 2",
    "mlp": "MLP",
    "": "layer",
}


def errors(recorded: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, float]:
    """The largest error of each part, relative to the largest entry at its position.

    recorded: {"places": {width: [[position, channel], …]}, "parts": {name: {"scale",
    "values"}}}, the names in the order of the computation. outputs: name -> [S, width].
    A NaN counts as infinite.
    """
    found = {}
    for name, part in recorded["parts"].items():
        output = numpy(outputs[name])
        positions, channels = np.array(recorded["places"][str(output.shape[-1])]).T
        scale = np.array(part["scale"])[positions]
        off = np.abs(output[positions, channels] - np.array(part["values"])) / scale
        found[name] = float(np.nan_to_num(off, nan=np.inf).max())
    return found


def recorded_errors(prompts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The errors that were recorded, relative to the largest entry of the part: the
    worst prompt's."""
    worst: dict[str, float] = {}
    for prompt in prompts:
        parts = {"embed_tokens": prompt["embedding"]}
        for n in range(len(prompt["layers"]["layer"])):
            pairs = zip(COLUMNS, prompt["layers"].values(), strict=True)
            parts |= {_name(n, part): values[n] for part, values in pairs}
        parts |= {"norm": prompt["norm"], "lm_head": prompt["logits"]}
        for name, (off, largest) in parts.items():
            worst[name] = max(worst.get(name, 0.0), off / largest)
    return worst


def _name(layer: int, part: str) -> str:
    return f"layers.{layer}.{part}".rstrip(".")


def first_off(found: Mapping[str, float], threshold: float = THRESHOLD) -> str | None:
    """The first part, in the order of the computation, whose error is above the
    threshold."""
    return next((name for name, error in found.items() if error > threshold), None)


def grid(found: Mapping[str, float]) -> np.ndarray:
    """The errors as the dashboard shows them: [layers + 3, parts of a layer].

    The first row is the embedding, the last two are the final norm and the logits.
    """
    layers = (len(found) - 3) // len(COLUMNS)
    names = [[_name(n, part) for part in COLUMNS] for n in range(layers)]
    ends = [[name] * len(COLUMNS) for name in ("embed_tokens", "norm", "lm_head")]
    return np.array(
        [[found[name] for name in row] for row in [ends[0], *names, *ends[1:]]]
    )


def _scale(threshold: float) -> tuple[LinearSegmentedColormap, Normalize]:
    """Colours by the logarithm of the error: pale blue up to the threshold, yellow to
    red above."""
    low, high = np.log10(FLOOR), np.log10(TOP)
    edge = (np.log10(threshold) - low) / (high - low)
    colors = [(0.0, "#F7FBFF"), (edge, "#B5D4EA"), (edge, "#FFE38A"), (0.8, "#E8742A")]
    return LinearSegmentedColormap.from_list(
        "parity", [*colors, (1.0, "#7A1010")]
    ), Normalize(low, high)


def dashboard(
    models: Mapping[str, Mapping[str, float]],
    threshold: float = THRESHOLD,
    width: float = 9.0,
    recorded: Collection[str] = (),
) -> Figure:
    """One panel a model, title -> errors: a row for each layer, a column for each part
    of it.

    Read the rows from top to bottom, and each from left to right: that is the
    computation. Rounding is another on every processor, so errors within the threshold
    are drawn alike, except in the panels `recorded`, whose numbers stand in a file.
    """
    fig, axes = subplots(
        1,
        len(models),
        width=width,
        height=5.6,
        sharey=True,
        squeeze=False,
        gridspec_kw={"wspace": 0.06},
    )
    colors, norm = _scale(threshold)
    for ax, (title, found) in zip(axes[0], models.items(), strict=True):
        values = grid(found)
        if title not in recorded:
            values = np.where(values > threshold, values, WITHIN)
        logs = np.log10(np.clip(values, FLOOR, TOP))
        image = ax.imshow(logs, cmap=colors, norm=norm, aspect="auto")
        rows, cols = values.shape
        for line in (0.5, rows - 2.5, rows - 1.5):
            ax.axhline(line, color=GREY, linewidth=0.8)
        ax.set_xticks(
            range(cols), list(COLUMNS.values()), rotation=60, ha="left", va="bottom"
        )
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.set_title(title)
        for side in ax.spines.values():
            side.set_visible(True)
    last = rows - 4  # the number of the last layer
    shown = [n for n in range(rows - 3) if n % 5 == 0 or n == last]
    numbers = [f"layer {n}" if n in shown else "" for n in range(rows - 3)]
    axes[0, 0].set_yticks(
        range(rows), ["embedding", *numbers, "final norm", "logits"], fontsize=8
    )
    bar = fig.colorbar(
        image, ax=axes[0].tolist(), label="largest error, relative to the largest entry"
    )
    ticks = np.arange(np.log10(FLOOR), np.log10(TOP) + 1)
    bar.set_ticks(ticks.tolist(), labels=[f"1e{int(t)}" if t else "1" for t in ticks])
    bar.ax.axhline(np.log10(threshold), color="black", linewidth=1.5)
    if set(models) - set(recorded):
        tint = colors(norm(np.log10(WITHIN)))
        label = f"within {threshold:.0e}, not graded".replace("e-0", "e-")
        if recorded:
            label = f"on the right: {label}"
        fig.legend(
            handles=[Patch(facecolor=tint, edgecolor=GREY, label=label)],
            loc="outside lower right",
        )
    return fig
