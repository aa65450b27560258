"""The engine's thread: what it does when the engine fails, wholly or over one
request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
import torch

from llm_course.config import GenerationConfig
from llm_course.engine.batch import Engine
from llm_course.engine.request import Choice, Request
from llm_course.serve.metrics import Metrics
from llm_course.serve.refusals import Refusal
from llm_course.serve.worker import Job, Worker
from tests.batch_tools import alone
from tests.helpers import small_model
from tests.serve.tools import in_a_loop

GREEDY = GenerationConfig(max_new_tokens=12, do_sample=False)
Test = Callable[[Worker], Awaitable[None]]


def with_worker(test: Test, engine: Engine | None = None) -> list[str]:
    """Run `test` beside a worker, and end it -> "died" if its thread gave up."""
    engine = engine or Engine(small_model(), budget=2**18, max_rows=4)
    died: list[str] = []
    worker = Worker(engine, Metrics(engine, "m"), lambda: died.append("died"))

    async def run() -> None:
        worker.start()
        try:
            await asyncio.wait_for(test(worker), 30)
        finally:
            await worker.stop()
        assert not worker.alive

    in_a_loop(run())
    assert engine.cache.used == 0 or died
    return died


async def answers(worker: Worker, *requests: Request) -> list[Choice]:
    job = Job(requests, streams=False)
    await worker.submit(job)
    async for _ in job.deltas():
        pass
    return job.choices


def ask(*prompt: int, **changes) -> Request:
    return Request(prompt, GREEDY, **changes)


def test_all_are_answered_as_if_they_were_alone() -> None:
    prompts = [(i, i + 1, 5) for i in range(10)]

    async def test(worker: Worker) -> None:
        found = await asyncio.gather(*(answers(worker, ask(*p)) for p in prompts))
        for prompt, (choice,) in zip(prompts, found, strict=True):
            want = alone(worker.engine.model, [*prompt], GREEDY)
            assert choice.token_ids == want

    assert with_worker(test) == []


def fails_over(token: int, how: str) -> Engine:
    """An engine that fails over rows that hold a token."""
    engine = Engine(small_model(), budget=2**18, max_rows=4)
    logits = engine.logits

    def failing(model, cache, plan):
        found = logits(model, cache, plan)
        rows = [row for row, _ in plan if row.missing == 0]
        bad = [i for i, row in enumerate(rows) if row.ids[0] == token]
        if bad and how == "raises":
            raise RuntimeError("the device is lost")
        if bad:
            found[bad] = float(how)
        return found

    engine.logits = failing
    return engine


@pytest.mark.parametrize("how", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("n", [1, 2])
def test_logits_that_are_not_finite_fail_their_own_request_alone(
    how: str, n: int
) -> None:
    async def test(worker: Worker) -> None:
        good = [answers(worker, ask(i, 3, 4)) for i in (1, 2)]
        bad = answers(worker, ask(7, 3, 4, n=n), ask(7, 9))
        *fine, fault = await asyncio.gather(*good, bad, return_exceptions=True)
        assert isinstance(fault, Refusal)
        assert fault.status == 500
        assert fault.body["error"]["code"] == "logits_not_finite"
        for i, (choice,) in zip((1, 2), fine, strict=True):
            assert choice.token_ids == alone(worker.engine.model, [i, 3, 4], GREEDY)
        assert (await answers(worker, ask(1, 2)))[0].finish_reason == "length"

    assert with_worker(test, fails_over(7, how)) == []


def test_a_step_that_fails_is_told_to_all_and_the_thread_goes_on() -> None:
    async def test(worker: Worker) -> None:
        calls = [answers(worker, ask(i, 3, 4)) for i in (1, 7, 2)]
        faults = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(fault, Refusal) for fault in faults] == [True] * 3
        assert {fault.status for fault in faults} == {500}
        assert "device" not in str(faults[0])  # that is for the log
        assert (await answers(worker, ask(1, 2)))[0].finish_reason == "length"

    assert with_worker(test, fails_over(7, "raises")) == []


def test_an_engine_beyond_repair_ends_clearly() -> None:
    engine = fails_over(7, "raises")
    engine.abort = lambda request_id: None  # its pages stay taken

    async def test(worker: Worker) -> None:
        with pytest.raises(Refusal, match="engine failed"):
            await answers(worker, ask(7, 3))
        with pytest.raises(Refusal, match="shutting down"):
            await answers(worker, ask(1, 3))

    assert with_worker(test, engine) == ["died"]


def test_what_the_engine_does_not_take_is_refused_with_its_words() -> None:
    async def test(worker: Worker) -> None:
        with pytest.raises(Refusal, match="an empty prompt") as caught:
            await answers(worker, ask(1), ask())
        assert caught.value.status == 400
        with pytest.raises(Refusal, match="n = 5"):
            await answers(worker, ask(1, n=5))
        assert worker.engine.idle  # nothing is left of the first half

    with_worker(test)


def test_an_aborted_job_is_gone_by_the_next_step() -> None:
    async def test(worker: Worker) -> None:
        long = GenerationConfig(max_new_tokens=40, do_sample=False)
        job = Job([Request((1, 2), long, n=2)], streams=True)
        await worker.submit(job)
        async for _ in job.deltas():
            break
        worker.abort(job)
        await answers(worker, ask(5))
        assert {choice.finish_reason for choice in job.choices} == {"abort"}
        assert len(job.choices[0].token_ids) < 40

    with_worker(test)


def test_the_event_loop_goes_on_during_a_step() -> None:
    engine = Engine(small_model(), budget=2**18)
    logits, entered, leave = engine.logits, threading.Event(), threading.Event()

    def slow(*arguments) -> torch.Tensor:
        entered.set()
        assert leave.wait(30)
        return logits(*arguments)

    engine.logits = slow

    async def test(worker: Worker) -> None:
        call = asyncio.create_task(answers(worker, ask(1, 2)))
        while not entered.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # the step is still in its middle
        leave.set()
        await call

    with_worker(test, engine)


def test_what_comes_after_the_end_is_refused() -> None:
    async def test(worker: Worker) -> None:
        await worker.stop()
        with pytest.raises(Refusal, match="shutting down"):
            await answers(worker, ask(1))

    with_worker(test)
