"""What a benchmark run measured, and what follows from it. Numbers in, numbers out:
nothing is timed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

# The contestants.
UNCACHED = "no cache"
CACHED = "cache"
FUSED = "fused"
NATIVE = {kind: f"native {kind}" for kind in ("float32", "bfloat16", "int8", "q4_1")}
OURS = (UNCACHED, CACHED, FUSED, *NATIVE.values())
REFERENCE = "transformers"
REFERENCE_LOOP = "transformers, loop"
REFERENCE_UNCACHED = "transformers, no cache"
THEIRS = (REFERENCE, REFERENCE_LOOP, REFERENCE_UNCACHED)
LLAMA = {kind: f"llama.cpp {kind}" for kind in ("F32", "F16", "Q8_0", "Q4_1")}
CONTESTANTS = (*OURS, *THEIRS, *LLAMA.values())

WITHOUT_CACHE = (UNCACHED, REFERENCE_UNCACHED)
EXACT = (UNCACHED, CACHED, FUSED, NATIVE["float32"], *THEIRS)  # the same tokens
RIVALS = dict(zip(NATIVE.values(), LLAMA.values(), strict=True))
DISTURBED = 0.2  # a spread of the bandwidth above which a missed target says nothing


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

    @property
    def spread(self) -> float:
        """How far the rounds' bandwidths lie apart: largest / smallest - 1."""
        return max(self.bandwidth) / min(self.bandwidth) - 1


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
    read: dict[str, int]  # contestant -> bytes of weights read by a forward pass
    cases: list[CaseResult]
    # the same generation after a short and after a long context
    growth: list[CaseResult]
    perplexity: dict[str, float]  # of the passage, by contestant
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


def shares(case: CaseResult, contestant: str, read: int) -> list[float]:
    """Bytes of weights a second in decode, over what a plain sum reads; a value a
    round."""
    later = column(case, contestant, "later")
    return [read / s / b for s, b in zip(later, case.bandwidth, strict=True)]


def summary(case: CaseResult, contestant: str, read: int) -> dict[str, float | None]:
    """The figures of one row of the table: medians, and medians of the rounds'
    ratios."""
    later = median(column(case, contestant, "later"))
    rival = RIVALS.get(contestant, LLAMA["F32"])
    return {
        "first_seconds": median(column(case, contestant, "first")),
        "first_speedup": speedup(case, contestant, REFERENCE, "first"),
        "first_speedup_over_llama": speedup(case, contestant, rival, "first"),
        "later_seconds": later,
        "later_speedup": speedup(case, contestant, REFERENCE, "later"),
        "later_speedup_over_llama": speedup(case, contestant, rival, "later"),
        "later_speedup_over_no_cache": speedup(case, contestant, UNCACHED, "later"),
        "tokens_per_second": case.batch / later,
        "prompt_tokens_per_second": case.batch
        * case.prompt
        / median(column(case, contestant, "first")),
        "weights_gb_per_second": read / later / 1e9,
        "share_of_bandwidth": median(shares(case, contestant, read)),
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
