"""Figures of notebook 04: the residual stream, masks, the logit lens, parameters by
part.

Each function takes arrays or tensors and returns a Figure. What is drawn is what is
passed in, except where a docstring says otherwise, so a test of the arrays is a test of
the figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from llm_course.viz.labels import plain, token_names
from llm_course.viz.style import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SEQUENTIAL,
    SKY,
    Powers,
    numpy,
    subplots,
)

PART_COLORS = {
    "embedding": BLUE,
    "attention": ORANGE,
    "MLP": GREEN,
    "norms": GREY,
    "output head": PURPLE,
}


PALE = "#D9D9D9"
SIGNS = {",": "comma", ".": "dot", "-": "dash", " ": "space"}


def label(token: str, width: int = 12) -> str:
    """A token as a tick label: spaces shown as ␣, long names cut, a mark for
    what no font has."""
    text = plain(token).replace(" ", "␣")
    if len(token) == 1 and not token.isalnum():
        # a lone comma would be overlooked
        text = f"“{text}” {SIGNS.get(token, '')}".rstrip()
    return text if len(text) <= width else text[: width - 1] + "…"


def next_words(tokens: Sequence[str], probs: object, prompt: str) -> Figure:
    """The likeliest next tokens, best on top. probs [n], in the order of the tokens."""
    probs = numpy(probs)
    fig, ax = subplots(width=7.0, height=0.9 + 0.27 * len(tokens))
    rows = np.arange(len(tokens))
    ax.barh(rows, probs, color=[ORANGE] + [BLUE] * (len(tokens) - 1))
    for row, p in zip(rows, probs, strict=True):
        ax.text(p + 0.01, row, f"{p:.3f}", va="center", fontsize=9)
    ax.set_yticks(rows, [label(token) for token in tokens])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="probability", title=f"After “{plain(prompt)}”")
    return fig


def _mark_layers(ax: Axes, count: int) -> np.ndarray:
    """Label the x axis "after layer …", with the embedding at −1; return the count x
    positions."""
    ticks = [-1, *range(5, count - 1, 5), count - 2]
    ax.set_xticks(ticks, ["emb.", *(str(n) for n in ticks[1:])])
    ax.set_xlabel("after layer")
    return np.arange(-1, count - 1)


def stream_norms(norms: object, tokens: Sequence[str]) -> Figure:
    """Length of the residual stream's vectors. norms [layers + 1, S]: after the
    embedding, layer 0, …"""
    norms = numpy(norms)
    fig, ax = subplots(width=8.0, height=3.6)
    shades = [ORANGE, BLUE, SKY, GREEN, PURPLE, GREY]
    x = _mark_layers(ax, len(norms))
    for s, token in enumerate(token_names(tokens)):
        ax.plot(
            x, norms[:, s], color=shades[min(s, 5)], linewidth=2.4 if s == 0 else 1.3
        )
        ax.plot([], [], color=shades[min(s, 5)], label=f"{s}: {label(token)}")
    ax.set(yscale="log", ylabel="norm of the vector", title="The residual stream grows")
    ax.legend(title="position: token", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def additions(attention: object, mlp: object) -> Figure:
    """How long each addition is, relative to the stream it is added to. Both
    [layers]."""
    fig, ax = subplots(width=8.0, height=3.2)
    layers = np.arange(len(numpy(attention)))
    ax.plot(
        layers,
        numpy(attention),
        "o-",
        color=ORANGE,
        markersize=4,
        label="attention adds",
    )
    ax.plot(layers, numpy(mlp), "s-", color=GREEN, markersize=4, label="MLP adds")
    for ratio, text in ((1.0, "as long as the stream itself"), (0.5, "half as long")):
        ax.axhline(ratio, color=GREY, linestyle=":", linewidth=1)
        ax.text(14.5, 1.1 * ratio, text, ha="center", fontsize=9, color=GREY)
    ax.set(
        yscale="log",
        xlabel="layer",
        ylabel="‖addition‖ / ‖stream‖,\nmean of positions 1–4",
    )
    ax.set(title="The first MLP replaces the stream, later parts add a fraction")
    ax.legend()
    return fig


def channel_writes(added: object, channel: int) -> Figure:
    """What each layer adds to one channel of the first token. added [layers],
    signed."""
    added = numpy(added)
    fig, axes = subplots(2, 1, width=8.0, height=4.4, sharex=True)
    axes[0].bar(np.arange(len(added)), added, color=GREY)
    axes[0].axhline(0, color=GREY, linewidth=0.8)
    title = (
        f"Channel {channel} of the first token: written by layer {added.argmax()},"
        f" removed most by layer {added.argmin()}"
    )
    axes[0].set(ylabel="added by the layer", title=title)
    axes[1].step(np.arange(len(added)), added.cumsum(), where="mid", color=RED)
    axes[1].set(xlabel="layer", ylabel="total so far")
    return fig


def masks(real: object, causal: object, both: object) -> Figure:
    """Three boolean masks [Q, K] side by side: blue where the condition holds.

    Keys that `real` forbids are grey, those that only causality forbids are white.
    """
    fig, axes = subplots(1, 3, width=8.0, height=3.4)
    titles = ("key is a real token", "and key is not later", "= may attend")
    for ax, mask, title in zip(axes, (real, causal, both), titles, strict=True):
        mask = numpy(mask).astype(float)
        ax.imshow(mask, cmap=ListedColormap(["white", BLUE]), vmin=0, vmax=1)
        ax.set_xticks(np.arange(mask.shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(mask.shape[0] + 1) - 0.5, minor=True)
        ax.grid(which="minor", color=GREY, linewidth=0.6)
        ax.tick_params(which="minor", length=0)
        ax.set(
            xticks=range(0, mask.shape[1], 4),
            yticks=range(0, mask.shape[0], 4),
            title=title,
        )
        ax.set(xlabel="key column")
    padding = ~numpy(real).astype(bool)  # [Q, K]
    for ax in (axes[0], axes[2]):
        ax.imshow(np.ma.masked_where(~padding, padding), cmap=ListedColormap([PALE]))
    axes[0].set_ylabel("query row")
    key = {"condition holds": BLUE, "key is padding": PALE, "key comes later": "white"}
    patches = [Patch(facecolor=c, edgecolor=GREY, label=k) for k, c in key.items()]
    fig.legend(handles=patches, loc="outside lower center", ncols=len(key))
    return fig


def influence(change: object, tokens: Sequence[str]) -> Figure:
    """change [S, S]: row j, column i = how far logits at i move when token j is
    replaced. 0 is white."""
    change = numpy(change)
    size = len(tokens)
    fig, ax = subplots(width=6.4, height=4.6)
    seen = np.ma.masked_less(change, 1e-3)
    image = ax.imshow(
        seen, cmap=SEQUENTIAL, norm=LogNorm(vmin=1.0, vmax=float(change.max()))
    )
    for j, i in np.argwhere(~np.ma.getmaskarray(seen)):
        dark = seen.data[j, i] < 8
        text = f"{change[j, i]:.0f}"
        ax.text(
            i,
            j,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color="white" if dark else "k",
        )
    names = [label(name) for name in token_names(tokens)]
    ax.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), names)
    ax.set(xlabel="logits after this token …", ylabel="… when this token is replaced")
    ax.set_title("Largest change of a logit (white: none)")
    fig.colorbar(image, ax=ax, shrink=0.8, format=Powers())
    return fig


def parameter_bars(models: Mapping[str, Mapping[str, int]]) -> Figure:
    """Shares of the parameters by part, one bar a model. models: name -> {part:
    count}."""
    fig, ax = subplots(width=9.0, height=1.1 + 0.9 * len(models))
    names = list(models)
    for row, name in enumerate(names):
        total, left = sum(models[name].values()), 0.0
        for part, count in models[name].items():
            share = count / total
            ax.barh(
                row,
                share,
                left=left,
                color=PART_COLORS[part],
                height=0.62,
                edgecolor="white",
            )
            if share > 0.05:
                text = f"{_rounded(count)}\n{share:.0%}"
                look = {
                    "color": "white" if part in ("embedding", "MLP") else "black",
                    "fontsize": 9,
                }
                ax.text(left + share / 2, row, text, ha="center", va="center", **look)
            left += share
    for part, color in PART_COLORS.items():
        shares = [m[part] / sum(m.values()) for m in models.values() if part in m]
        thin = " (too few to see)" if shares and max(shares) < 0.002 else ""
        ax.barh(0, 0, color=color, label=part + thin)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(
        xlim=(0, 1), xlabel="share of all parameters", title="Where the parameters are"
    )
    ax.legend(
        ncols=len(PART_COLORS),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.64 / len(models)),
    )
    return fig


def _rounded(count: int) -> str:
    """In millions or billions: 8.2 M, 28.3 M, 525 M, 56.4 B."""
    unit, size = ("B", 1e9) if count >= 1e9 else ("M", 1e6)
    digits = 1 if count < 100 * size else 0
    return f"{count / size:.{digits}f} {unit}"


def lens_curves(ranks: Mapping[str, object], probs: Mapping[str, object]) -> Figure:
    """Rank (1 is first) and probability of a token after each layer, one line for each
    name "text → token".

    A token has one colour. The lines after the third are dashed, with hollow markers:
    controls.
    """
    fig, axes = subplots(1, 2, width=9.0, height=3.2 + 0.1 * len(ranks))
    tokens = list(dict.fromkeys(name.split("→")[-1] for name in ranks))
    styles = ("o-", "s-", "^-", "d--", "v--", "x--")
    for n, name in enumerate(ranks):
        color = CYCLE[tokens.index(name.split("→")[-1])]
        look = {
            "color": color,
            "markersize": 3.5,
            "linewidth": 1.3,
            "label": plain(name),
        }
        look |= {"markerfacecolor": "white" if n > 2 else color}
        x = np.arange(-1, len(numpy(ranks[name])) - 1)
        axes[0].plot(x, numpy(ranks[name]), styles[n], **look)
        axes[1].plot(x, numpy(probs[name]), styles[n], **look)
    axes[0].set(yscale="log", ylabel="rank", title="The token after the arrow: rank")
    axes[0].invert_yaxis()
    axes[1].set(
        ylabel="probability", ylim=(-0.02, 1.02), title="The same token: probability"
    )
    for ax in axes:
        _mark_layers(ax, len(x))
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=2)
    return fig


def word_race(
    start: float, attention: object, mlp: object, winner: str, loser: str
) -> Figure:
    """Who moves the logit of one word above another's. start: the embedding's share;
    both [layers]."""
    attention, mlp = numpy(attention), numpy(mlp)
    fig, axes = subplots(2, 1, width=8.5, height=4.8, sharex=True)
    layers = np.arange(len(mlp))
    axes[0].bar([-1], [start], 0.4, color=PART_COLORS["embedding"], label="embedding")
    axes[0].bar(
        layers - 0.2, attention, 0.4, color=PART_COLORS["attention"], label="attention"
    )
    axes[0].bar(layers + 0.2, mlp, 0.4, color=PART_COLORS["MLP"], label="MLP")
    axes[0].set(
        ylabel="added by the part",
        title=f"Logit of {label(winner)} minus {label(loser)}",
    )
    axes[0].legend(loc="upper left")
    so_far = np.concatenate([[start], start + (attention + mlp).cumsum()])
    x = _mark_layers(axes[1], len(so_far))
    axes[1].plot(x, so_far, "o-", color=RED, markersize=4)
    axes[1].set(xlabel="layer", ylabel="sum so far")
    for ax in axes:
        ax.axhline(0, color=GREY, linewidth=0.8)
    return fig


def lens_grid(
    top: Sequence[Sequence[str]], probs: object, tokens: Sequence[str]
) -> Figure:
    """The top token after each layer (rows, the last on top) and each position; colour:
    its probability.

    top [layers + 1][S] labels, probs [layers + 1, S].
    """
    probs = numpy(probs)
    rows, cols = probs.shape
    fig, ax = subplots(width=min(9.0, 2.0 + 1.25 * cols), height=1.3 + 0.19 * rows)
    image = ax.imshow(
        probs, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto", origin="lower"
    )
    for row in range(rows):
        for col in range(cols):
            _cell_text(ax, col, row, label(top[row][col], 11), probs[row, col])
    ax.set_xticks(range(cols), [label(name) for name in token_names(tokens)])
    ax.tick_params(axis="x", top=True, labeltop=True)
    ax.set_yticks(
        range(rows), ["embedding", *(f"layer {n}" for n in range(rows - 1))], fontsize=8
    )
    ax.set(
        xlabel="after this token", title="The next token, if the network stopped here"
    )
    fig.colorbar(image, ax=ax, label="probability of the token shown", shrink=0.6)
    return fig


def _cell_text(ax: Axes, x: int, y: int, text: str, probability: float) -> None:
    color = "white" if probability < 0.6 else "black"
    ax.text(x, y, text, ha="center", va="center", fontsize=8, color=color)
