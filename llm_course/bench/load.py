"""Clients that come at random times, and what each of them sees.

They speak HTTP by themselves and in one thread, so that they take little of the
processor that the server needs. Any server with OpenAI's paths will do.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Arrival:
    """A request of the trace: when it comes, in seconds, and its prompt."""

    at: float
    prompt: list[int]


@dataclass(frozen=True)
class Seen:
    """What a client saw: seconds from its arrival to the first and to the last token,
    and how many there were."""

    first: float
    last: float
    tokens: int

    @property
    def per_token(self) -> float:
        """Seconds for each token behind the first."""
        return (self.last - self.first) / max(self.tokens - 1, 1)


@dataclass(frozen=True)
class Served:
    """A trace that was served at one rate."""

    rate: float  # arrivals a second; inf: all at once
    seconds: float  # from the first arrival to the last token
    seen: Sequence[Seen]

    @property
    def throughput(self) -> float:
        """Tokens a second."""
        return sum(one.tokens for one in self.seen) / self.seconds

    def goodput(self, first: float, per_token: float) -> float:
        """Requests a second that got their first token, and each later one, in time."""
        good = [s for s in self.seen if s.first <= first and s.per_token <= per_token]
        return len(good) / self.seconds


def poisson_trace(
    rate: float, count: int, lengths: tuple[int, int], words: Sequence[int], seed: int
) -> list[Arrival]:
    """`count` requests whose distances in time are exponential, with a mean of 1 /
    rate; prompts of random ids out of `words`."""
    chance, now, trace = random.Random(seed), 0.0, []
    for _ in range(count):
        distance = chance.expovariate(1.0)
        length = chance.randint(*lengths)
        trace.append(Arrival(now / rate, chance.choices(words, k=length)))
        now += distance
    return trace


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent of the values lie."""
    if percent == 50 or len(values) == 1:
        return median(values)
    return quantiles(values, n=100, method="inclusive")[percent - 1]


async def call(url: str, path: str, body: dict[str, Any], key: str | None = None):
    """POST -> the lines of the answer, as they come. Raises RuntimeError for another
    status than 200."""
    place = urlsplit(url)
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {place.netloc}", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    reader, writer = await asyncio.open_connection(place.hostname, place.port or 80)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        status = await reader.readline()
        if b" 200 " not in status:
            text = (await reader.read())[-500:].decode(errors="replace")
            raise RuntimeError(f"{path}: {status.decode().strip()} {text}")
        async for line in reader:
            yield line
    finally:
        writer.close()


async def tokenize(url: str, text: str, key: str | None) -> list[int]:
    """The ids of a text, by the server's own tokenizer."""
    lines = [line async for line in call(url, "/tokenize", {"prompt": text}, key)]
    return json.loads(next(line for line in lines if line.startswith(b"{")))["tokens"]


async def visit(
    url: str, model: str | None, arrival: Arrival, new_tokens: int, key: str | None
) -> Seen:
    """Wait for the time of arrival, and stream an answer."""
    await asyncio.sleep(arrival.at)
    body = {
        "prompt": arrival.prompt, "max_tokens": new_tokens, "temperature": 0,
        "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
    } | ({"model": model} if model else {})  # fmt: skip
    start, times, tokens = time.perf_counter(), [], 0
    async for line in call(url, "/v1/completions", body, key):
        if line.startswith(b"data: {"):
            piece = json.loads(line[6:])
            if "error" in piece:
                raise RuntimeError(piece["error"]["message"])
            if piece["choices"]:
                times.append(time.perf_counter() - start)
            tokens = (piece.get("usage") or {}).get("completion_tokens", tokens)
    return Seen(times[0], times[-1], tokens)


async def serve_trace(
    url: str, model: str | None, rate: float, trace: Sequence[Arrival],
    new_tokens: int, key: str | None = None,
) -> Served:  # fmt: skip
    """Send a trace, and wait for all its answers."""
    start = time.perf_counter()
    visits = [visit(url, model, one, new_tokens, key) for one in trace]
    seen = await asyncio.gather(*visits)
    return Served(rate, time.perf_counter() - start, seen)
