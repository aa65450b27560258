"""What the engine is meant to reach, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from llm_course.bench.results import (
    DISTURBED,
    LLAMA,
    NATIVE,
    REFERENCE,
    CaseResult,
    Results,
    growth,
    shares,
    speedup,
    summary,
)


@dataclass(frozen=True)
class Target:
    """A claim about the engine, and what was measured."""

    what: str
    measured: float
    bound: float
    at_least: bool = True
    spread: float = 0.0  # of the plain sum's bandwidth in the rounds it comes from

    @property
    def reached(self) -> bool:
        return (
            self.measured >= self.bound
            if self.at_least
            else self.measured <= self.bound
        )

    @property
    def verdict(self) -> str:
        """A run beside other work on the machine cannot say that a target is missed."""
        if self.reached:
            return "reached"
        return "disturbed" if self.spread > DISTURBED else "NOT reached"


FLOAT, INT8, Q4 = NATIVE["float32"], NATIVE["int8"], NATIVE["q4_1"]
DECODE = (
    (FLOAT, LLAMA["F32"], 1.2),
    (INT8, LLAMA["Q8_0"], 1.5),
    (Q4, LLAMA["Q4_1"], 1.7),
)
SHARES = ((FLOAT, 0.9), (INT8, 0.7))
PREFILL = ((FLOAT, REFERENCE, 1.2), (FLOAT, LLAMA["F32"], 1.2))


def targets(results: Results) -> list[Target]:
    """The claims that this run can speak of: those whose cases and contestants it
    measured."""
    return [
        *(t for case in results.cases for t in of_case(case, results.read)),
        *of_growth(results),
        *of_perplexity(results.perplexity),
        *(
            Target("load_pretrained, seconds", median(seconds), 1.5, at_least=False)
            for seconds in [results.load]
            if seconds
        ),
    ]


def of_case(case: CaseResult, read: dict[str, int]) -> Iterator[Target]:
    shape = (case.prompt, case.batch)
    if shape == (32, 1) and max(case.new_tokens.values()) == 64:
        for name, than, bound in DECODE:
            yield from compared(case, name, than, "later", bound)
        for name, bound in SHARES:
            if name in case.timings:
                share = median(shares(case, name, read[name]))
                what = f"{where(case, 'later')}: {name}, share of the bandwidth"
                yield Target(what, share, bound, spread=case.spread)
    if shape == (32, 16):
        yield from compared(case, FLOAT, REFERENCE, "later", 3.0)
    if shape == (512, 1):
        for name, than, bound in PREFILL:
            yield from compared(case, name, than, "first", bound)


def compared(
    case: CaseResult, name: str, than: str, phase: str, bound: float
) -> Iterator[Target]:
    """The target of one ratio, where both were measured."""
    ratio = speedup(case, name, than, phase)
    if ratio is not None:
        what = f"{where(case, phase)}: {name}, x {than}"
        yield Target(what, ratio, bound, spread=case.spread)


def where(case: CaseResult, phase: str) -> str:
    if phase == "first":
        return f"prefill of {case.prompt}"
    rows = f", {case.batch} rows" if case.batch > 1 else ""
    return f"decode at {case.prompt}{rows}"


def of_growth(results: Results) -> Iterator[Target]:
    ratios = growth(results)
    if FLOAT in ratios and [c.prompt for c in results.growth] == [64, 2048]:
        spread = max(case.spread for case in results.growth)
        what = f"a token at 2,048 against one at 64: {FLOAT}"
        yield Target(what, ratios[FLOAT], 1.4, at_least=False, spread=spread)


def of_perplexity(perplexity: dict[str, float]) -> Iterator[Target]:
    if FLOAT in perplexity and INT8 in perplexity:
        more = 100 * (perplexity[INT8] / perplexity[FLOAT] - 1)
        yield Target(f"perplexity: {INT8}, % above float32", more, 0.5, at_least=False)


def as_json(results: Results) -> dict[str, Any]:
    """Everything measured, round by round, with the table's figures beside it."""
    data = asdict(results)
    for shown, case in zip(data["cases"], results.cases, strict=True):
        shown["summary"] = {
            name: summary(case, name, results.read[name]) for name in case.timings
        }
    data["growth_ratio"] = growth(results)
    data["targets"] = [
        asdict(t) | {"reached": t.reached, "verdict": t.verdict}
        for t in targets(results)
    ]
    return data
