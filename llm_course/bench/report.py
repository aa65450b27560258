"""The results of a run as text and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from llm_course.bench.results import (
    CACHED,
    REFERENCE,
    REFERENCE_LOOP,
    UNCACHED,
    CaseResult,
    Results,
    Target,
    column,
    growth,
    summary,
    targets,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def text(results: Results) -> str:
    """The whole report."""
    machine = results.machine
    others = (
        f", transformers {machine['transformers']}" if machine["transformers"] else ""
    )
    parts = [
        (
            f"{results.model}: {results.weight_bytes / 1e6:,.1f} MB of weights,"
            f" float32, {machine['threads']} threads of {machine['processor']}, torch"
            f" {machine['torch']}{others}"
        ),
        legend(results),
        *(table(case, results.weight_bytes) for case in results.cases),
    ]
    if any(
        case.new_tokens[name] < max(case.new_tokens.values())
        for case, name in rows(results)
    ):
        parts.append(
            "(n): the first n tokens only, where each recomputes the whole sequence."
        )
    parts += [side_by_side(results), *results.notes]
    return "\n\n".join(part for part in parts if part)


def legend(results: Results) -> str:
    """What the columns say."""
    lines = [f"Medians of {results.machine['rounds']} rounds, in which all take turns."]
    if results.machine["transformers"]:
        lines.append(
            f"{REFERENCE!r} is its generate(); {REFERENCE_LOOP!r} its model and cache"
            " alone."
        )
        lines.append(
            f"x ref: times as fast as {REFERENCE!r}, the median of the rounds' ratios."
        )
    lines.append("x no cache: the same, as this engine without a cache.")
    lines.append(
        "GB/s: weights read, one pass a step; of memory: as a share of what a sum over"
    )
    lines.append(
        "0.5 GB of float32 reads with the same threads, measured in the same rounds."
    )
    return "\n".join(lines)


def rows(results: Results) -> list[tuple[CaseResult, str]]:
    return [(case, name) for case in results.cases for name in case.timings]


def table(case: CaseResult, weight_bytes: int) -> str:
    """One case: a row for each contestant. Ratios to a contestant that is not there are
    left out."""
    compared, recomputed = REFERENCE in case.timings, UNCACHED in case.timings
    most = max(case.new_tokens.values())
    head = [
        "",
        "first token",
        *["x ref"] * compared,
        "each after it",
        *["x ref"] * compared,
    ]
    lines = [[*head, *["x no cache"] * recomputed, "tokens/s", "GB/s", "of memory"]]
    for name in case.timings:
        row: dict[str, Any] = summary(case, name, weight_bytes)
        few = f" ({case.new_tokens[name]})" if case.new_tokens[name] < most else ""
        cells = [name + few, f"{1e3 * row['first_seconds']:,.1f} ms"]
        cells += [ratio_text(row["first_speedup"])] * compared
        cells += [f"{1e3 * row['later_seconds']:,.1f} ms"]
        cells += [ratio_text(row["later_speedup"])] * compared
        cells += [ratio_text(row["later_speedup_over_no_cache"])] * recomputed
        cells += [
            f"{row['tokens_per_second']:,.1f}",
            f"{row['weights_gb_per_second']:.1f}",
        ]
        lines.append([*cells, f"{row['share_of_bandwidth']:.0%}"])
    title = f"prompt {case.prompt}, batch {case.batch}, {most} new tokens"
    return f"{title}\n{aligned(lines)}"


def side_by_side(results: Results) -> str:
    """What is measured beside the cases: growth, memory, loading, and the targets."""
    lines = []
    if ratios := growth(results):
        short, long = (case.prompt for case in results.growth)
        found = "; ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        lines.append(
            f"time for one token at {long:,} tokens, relative to {short}: {found}"
        )
    for cache in results.memory:
        same = (
            "equal to"
            if cache.measured == cache.formula
            else f"NOT {cache.formula:,}, as by"
        )
        lines.append(
            f"cache of {cache.tokens:,} tokens, batch {cache.batch}: {cache.measured:,}"
            f" bytes, {same} the formula"
        )
    if results.load:
        lines.append(
            f"load_pretrained: {median(results.load):.2f} s beyond `import torch`"
        )
    lines += [target_line(target) for target in targets(results)]
    return "\n".join(lines)


def target_line(target: Target) -> str:
    bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
    reached = "reached" if target.reached else "NOT reached"
    return f"target: {target.what}: {target.measured:.2f} ({bound}): {reached}"


def ratio_text(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the
    right."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    )


def figure(results: Results) -> Figure:
    """Both phases relative to `transformers` (to our plain cache where that is not
    there), and the share of the memory's bandwidth in decode. Small dots are rounds,
    large ones their medians.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    from llm_course.viz.style import BLUE, GREEN, GREY, ORANGE, RED, SKY, subplots

    colors = dict(
        zip(contestants(results), (RED, BLUE, GREEN, GREY, SKY, ORANGE), strict=False)
    )
    base = REFERENCE if REFERENCE in colors else CACHED
    fig, axes = subplots(
        1, 3, width=11.0, height=1.6 + 0.55 * len(results.cases), sharey=True
    )
    for y, case in enumerate(results.cases):
        for i, name in enumerate(case.timings):
            where = y + 0.14 * (i - (len(case.timings) - 1) / 2)
            for ax, values in zip(axes, panels(case, name, base, results), strict=True):
                style = {"color": colors[name], "clip_on": False}
                ax.plot(
                    values,
                    [where] * len(values),
                    "o",
                    markersize=2.5,
                    alpha=0.4,
                    **style,
                )
                ax.plot([median(values)], [where], "o", markersize=6, **style)
    for ax in axes[:2]:
        ax.set(xscale="log", xlabel=f"times as fast as {base} (log scale)")
        ax.axvline(1.0, color=colors[base], linewidth=1, zorder=0)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0].set_title("to the first token")
    axes[1].set_title("each token after it")
    axes[2].set(
        title="weights read", xlabel="share of the memory's bandwidth", xlim=(0, 1)
    )
    axes[0].set_yticks(range(len(results.cases)))
    axes[0].set_yticklabels(
        [f"prompt {c.prompt}\nbatch {c.batch}" for c in results.cases]
    )
    axes[0].invert_yaxis()
    handles = [axes[0].plot([], [], "o", color=color)[0] for color in colors.values()]
    fig.legend(handles, list(colors), loc="outside lower center", ncols=len(colors))
    return fig


def contestants(results: Results) -> list[str]:
    """The names in any case, in the order of their first appearance."""
    return list(dict.fromkeys(name for case in results.cases for name in case.timings))


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
    seconds = zip(column(case, name, "later"), case.bandwidth, strict=True)
    return [first, later, [results.weight_bytes / s / b for s, b in seconds]]
