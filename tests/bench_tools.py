"""Results of a benchmark, made up."""

from __future__ import annotations

from dataclasses import replace

from llm_course.bench.results import (
    LLAMA,
    NATIVE,
    REFERENCE,
    UNCACHED,
    CacheMemory,
    CaseResult,
    Results,
    Timing,
)

GB = 1e9
FLOAT, INT8, Q4 = NATIVE["float32"], NATIVE["int8"], NATIVE["q4_1"]
F32, Q8_0, Q4_1 = LLAMA["F32"], LLAMA["Q8_0"], LLAMA["Q4_1"]
READ = {UNCACHED: 500_000_000, FLOAT: 500_000_000, INT8: 140_000_000, Q4: 100_000_000}
READ |= {REFERENCE: 500_000_000, F32: 500_000_000, Q8_0: 140_000_000, Q4_1: 90_000_000}


def timings(*pairs: tuple[float, float]) -> list[Timing]:
    return [Timing(first, later) for first, later in pairs]


# In the second round everything takes ten times as long: ratios within a round do not
# see it.
CASE = CaseResult(
    prompt=32,
    batch=1,
    new_tokens={UNCACHED: 64, FLOAT: 64, REFERENCE: 64, F32: 64},
    timings={
        UNCACHED: timings((0.2, 0.4), (2.0, 4.0), (0.2, 0.4)),
        FLOAT: timings((0.1, 0.05), (1.0, 0.5), (0.1, 0.05)),
        REFERENCE: timings((0.2, 0.1), (2.0, 1.0), (0.3, 0.08)),
        F32: timings((0.11, 0.07), (1.1, 0.7), (0.2, 0.06)),
    },
    bandwidth=[40 * GB, 4 * GB, 40 * GB],
)
LONG = replace(CASE, prompt=512)
MACHINE = {
    "threads": 2,
    "processor": "x86_64",
    "torch": "2.13",
    "transformers": "5.0",
    "llama-cpp-python": "0.3.1",
    "rounds": 3,
}


def steady(case: CaseResult) -> CaseResult:
    """The case, with the bandwidth as it is on a machine that does nothing else."""
    return replace(case, bandwidth=[40 * GB] * len(case.bandwidth))


def made_up(**changes: object) -> Results:
    short, long = (
        CaseResult(prompt, 1, {FLOAT: 16}, {FLOAT: timings(*pairs)}, [GB, GB])
        for prompt, pairs in (
            (64, [(1, 0.1), (1, 0.2)]),
            (2048, [(9, 0.12), (9, 0.28)]),
        )
    )
    results = Results(
        machine=MACHINE,
        model="a-model",
        read=READ,
        cases=[CASE, LONG],
        growth=[short, long],
        perplexity={FLOAT: 20.0, INT8: 20.08},
        memory=[CacheMemory(tokens=96, batch=1, measured=1000, formula=1000)],
        load=[0.5, 9.0, 0.4],
    )
    return replace(results, **changes)


def only(case: CaseResult, *names: str) -> CaseResult:
    return replace(case, timings={n: case.timings[n] for n in names})
