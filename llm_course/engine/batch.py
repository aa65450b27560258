# Exported from notebooks/08_batching.ipynb; edit there, then run its last cell.
"""Many requests at once: each with its own position, settings, seed and stop rules."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from llm_course.arguments import at_least, checked
from llm_course.config import ModelConfig
from llm_course.engine.generation import (
    check_lengths,
    one_thread,
    seeded_generator,
    token_ids,
)
from llm_course.engine.kv_cache import cache_bytes
from llm_course.engine.paged_cache import PagedCache, PageTable
from llm_course.engine.prepare import compiled_engine
from llm_course.engine.request import (
    Choice,
    Delta,
    Handle,
    Request,
    StopStrings,
    TextDecoder,
    TextTokenizer,
    added,
    logprob_of,
)
from llm_course.engine.sampling import apply_repetition_penalty, choose_token
from llm_course.engine.scheduler import Row, Scheduler
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.types import Logits

__all__ = ["Branch", "Plan", "logits_by_table", "logits_of_pass", "Desk", "Engine"]


@dataclass(eq=False, kw_only=True)
class Branch(Row):
    """A row of the engine: one continuation of a request."""

    handle: Handle
    choice: Choice
    generator: torch.Generator
    decoder: TextDecoder | None
    stops: StopStrings

    def add(self, token: int) -> None:
        """Take in a chosen token, and the text that is certain by now."""
        request, choice = self.handle.request, self.choice
        self.ids.append(token)
        choice.token_ids.append(token)
        ended = token in request.eos_ids
        piece = self.decoder.push(token) if self.decoder and not ended else ""
        text = self.stops.push(piece)
        full = len(choice.token_ids) == request.config.max_new_tokens
        if self.decoder and not self.stops.found and (ended or full):
            text += self.stops.push(self.decoder.finish())
            text += self.stops.held if not self.stops.found else ""
        if ended or self.stops.found:
            choice.finish_reason = "stop"
        elif full:
            choice.finish_reason = "length"
        choice.text += text


Plan = list[tuple[Branch, int]]


def logits_by_table(model: DecoderOnlyModel, cache: PagedCache, plan: Plan) -> Logits:
    """Logits [rows with nothing left to compute, V]: any model, row by row, each with
    its table as cache."""
    device, found = model.embed_tokens.weight.device, []
    for row, n in plan:
        start = row.table.length
        ids = torch.tensor([row.ids[start : start + n]], device=device)
        logits = model(ids, kv_cache=row.table, last_only=True)
        # the model has advanced the table already
        found += [logits[:, -1]] if row.missing == 0 else []
    return torch.cat(found) if found else torch.empty(0, model.config.vocab_size)


def logits_of_pass(model: Any, cache: PagedCache, plan: Plan) -> Logits:
    """The same by a NativeModel: one pass for all rows, which reads the pages in
    place."""
    ids: list[int] = []
    tokens, spans, keep = [], [], []
    for r, (row, n) in enumerate(plan):
        start = row.table.length
        spans.append((len(ids), n, 0))
        ids += row.ids[start : start + n]
        tokens += [(r, slot, slot) for slot in range(start, start + n)]
        if n == row.missing:
            keep.append((len(ids) - 1, 0))
    pages = np.zeros((len(plan), max(len(row.table.pages) for row, _ in plan)), int)
    for r, (row, _) in enumerate(plan):
        pages[r, : len(row.table.pages)] = row.table.pages
    held = (model.matrices, tuple(cache.layers))
    logits = model.run(
        np.array(ids), np.array(tokens), spans,
        np.array(keep or [(len(ids) - 1, 0)]),  # a pass has at least one row of logits
        pages, model.describe(cache.layers), held,
    )  # fmt: skip
    for row, n in plan:
        row.table.advance(n)
    return torch.from_numpy(logits[: len(keep)])


class Desk:
    """Where requests come and go: the half of an engine that computes nothing."""

    def __init__(
        self,
        config: ModelConfig,
        cache: PagedCache,
        scheduler: Scheduler,
        tokenizer: TextTokenizer | None,
        clock: Callable[[], float],
    ) -> None:
        self.config, self.cache, self.scheduler = config, cache, scheduler
        self.tokenizer, self.clock, self.device = tokenizer, clock, torch.device("cpu")
        self.live: dict[int, Handle] = {}
        self.handles: WeakValueDictionary[int, Handle] = WeakValueDictionary()
        self.counts: Counter[str] = Counter()  # tokens, as `metrics` names them
        self.ended: Counter[str] = Counter()  # requests, by finish_reason
        self._next_id = 0

    @property
    def idle(self) -> bool:
        """No request is left to work on."""
        return not self.live

    @checked
    def add(self, request: Request) -> Handle:
        """Let a request wait for its turn. Raises ValueError for one that cannot be
        answered, whatever else runs. Warns of more tokens than the model was trained
        for."""
        self._check(request)
        new = request.config.max_new_tokens
        check_lengths(self.config, len(request.prompt), new, None, frames=4)
        choices = [Choice(i) for i in range(request.n)]
        handle = Handle(self._next_id, request, choices, self.clock())
        self._next_id += 1
        self.live[handle.id] = self.handles[handle.id] = handle
        row = self._branch(handle, 0, [*request.prompt], PageTable(self.cache))
        row.width = request.n
        self.scheduler.add(row)
        return handle

    def abort(self, request_id: int) -> None:
        """End a request at once and free its pages; nothing happens if it has ended."""
        if handle := self.live.get(request_id):
            self._stop(handle, "abort")

    def _stop(self, handle: Handle, reason: str) -> list[Delta]:
        """End a request before its time, and free its pages -> how its choices end."""
        for row in [*self.scheduler.running, *self.scheduler.waiting]:
            if row.order[0] == handle.id:
                self.scheduler.remove(row)
        stopped = [choice for choice in handle.choices if not choice.finish_reason]
        for choice in stopped:
            choice.finish_reason = reason
        self._end(handle, reason)
        return [
            Delta(choice.index, finish_reason=reason, request_id=handle.id)
            for choice in stopped
        ]

    def metrics(self) -> dict[str, float]:
        """Gauges and counters of this moment, by the names that vLLM gives them."""
        running = {row.order[0] for row in self.scheduler.running}
        counted = (
            "prefix_cache_queries", "prefix_cache_hits", "prompt_tokens",
            "generation_tokens",
        )  # fmt: skip
        return {
            "num_requests_running": len(running),
            "num_requests_waiting": len(self.live.keys() - running),
            "kv_cache_usage_perc": self.cache.used / self.cache.num_pages,
            "num_preemptions_total": self.scheduler.preemptions,
            "request_success_total": self.ended.total(),
            **{f"{name}_total": self.counts[name] for name in counted},
        }

    def _check(self, request: Request) -> None:
        for name in ("prompt", "eos_ids"):
            token_ids(name, [*getattr(request, name)], self.config.vocab_size)
        problem, last = None, self.config.vocab_size - 1
        tokens = len(request.prompt) + request.config.max_new_tokens - 1
        room = self.cache.num_pages * self.cache.page_size
        if not request.prompt:
            problem = f"prompt = {request.prompt}, an empty prompt: start from the BOS"
            problem += " token"
        elif not 1 <= request.n <= self.scheduler.max_rows:
            problem = f"n = {request.n}: must be from 1 to {self.scheduler.max_rows}"
        elif request.logprobs is not None and not 0 <= request.logprobs <= last + 1:
            problem = f"logprobs = {request.logprobs}: must be None, or from 0 to"
            problem += f" {last + 1}"
        elif request.stop and (self.tokenizer is None or "" in request.stop):
            problem = f"stop = {request.stop!r:.60}: stop strings need a tokenizer, and"
            problem += " at least one character each"
        elif tokens > room:
            problem = f"{tokens} tokens to keep, and pages for {room}: ask for fewer"
        if problem:
            raise ValueError(problem)

    def _branch(
        self, handle: Handle, i: int, ids: list[int], table: PageTable
    ) -> Branch:
        text, seed = self.tokenizer, handle.request.config.seed
        if seed is not None and i > 0:
            seed = (seed + i) % 2**64
        return Branch(
            (handle.id, i), ids, table,
            handle=handle,
            choice=handle.choices[i],
            generator=seeded_generator(seed, self.device),
            decoder=text.text_decoder(skip_special_tokens=True) if text else None,
            stops=StopStrings(handle.request.stop),
        )  # fmt: skip

    def _end(self, handle: Handle, reason: str) -> None:
        handle.ended = self.clock()
        self.ended[reason] += 1
        del self.live[handle.id]


class Engine(Desk):
    """Requests come and go between two steps; a step computes some tokens of each.

    Nothing runs by itself: whoever holds the engine calls `step`, from one thread. For
    a given order of calls and given seeds the outcome is the same each time.

    Source: Yu et al. 2022, "Orca", section 4.1 (scheduling between iterations).
    """

    @checked
    def __init__(
        self,
        model: DecoderOnlyModel,
        tokenizer: TextTokenizer | None = None,
        budget: int = 2**29,
        max_rows: int = 16,
        max_step_tokens: int = 256,
        *,
        page_size: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`budget` bytes hold the keys and values of all rows. Without a tokenizer
        there is no text, and there are no stop strings. Raises ValueError for a budget
        of less than a page, and for what a Scheduler refuses."""
        at_least(1, page_size=page_size)
        weight, native = model.embed_tokens.weight, compiled_engine()
        a_page = cache_bytes(model.config, page_size, dtype=weight.dtype)
        if budget < a_page:
            raise ValueError(
                f"budget = {budget:,}: a page of {page_size} tokens has {a_page:,}"
                " bytes"
            )
        cache = PagedCache(
            model.config, budget // a_page, page_size,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        scheduler = Scheduler(cache, max_rows, max_step_tokens)
        super().__init__(model.config, cache, scheduler, tokenizer, clock)
        self.model, self.device = model, weight.device
        compiled = native is not None and isinstance(model, native.NativeModel)
        self.logits = logits_of_pass if compiled else logits_by_table

    def step(self) -> list[Delta]:
        """Compute the next tokens -> what was added to which choice; empty when there
        is nothing to do."""
        plan = cast(Plan, self.scheduler.schedule())
        if not plan:
            return []
        self._note_start(plan)
        with torch.inference_mode():
            logits = self.logits(self.model, self.cache, plan)  # [complete rows, V]
        for row, _ in plan:
            row.table.remember(row.ids)
        complete, deltas = [row for row, _ in plan if row.missing == 0], []
        with one_thread():
            scores = self._scores(complete, logits)
            best = scores.max(dim=-1)  # of all rows in one go
            for row, finite in zip(complete, best.values.isfinite(), strict=True):
                if not finite and not row.handle.finished:
                    deltas += self._stop(row.handle, "error")
            for i, row in enumerate(complete):
                if row.choice.finish_reason is None:
                    found = logits[i], scores[i : i + 1], best.indices[i]
                    deltas += [self._choose(one, *found) for one in self._branches(row)]
        return deltas

    def run(self) -> None:
        """Step until nothing is left to do."""
        while not self.idle:
            self.step()

    def stream(self, request_id: int) -> Iterator[Delta]:
        """Yield what comes for one request; steps whenever there is nothing new.
        Leaving the loop aborts the request. Raises KeyError for an unknown id."""
        handle = self.handles[request_id]
        seen = [(0, 0, False)] * len(handle.choices)
        try:
            while True:
                for i, choice in enumerate(handle.choices):
                    old, seen[i] = seen[i], choice.progress
                    if seen[i] != old:
                        yield added(choice, old[0], old[1], handle.id)
                if handle.finished:
                    return
                self.step()
        finally:
            self.abort(request_id)

    def _note_start(self, plan: Plan) -> None:
        now = self.clock()
        for row, _ in plan:
            handle = row.handle
            if handle.started is None:
                handle.started, handle.cached_tokens = now, row.cached or 0
                self.counts["prefix_cache_queries"] += len(handle.request.prompt)
                self.counts["prefix_cache_hits"] += handle.cached_tokens

    def _branches(self, row: Branch) -> list[Branch]:
        """A row that goes on, and when its prompt has just become known its siblings,
        which share its pages."""
        handle = row.handle
        if handle.first_token is None:
            self.counts["prompt_tokens"] += len(handle.request.prompt)
        siblings = [
            self._branch(handle, i, [*row.ids], row.table.fork())
            for i in range(1, row.width)
        ]
        row.width = 1
        for sibling in siblings:
            self.scheduler.start(sibling)
        return [row, *siblings]

    def _scores(self, rows: list[Branch], logits: Logits) -> Logits:
        """What the rows choose by: logits [R, V] after the repetition penalty of each,
        without ids that the tokenizer does not know."""
        scores = logits
        for i, row in enumerate(rows):
            penalty = row.handle.request.config.repetition_penalty
            if penalty != 1:
                scores = logits.clone() if scores is logits else scores
                one, ids = scores[i : i + 1], torch.tensor([row.ids]).to(self.device)
                scores[i : i + 1] = apply_repetition_penalty(one, ids, penalty)
        return scores[:, : self.tokenizer.vocab_size if self.tokenizer else None]

    def _choose(self, row: Branch, raw: Tensor, logits: Logits, best: Tensor) -> Delta:
        """Choose the next token of a row by its own settings: logits [1, V], of which
        `best` is the largest; `raw` [V] has no penalty yet."""
        handle, choice = row.handle, row.choice
        config, before = handle.request.config, len(choice.text)
        logprobs = handle.request.logprobs
        greedy = not config.do_sample or config.temperature == 0
        if not greedy:
            best = choose_token(logits, config, generator=row.generator)
        token = int(best)
        if logprobs is not None:
            choice.logprobs.append(logprob_of(raw, token, logprobs))
        row.add(token)
        self.counts["generation_tokens"] += 1
        if handle.first_token is None:
            handle.first_token = self.clock()
        if choice.finish_reason:
            self.scheduler.remove(row)
            if handle.finished:
                self._end(handle, choice.finish_reason)
        return added(choice, len(choice.token_ids) - 1, before, handle.id)
