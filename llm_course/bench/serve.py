"""Measure the server under load: `python -m llm_course.bench serve`.

    python -m llm_course.bench serve [--url URL] [--rates R...] [--requests N]
        [--figure FILE.png] [--json FILE]

The clients are in this process, and the server in one of its own: either ours, which
is started for the occasion, or any that answers at --url.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from llm_course.bench.load import (
    Served,
    percentile,
    poisson_trace,
    serve_trace,
    tokenize,
)
from llm_course.bench.passage import PASSAGE
from llm_course.programs import MODEL, Parser, complain, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY_VARIABLE = "LLM_COURSE_API_KEY"
START_SECONDS = 300.0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    def rate(text: str) -> float:
        if not (value := float(text)) > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parser = Parser(
        prog="llm_course.bench serve",
        description="Measure a server under load.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--url", help="of a server that runs; None: one is started")
    add("--model", default=MODEL, help="what is served, and its name at --url")
    add("--options", default="", help="of the server that is started, as one word")
    rates = [0.5, 1.0, 2.0, 4.0, math.inf]
    help_rates = "arrivals a second; inf: all at once"
    add("--rates", type=rate, nargs="+", default=rates, metavar="R", help=help_rates)
    add("--requests", type=whole(1), default=32, metavar="N", help="at each rate")
    add("--prompt", type=whole(1), nargs=2, default=[100, 200], metavar="TOKENS",
        help="the shortest and the longest")  # fmt: skip
    add("--new-tokens", type=whole(1), default=64, metavar="TOKENS",
        help="of each answer")  # fmt: skip
    add("--goal-first", type=rate, default=2.0, metavar="S", help="to the first token")
    add("--goal-token", type=rate, default=0.2, metavar="S", help="for each later one")
    add("--seed", type=int, default=0, help="of the trace")
    add("--json", metavar="FILE", help="the results")
    add("--figure", metavar="FILE", help="a picture of them")
    args = parser.parse_args(argv)
    if args.prompt[0] > args.prompt[1]:
        parser.error("--prompt: the shortest comes first")
    return args


@contextmanager
def started(model: str, options: Sequence[str]) -> Iterator[str]:
    """A server in a process of its own -> its URL. Raises RuntimeError if it does not
    start."""
    command = [sys.executable, "-m", "llm_course.serve", "--model", model, "--port=0"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen([*command, *options], stdout=out, stderr=out)
        try:
            end = time.monotonic() + START_SECONDS
            while True:
                text = log.read_text(encoding="utf-8", errors="replace")
                if found := re.search(r" at (http://\S+)", text):
                    break
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"The server does not start: {text[-500:]}")
                time.sleep(0.1)
            yield found[1]
        finally:
            process.terminate()
            process.wait()


async def measure(
    url: str, model: str | None, args: argparse.Namespace
) -> list[Served]:
    """A trace at each rate, the lowest first; one request goes ahead of all."""
    key = os.environ.get(KEY_VARIABLE)
    words = await tokenize(url, PASSAGE, key)

    async def serve(rate: float, number: int, seed: int) -> Served:
        trace = poisson_trace(rate, number, tuple(args.prompt), words, seed)
        return await serve_trace(url, model, rate, trace, args.new_tokens, key)

    await serve(math.inf, 1, args.seed + 1)
    # other prompts at each rate: the server may have kept those it knows
    return [
        await serve(rate, args.requests, args.seed + 2 + i)
        for i, rate in enumerate(sorted(args.rates))
    ]


def table(found: Sequence[Served], args: argparse.Namespace) -> str:
    """A line for each rate."""
    head = (
        f"{len(found[0].seen)} requests, prompts of {args.prompt[0]} to"
        f" {args.prompt[1]} tokens, {args.new_tokens} new ones; goodput: the first"
        f" token within {args.goal_first:g} s, each later one within"
        f" {args.goal_token:g} s\n"
    )
    names = ("arrivals/s", "tokens/s", "first (s)", "p95", "per token (ms)", "p95",
             "goodput/s")  # fmt: skip
    rows: list[tuple[str, ...]] = [names]
    for one in found:
        first = [seen.first for seen in one.seen]
        later = [1000 * seen.per_token for seen in one.seen]
        rows.append((
            "all at once" if math.isinf(one.rate) else f"{one.rate:g}",
            f"{one.throughput:.1f}",
            *(f"{percentile(first, p):.2f}" for p in (50, 95)),
            *(f"{percentile(later, p):.0f}" for p in (50, 95)),
            f"{one.goodput(args.goal_first, args.goal_token):.2f}",
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([head, *lines])


def figure(found: Sequence[Served]) -> Figure:
    """Load against what clients wait for, and against what the server makes of it."""
    from llm_course.viz.style import BLUE, GREY, ORANGE, subplots

    paced = [one for one in found if not math.isinf(one.rate)]
    fig, axes = subplots(1, 3, width=11.0, height=3.2)
    rates = [one.rate for one in paced]
    for ax, name, unit in zip(axes, ("first", "per_token"), ("s", "ms"), strict=False):
        scale = 1000 if unit == "ms" else 1
        for percent, color in ((50, BLUE), (95, ORANGE)):
            values = [
                scale * percentile([getattr(s, name) for s in one.seen], percent)
                for one in paced
            ]
            label = "median" if percent == 50 else f"{percent} % are below"
            ax.plot(rates, values, "o-", color=color, label=label)
        ax.set(ylim=(0, 1.1 * ax.get_ylim()[1]), ylabel=unit)
        ax.legend()
    axes[0].set_title("to the first token")
    axes[1].set_title("each token after it")
    axes[2].plot(rates, [one.throughput for one in paced], "o-", color=BLUE)
    for one in found:
        if math.isinf(one.rate):
            axes[2].axhline(one.throughput, color=GREY, lw=1)
            axes[2].text(rates[0] if rates else 0, one.throughput, "all at once",
                         color=GREY, va="bottom")  # fmt: skip
    top = 1.15 * max(one.throughput for one in found)
    axes[2].set(title="throughput", ylabel="tokens a second", ylim=(0, top))
    for ax in axes:
        ax.set(xlabel="requests a second", xlim=(0, None))
    return fig


def main(argv: Sequence[str]) -> int:
    """The command line. Exit status 1 when there is no server, or it refuses."""
    args = parse(argv)
    try:
        if args.url:
            found = asyncio.run(measure(args.url.rstrip("/"), args.model, args))
        else:
            with started(args.model, args.options.split()) as url:
                found = asyncio.run(measure(url, None, args))
    except (RuntimeError, OSError) as error:
        complain(f"{args.url or args.model}: {error}")
        return 1
    print(table(found, args))
    if args.json:
        rows = [
            asdict(one) | {"rate": None if math.isinf(one.rate) else one.rate}
            for one in found  # JSON has no infinity
        ]
        data = json.dumps(rows, indent=1, allow_nan=False)
        Path(args.json).write_text(data + "\n", encoding="utf-8")
    if args.figure:
        figure(found).savefig(args.figure)
    return 0
