"""The rounds in which every contestant has its turn, and what is measured beside
them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llm_course.bench.results import (
    EXACT,
    LLAMA,
    WITHOUT_CACHE,
    CacheMemory,
    CaseResult,
    Timing,
)
from llm_course.engine import cache_bytes, decode, make_cache, prefill
from llm_course.models import DecoderOnlyModel
from llm_course.types import TokenIds

UNCACHED_POSITIONS = (
    4_200  # what a contestant without a cache may compute in one generation
)
ROUNDING = 1e-4  # of the largest logit: nearer than this, the order may turn


class Timed(Protocol):
    """What a `Team` offers to the rounds."""

    def generate(
        self, name: str, prompt: TokenIds, n: int
    ) -> tuple[list[float], Tensor]: ...

    def bandwidth(self) -> float: ...


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
    names: Sequence[str],
    vocab_size: int,
    prompt: int,
    batch: int,
    new_tokens: int,
    *,
    everything: bool = False,
    cached_only: bool = False,
    seed: int = 0,
) -> Case:
    """Random ids, and the number of tokens of each contestant that takes part.

    llama.cpp is measured by its `eval`, which takes one row.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocab_size, (batch, prompt), generator=generator)  # [B, S]
    few = (
        0
        if cached_only
        else tokens_without_cache(prompt, batch, new_tokens, everything)
    )
    counts = {name: few if name in WITHOUT_CACHE else new_tokens for name in names}
    if batch > 1:
        counts |= dict.fromkeys(LLAMA.values(), 0)
    return Case(ids, {name: n for name, n in counts.items() if n})


def timing(times: Sequence[float]) -> Timing:
    """Seconds from the start to each of at least two tokens -> what is kept of them."""
    return Timing(times[0], (times[-1] - times[0]) / (len(times) - 1))


def check_same_tokens(
    tokens: dict[str, Tensor], case: Case, model: DecoderOnlyModel
) -> None:
    """Raise RuntimeError when two contestants with the same weights went different
    ways, and not because two logits were as good as equal.

    tokens: contestant -> [B, n]; a shorter one is compared as far as it goes.
    """
    exact = {name: found for name, found in tokens.items() if name in EXACT}
    longest = max(exact, key=lambda name: exact[name].shape[1], default="")
    for name, found in exact.items():
        wanted = exact[longest][:, : found.shape[1]]
        for row in (found != wanted).any(dim=1).nonzero().flatten().tolist():
            # after the first difference, the two continue different texts
            step = int((found[row] != wanted[row]).nonzero()[0])
            text = torch.cat([case.prompt[row], wanted[row, :step]])[None]
            with torch.inference_mode():
                logits = model(text, last_only=True)[0, -1]  # [V]
            ours, others = int(found[row, step]), int(wanted[row, step])
            gap, most = float((logits[ours] - logits[others]).abs()), logits.abs().max()
            if gap > ROUNDING * most:
                raise RuntimeError(
                    f"not the same tokens: prompt of {case.prompt.shape[1]}, row {row},"
                    f" new token {step}: {name!r} chose {ours} and {longest!r}"
                    f" {others}. Their logits differ by {gap:.1e}, of at most"
                    f" {most:.1f}"
                )


def run(
    team: Timed,
    names: Sequence[str],
    cases: Sequence[Case],
    model: DecoderOnlyModel,
    rounds: int,
    *,
    warm: int,
    progress: Callable[[str], object] = lambda _: None,
) -> list[CaseResult]:
    """Time every contestant in every case, `rounds` times, in turn.

    Before that, each generates two tokens in the first `warm` cases. The first round's
    tokens are compared. The order turns by one each round, so that nobody always
    follows the same one.
    """
    results = []
    for i, case in enumerate(cases):
        for name in case.new_tokens if i < warm else ():
            progress(f"warming up: {name}")
            team.generate(name, case.prompt, 2)
        batch, prompt = case.prompt.shape
        timings: dict[str, list[Timing]] = {name: [] for name in case.new_tokens}
        results.append(CaseResult(prompt, batch, case.new_tokens, timings, []))
    for i in range(rounds):
        turn = i % len(names)
        order = (*names[turn:], *names[:turn])
        for case, result in zip(cases, results, strict=True):
            result.bandwidth.append(team.bandwidth())
            tokens = {}
            for name in (name for name in order if name in case.new_tokens):
                progress(f"round {i + 1} of {rounds}: {name}")
                n = case.new_tokens[name]
                times, tokens[name] = team.generate(name, case.prompt, n)
                result.timings[name].append(timing(times))
            if i == 0:
                check_same_tokens(tokens, case, model)
    return results


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
        subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
        for _ in range(times + 1)
    ]
    return [float(done.stdout.split()[-1]) for done in runs[1:]]
