"""The results of a run as text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from llm_course.bench.results import (
    LLAMA,
    NATIVE,
    REFERENCE,
    REFERENCE_LOOP,
    CaseResult,
    Results,
    growth,
    shares,
    summary,
)
from llm_course.bench.targets import Target, targets


def text(results: Results) -> str:
    """The whole report."""
    machine = results.machine
    others = "".join(
        f", {name} {machine[name]}"
        for name in ("transformers", "llama-cpp-python")
        if machine[name]
    )
    parts = [
        (
            f"{results.model}, {machine['threads']} threads of {machine['processor']},"
            f" torch {machine['torch']}{others}"
        ),
        legend(results),
        *(table(case, results.read) for case in results.cases),
    ]
    if any(
        n < max(case.new_tokens.values())
        for case in results.cases
        for n in case.new_tokens.values()
    ):
        parts.append(
            "(n): the first n tokens only, where each recomputes the whole sequence."
        )
    parts += [side_by_side(results), *results.notes]
    return "\n\n".join(part for part in parts if part)


def legend(results: Results) -> str:
    """What the columns say."""
    lines = [
        f"Medians of {results.machine['rounds']} rounds, in which all take turns, each"
        " in a process of its own."
    ]
    if results.machine["transformers"]:
        lines.append(
            f"{REFERENCE!r} is its generate(); {REFERENCE_LOOP!r} its model and cache"
            " alone."
        )
        lines.append(
            f"x ref: times as fast as {REFERENCE!r}, the median of the rounds' ratios."
        )
    if results.machine["llama-cpp-python"]:
        *others, last = (
            f"{theirs} beside {ours}"
            for ours, theirs in zip(NATIVE, LLAMA, strict=True)
        )
        lines.append(f"x llama: times as fast as llama.cpp: {', '.join(others)},")
        lines.append(
            f"{last}, F32 beside all others. It takes one row; its cache is in float16."
        )
    lines.append(
        "GB/s: weights read, one pass a step; of memory: as a share of what a sum over"
    )
    lines.append(
        "0.4 GB of float32 reads with the same threads, measured in the same rounds."
    )
    return "\n".join(lines)


def table(case: CaseResult, read: dict[str, int]) -> str:
    """One case: a row for each contestant. Ratios to contestants that are not there are
    left out."""
    ratios = [
        *[("x ref", "speedup")] * (REFERENCE in case.timings),
        *[("x llama", "speedup_over_llama")]
        * any(n in case.timings for n in LLAMA.values()),
    ]
    titles = [title for title, _ in ratios]
    most = max(case.new_tokens.values())
    lines = [
        [
            *["", "first token", *titles, "each after it", *titles],
            *["tokens/s", "GB/s", "of memory"],
        ]
    ]
    for name in case.timings:
        row: dict[str, Any] = summary(case, name, read[name])
        few = f" ({case.new_tokens[name]})" if case.new_tokens[name] < most else ""
        cells = [name + few]
        for phase in ("first", "later"):
            cells.append(f"{1e3 * row[f'{phase}_seconds']:,.1f} ms")
            cells += [ratio_text(row[f"{phase}_{key}"]) for _, key in ratios]
        cells += [
            f"{row['tokens_per_second']:,.1f}",
            f"{row['weights_gb_per_second']:.1f}",
            f"{row['share_of_bandwidth']:.0%}",
        ]
        lines.append(cells)
    title = f"prompt {case.prompt}, batch {case.batch}, {most} new tokens"
    rates = [rate / 1e9 for rate in case.bandwidth]
    sums = f"a plain sum reads {min(rates):.1f} to {max(rates):.1f} GB/s"
    return f"{title}; {sums}\n{aligned(lines)}"


def side_by_side(results: Results) -> str:
    """What is measured beside the cases: growth, memory, loading, and the targets."""
    lines = []
    if ratios := growth(results):
        short, long = (case.prompt for case in results.growth)
        found = "; ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        lines.append(
            f"time for one token at {long:,} tokens, relative to {short}: {found}"
        )
    if results.perplexity:
        found = "; ".join(f"{n} {value:.3f}" for n, value in results.perplexity.items())
        lines.append(f"perplexity of the passage: {found}")
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
    lines += [line for case in results.cases for line in doubts(case, results.read)]
    return "\n".join(lines)


def doubts(case: CaseResult, read: dict[str, int]) -> list[str]:
    """A line for each contestant that read faster than the sum, which nobody can: then
    the machine changed between the two, and the share says little."""
    lines = []
    for name in case.timings:
        found = shares(case, name, read[name])
        if above := sum(share > 1 for share in found):
            lines.append(
                f"doubtful: prompt {case.prompt}, batch {case.batch}: {name} read"
                f" faster than the plain sum in {above} of {len(found)} rounds (shares"
                f" {min(found):.2f} to {max(found):.2f})"
            )
    return lines


def target_line(target: Target) -> str:
    bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
    return f"target: {target.what}: {target.measured:.2f} ({bound}): {target.verdict}"


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
