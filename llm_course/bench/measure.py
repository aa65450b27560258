"""The clock: rounds in which every contestant has its turn, and what is measured beside
them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llm_course.bench.contestants import Contestant
from llm_course.bench.results import CacheMemory, CaseResult, Timing
from llm_course.engine import cache_bytes, decode, make_cache, prefill
from llm_course.models import DecoderOnlyModel
from llm_course.types import TokenIds

UNCACHED_POSITIONS = (
    4_200  # what a contestant without a cache may compute in one generation
)


@dataclass(frozen=True)
class Case:
    """A prompt [B, S], and how many tokens each contestant generates after it."""

    prompt: TokenIds
    new_tokens: dict[str, int]


def tokens_without_cache(
    prompt: int, batch: int, wanted: int, everything: bool = False
) -> int:
    """How many tokens are generated where each one recomputes the whole sequence; 0 =
    left out.

    As many as wanted, within UNCACHED_POSITIONS. At least two, the fewest that have a
    time per token; where two are too many, none, or two with `everything`.
    """
    n, positions = 0, 0
    while (
        n < wanted
        and (positions := positions + batch * (prompt + n)) <= UNCACHED_POSITIONS
    ):
        n += 1
    return n if n >= 2 else 2 * everything


def make_case(
    contestants: Sequence[Contestant],
    vocab_size: int,
    prompt: int,
    batch: int,
    new_tokens: int,
    *,
    everything: bool = False,
    cached_only: bool = False,
    seed: int = 0,
) -> Case:
    """Random ids, and the number of tokens of each contestant that takes part."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocab_size, (batch, prompt), generator=generator)  # [B, S]
    few = (
        0
        if cached_only
        else tokens_without_cache(prompt, batch, new_tokens, everything)
    )
    counts = {c.name: new_tokens if c.cached else few for c in contestants}
    return Case(ids, {name: n for name, n in counts.items() if n})


def timed(
    contestant: Contestant, prompt: TokenIds, n: int, clock: Callable[[], float]
) -> tuple[Timing, Tensor]:
    """Generate n >= 2 tokens; the times, and the tokens [B, n]."""
    times: list[float] = []
    tokens: list[Tensor] = []

    def tell(token: Tensor) -> None:
        times.append(clock() - start)
        tokens.append(token)

    start = clock()
    contestant.generate(prompt, n, tell)
    return Timing(times[0], (times[-1] - times[0]) / (n - 1)), torch.cat(tokens, dim=-1)


def check_same_tokens(
    tokens: dict[str, Tensor], case: Case, model: DecoderOnlyModel
) -> None:
    """Raise RuntimeError when two contestants went different ways; says how close the
    choice was.

    tokens: contestant -> [B, n]; a shorter one is compared as far as it goes.
    """
    longest = max(tokens, key=lambda name: tokens[name].shape[1])
    for name, found in tokens.items():
        wanted = tokens[longest][:, : found.shape[1]]
        if torch.equal(found, wanted):
            continue
        # The earliest step first: after it, the two continue different texts.
        step, row = min((j, i) for i, j in (found != wanted).nonzero().tolist())
        text = torch.cat([case.prompt[row], wanted[row, :step]])[None]  # [1, S + step]
        with torch.inference_mode():
            logits = model(text, last_only=True)[0, -1]  # [V]
        gap = float((logits[found[row, step]] - logits[wanted[row, step]]).abs())
        raise RuntimeError(
            "not the same tokens, so nothing is timed: prompt of"
            f" {case.prompt.shape[1]}, row {row}, new token {step}: {name!r} chose"
            f" {int(found[row, step])} and {longest!r} {int(wanted[row, step])}. Their"
            f" logits differ by {gap:.1e}, of at most {float(logits.abs().max()):.1f};"
            " where that is rounding, take another --seed"
        )


def run(
    contestants: Sequence[Contestant],
    cases: Sequence[Case],
    model: DecoderOnlyModel,
    rounds: int,
    bandwidth: Callable[[], float],
    *,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str], object] = lambda _: None,
) -> list[CaseResult]:
    """Time every contestant in every case, `rounds` times, in turn.

    Before that one round that is not timed warms up and compares the tokens. The order
    turns by one each round, so that nobody always follows the same one.
    """
    results = []
    for case in cases:
        progress("the same tokens?")
        tokens = {
            c.name: timed(c, case.prompt, case.new_tokens[c.name], clock)[1]
            for c in contestants
            if c.name in case.new_tokens
        }
        check_same_tokens(tokens, case, model)
        batch, prompt = case.prompt.shape
        timings: dict[str, list[Timing]] = {name: [] for name in case.new_tokens}
        results.append(CaseResult(prompt, batch, case.new_tokens, timings, []))
    for i in range(rounds):
        turn = i % len(contestants)
        for case, result in zip(cases, results, strict=True):
            progress(f"round {i + 1} of {rounds}")
            result.bandwidth.append(bandwidth())
            for c in (*contestants[turn:], *contestants[:turn]):
                if c.name in case.new_tokens:
                    timing, _ = timed(c, case.prompt, case.new_tokens[c.name], clock)
                    result.timings[c.name].append(timing)
    return results


def memory_bandwidth(numbers: int = 2**27) -> Callable[[], float]:
    """A function that measures bytes a second: the best of five sums over 0.5 GB of
    float32."""
    data = torch.ones(numbers)

    def measure() -> float:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            data.sum()
            seconds.append(time.perf_counter() - start)
        return data.nbytes / min(seconds)

    return measure


def cache_memory(
    model: DecoderOnlyModel, prompt: TokenIds, new_tokens: int
) -> CacheMemory:
    """Use a cache of the size that `generate` makes, and count the bytes of its
    storage."""
    batch, tokens = prompt.shape[0], prompt.shape[1] + new_tokens
    cache = make_cache(model, batch, tokens)
    logits = prefill(model, prompt, cache)
    decode(model, logits.argmax(dim=-1, keepdim=True), cache)
    storages = {
        s.data_ptr(): s.nbytes() for s in (x.untyped_storage() for x in cache.layers)
    }
    formula = cache_bytes(model.config, tokens, batch, model.embed_tokens.weight.dtype)
    return CacheMemory(tokens, batch, sum(storages.values()), formula)


LOAD = """
import sys, time
import torch
start = time.perf_counter()
from llm_course.checkpoints import load_pretrained
from llm_course.config import EngineConfig
load_pretrained(sys.argv[1], EngineConfig(device="cpu"))
print(time.perf_counter() - start)
"""


def load_seconds(model: str, times: int) -> list[float]:
    """Seconds of `load_pretrained` beyond `import torch`, each in a Python of its own.

    One more load comes first and is not counted: it brings the file into the system's
    memory.
    """
    command = [sys.executable, "-c", LOAD, model]
    runs = [
        subprocess.run(command, check=True, capture_output=True, text=True)
        for _ in range(times + 1)
    ]
    return [float(done.stdout.split()[-1]) for done in runs[1:]]
