"""A contestant in a process of its own: `python -m llm_course.bench.child NAME MODEL
THREADS`.

It answers requests, a JSON object a line, and waits for the next one without using the
processor. Its first line comes unasked: what it is. The end of its input ends it.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import torch
from torch.nn import functional as F

from llm_course.bench.contestants import Contestant, make

Answer = Callable[[dict[str, Any]], dict[str, Any]]
SUM = "plain sum"
NUMBERS = 100_000_000  # 400 MB of float32


def generate(
    contestant: Contestant,
    prompt: list[list[int]],
    n: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """n greedy tokens -> seconds from the start to each of them, and the tokens
    [B, n]."""
    ids = torch.tensor(prompt)
    times: list[float] = []
    tokens: list[torch.Tensor] = []

    def tell(token: torch.Tensor) -> None:
        times.append(clock() - start)
        tokens.append(token)

    start = clock()
    contestant.generate(ids, n, tell)
    return {"times": times, "tokens": torch.cat(tokens, dim=-1).tolist()}


@torch.inference_mode()
def perplexity(contestant: Contestant, passage: list[int]) -> float:
    """e to the power of the mean of -ln(probability of each next token)."""
    ids = torch.tensor(passage)
    logits = contestant.logits(ids[None]).float()  # [S, V]
    return math.exp(F.cross_entropy(logits[:-1], ids[1:]))


def answers_of(contestant: Contestant) -> Answer:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "passage" in request:
            return {"perplexity": perplexity(contestant, request["passage"])}
        return generate(contestant, request["prompt"], request["new_tokens"])

    return answer


def summing(numbers: int = NUMBERS) -> Answer:
    """Answers with the bytes a second of the best of five plain sums."""
    data = torch.ones(numbers)

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        seconds = []
        for _turn in range(5):
            start = time.perf_counter()
            data.sum()
            seconds.append(time.perf_counter() - start)
        return {"bandwidth": data.nbytes / min(seconds)}

    return answer


def serve(requests: TextIO, replies: TextIO, first: dict[str, Any], answer: Answer):
    """Send `first`, then an answer to every line."""
    print(json.dumps(first), file=replies, flush=True)
    for line in requests:
        print(json.dumps(answer(json.loads(line))), file=replies, flush=True)


def main(name: str, model: str, threads: str) -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    torch.set_num_threads(int(threads))
    if name == SUM:
        serve(sys.stdin, replies, {}, summing())
    else:
        contestant = make(name, model, int(threads))
        serve(sys.stdin, replies, {"read": contestant.read}, answers_of(contestant))


if __name__ == "__main__":
    main(*sys.argv[1:])
