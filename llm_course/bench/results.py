"""What a benchmark run measured, and what follows from it. Numbers in, numbers out:
nothing is timed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

# The contestants. Two of them are what the others are compared with.
UNCACHED = "no cache"
CACHED = "cache"
PREPARED = "cache, prepared"
REFERENCE = "transformers"
REFERENCE_LOOP = "transformers, loop"
REFERENCE_UNCACHED = "transformers, no cache"


@dataclass(frozen=True)
class Timing:
    """One generation: seconds to the first token, and for each token after it."""

    first: float
    later: float


@dataclass(frozen=True)
class CaseResult:
    """One prompt length and batch size: a Timing a round for each contestant, in the
    same rounds."""

    prompt: int
    batch: int
    new_tokens: dict[str, int]  # contestant -> tokens generated
    timings: dict[str, list[Timing]]
    bandwidth: list[float]  # bytes a second, one measurement a round


@dataclass(frozen=True)
class CacheMemory:
    """Bytes of one cache's storage, and what `cache_bytes` says of it."""

    tokens: int
    batch: int
    measured: int
    formula: int


@dataclass(frozen=True)
class Results:
    """One run of the benchmark."""

    machine: dict[str, Any]
    model: str
    weight_bytes: int  # read by one forward pass
    cases: list[CaseResult]
    # the same generation after a short and after a long context
    growth: list[CaseResult]
    memory: list[CacheMemory]
    load: list[float]  # seconds of load_pretrained beyond `import torch`
    notes: list[str] = field(default_factory=list)


def times_as_fast(seconds: Sequence[float], than: Sequence[float]) -> float:
    """The median over rounds of than / seconds: above 1, `seconds` is the faster.

    Both from the same rounds, so that what slows a whole round down cancels.
    """
    return median(b / a for a, b in zip(seconds, than, strict=True))


def column(case: CaseResult, contestant: str, phase: str) -> list[float]:
    """The seconds of each round; `phase` is "first" or "later"."""
    return [getattr(timing, phase) for timing in case.timings[contestant]]


def speedup(case: CaseResult, contestant: str, than: str, phase: str) -> float | None:
    """How many times as fast as another contestant; None where one of the two was not
    measured."""
    if contestant not in case.timings or than not in case.timings:
        return None
    return times_as_fast(column(case, contestant, phase), column(case, than, phase))


def summary(
    case: CaseResult, contestant: str, weight_bytes: int
) -> dict[str, float | None]:
    """The figures of one row of the table: medians, and medians of the rounds'
    ratios."""
    later = column(case, contestant, "later")
    shares = [weight_bytes / s / b for s, b in zip(later, case.bandwidth, strict=True)]
    return {
        "first_seconds": median(column(case, contestant, "first")),
        "first_speedup": speedup(case, contestant, REFERENCE, "first"),
        "later_seconds": median(later),
        "later_speedup": speedup(case, contestant, REFERENCE, "later"),
        "later_speedup_over_no_cache": speedup(case, contestant, UNCACHED, "later"),
        "tokens_per_second": case.batch / median(later),
        "weights_gb_per_second": weight_bytes / median(later) / 1e9,
        "share_of_bandwidth": median(shares),
    }


def growth(results: Results) -> dict[str, float]:
    """Contestant -> time for one token after the long context, relative to the short
    one."""
    if not results.growth:
        return {}
    short, long = results.growth
    return {
        name: times_as_fast(column(short, name, "later"), column(long, name, "later"))
        for name in short.timings
    }


@dataclass(frozen=True)
class Target:
    """A claim about the engine, and what was measured."""

    what: str
    measured: float
    bound: float
    at_least: bool

    @property
    def reached(self) -> bool:
        return (
            self.measured >= self.bound
            if self.at_least
            else self.measured <= self.bound
        )


def targets(results: Results) -> list[Target]:
    """The claims that this run can speak of: those whose cases and contestants it
    measured."""
    found: list[tuple[str, float | None, float, bool]] = []
    for case in results.cases:
        if (case.prompt, case.batch, max(case.new_tokens.values())) == (32, 1, 64):
            for than, bound in ((REFERENCE, 1.3), (UNCACHED, 4.0)):
                ratio = speedup(case, PREPARED, than, "later")
                found.append((f"decode, prompt 32: x {than}", ratio, bound, True))
        if (case.prompt, case.batch) == (512, 1):
            ratio = speedup(case, PREPARED, REFERENCE, "first")
            found.append((f"prefill of 512: x {REFERENCE}", ratio, 1.1, True))
    for name, ratio in growth(results).items():
        short, long = (case.prompt for case in results.growth)
        if name == PREPARED and (short, long) == (64, 2048):
            found.append(
                (f"a token at {long:,} against one at {short}", ratio, 1.5, False)
            )
    if results.load:
        found.append(("load_pretrained, seconds", median(results.load), 1.5, False))
    return [
        Target(what, value, goal, more)
        for what, value, goal, more in found
        if value is not None
    ]


def as_json(results: Results) -> dict[str, Any]:
    """Everything measured, round by round, with the table's figures beside it."""
    data = asdict(results)
    for shown, case in zip(data["cases"], results.cases, strict=True):
        shown["summary"] = {
            name: summary(case, name, results.weight_bytes) for name in case.timings
        }
    data["growth_ratio"] = growth(results)
    data["targets"] = [asdict(t) | {"reached": t.reached} for t in targets(results)]
    return data
