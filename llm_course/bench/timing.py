"""Timings that can be compared: interleaved, in rounds, as medians of per-round ratios."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from llm_course.bench.contestants import REFERENCE, SLOW, Contestant
from llm_course.engine import KVCache, decode, make_cache, prefill
from llm_course.models.transformer import DecoderOnlyModel

SLOW_TOKENS = 4  # of those who recompute, where a full run would take minutes
SMALL = 64  # up to so many tokens of prompts they run in full


@dataclass(frozen=True)
class Timed:
    """One contestant in one case: seconds, one entry a round."""

    first: list[float]  # to the first token: the prefill
    each: list[float]  # for each step after it: all rows together
    tokens: int  # new tokens of a row


@dataclass(frozen=True)
class Case:
    """A prompt length and a batch size, and what was measured there."""

    prompt: int
    batch: int
    timed: dict[str, Timed]
    same_tokens: bool  # all contestants generated the same

    @property
    def reference(self) -> str:
        """Whom the ratios compare with: transformers where it is there."""
        return REFERENCE if REFERENCE in self.timed else "cache"

    def times_as_fast(self, name: str, phase: str) -> float:
        """Median over the rounds of reference's time / this one's. phase: "first" or "each"."""
        other = getattr(self.timed[self.reference], phase)
        mine = getattr(self.timed[name], phase)
        return median(theirs / own for theirs, own in zip(other, mine, strict=True))

    def tokens_per_second(self, name: str) -> float:
        """New tokens of all rows together, after the first."""
        return self.batch / median(self.timed[name].each)


def run_case(
    contestants: Mapping[str, Contestant], input_ids: Tensor, new_tokens: int, rounds: int
) -> Case:
    """Each contestant once a round, after one round that is not counted."""
    batch, prompt = input_ids.shape
    counts = {
        name: min(new_tokens, SLOW_TOKENS)
        if name in SLOW and prompt * batch > SMALL
        else new_tokens
        for name in contestants
    }
    outputs, measured = {}, {name: ([], []) for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            outputs[name], times = run(input_ids, counts[name])
            if turn:
                measured[name][0].append(times[0])
                measured[name][1].append((times[-1] - times[0]) / (len(times) - 1))
    longest = max(outputs.values(), key=lambda out: out.shape[1])
    same = all(torch.equal(out, longest[:, : out.shape[1]]) for out in outputs.values())
    timed = {n: Timed(first, each, counts[n]) for n, (first, each) in measured.items()}
    return Case(prompt, batch, timed, same)


def best_of(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several calls, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def weight_bytes(model: DecoderOnlyModel) -> int:
    """Bytes of weights that one step reads: all but an embedding table that is only looked up."""
    tied = model.lm_head.weight is model.embed_tokens.weight
    looked_up = 0 if tied else model.embed_tokens.weight.nbytes
    return sum(p.nbytes for p in model.parameters()) - looked_up


def bandwidth(nbytes: int, repeats: int = 5) -> float:
    """Bytes a second at which this machine reads (and adds up) a float32 tensor of `nbytes`."""
    numbers = torch.ones(max(nbytes // 4, 1))
    return numbers.nbytes / best_of(numbers.sum, repeats)


def growth(model: DecoderOnlyModel, contexts: tuple[int, int], rounds: int) -> float:
    """Time of a decode step after contexts[1] tokens / after contexts[0]; median over the rounds."""
    caches: list[KVCache] = []
    for length in contexts:
        caches.append(make_cache(model, capacity=length + 1))
        prefill(model, torch.arange(length)[None] % 100, caches[-1], chunk_size=256)

    def step(i: int) -> None:
        caches[i].truncate(contexts[i])
        decode(model, torch.tensor([[1]]), caches[i])

    pairs = [(best_of(lambda: step(1), 8), best_of(lambda: step(0), 8)) for _ in range(rounds)]
    return median(long / short for long, short in pairs)


LOADING = """
import json, sys, time
import torch
start = time.perf_counter()
from llm_course.checkpoints import load_pretrained
load_pretrained(sys.argv[1])
print(json.dumps(time.perf_counter() - start))
"""


def load_seconds(name_or_path: str, repeats: int = 3) -> float:
    """Median seconds of `load_pretrained` in a new process, its imports included, torch's not."""
    command = [sys.executable, "-c", LOADING, name_or_path]
    runs = [subprocess.run(command, capture_output=True, check=True) for _ in range(repeats)]
    return median(json.loads(run.stdout) for run in runs)
