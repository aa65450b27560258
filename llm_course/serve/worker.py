"""The one thread that the engine lives in, and how news of it reach the event loop."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from llm_course.engine.batch import Engine
from llm_course.engine.request import Choice, Delta, Handle, Request
from llm_course.serve.metrics import Metrics
from llm_course.serve.refusals import Refusal, damaged, failed, shutting_down

log = logging.getLogger("llm_course.serve")
News = Delta | Refusal


class Job:
    """The requests of one call, which are answered together. Made in the event loop."""

    def __init__(self, requests: Sequence[Request], streams: bool) -> None:
        self.requests, self.streams = requests, streams
        self.handles: list[Handle] = []
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def count(self) -> int:
        """Answers that it asks for."""
        return sum(request.n for request in self.requests)

    @property
    def choices(self) -> list[Choice]:
        """The answers as far as they have come, those to the first prompt first."""
        return [choice for handle in self.handles for choice in handle.choices]

    def refuse(self, refusal: Refusal) -> None:
        """Let whoever waits for it hear that no more will come."""
        _settle(self.taken, refusal)
        self.news.put_nowait(refusal)

    async def deltas(self) -> AsyncIterator[Delta]:
        """What comes, to the end of all answers. Without `streams`, only their ends.
        Raises Refusal if they are given up."""
        left = self.count
        while left:
            news = await self.news.get()
            if isinstance(news, Refusal):
                raise news
            left -= news.finish_reason is not None
            yield news


@dataclass
class Course:
    """A request in the engine: whose it is, and where its answers stand there."""

    job: Job
    handle: Handle
    offset: int
    times: list[float | None]  # of each answer's latest token


class Worker:
    """Runs an engine in a thread of its own. All methods without an underscore are for
    the event loop; none of them waits for the thread but `taken` and `stop`."""

    def __init__(
        self, engine: Engine, metrics: Metrics, on_death: Callable[[], None]
    ) -> None:
        self.engine, self.metrics, self.on_death = engine, metrics, on_death
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._courses: dict[int, Course] = {}
        self._outgoing: list[Callable[[], None]] = []
        self._ended = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError outside an event loop."""
        self.loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def submit(self, job: Job) -> None:
        """Hand over a job. Raises Refusal for what the engine does not take."""
        self._inbox.put(partial(self._add, job))
        if self._ended:  # nobody may look into the inbox again
            raise shutting_down()
        await job.taken

    def abort(self, job: Job) -> None:
        """End what is left of a job before the next step."""
        self._inbox.put(partial(self._abort, job))

    async def stop(self, seconds: float = 10.0) -> None:
        """End the thread, if it ends within so many seconds."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, seconds)

    def _run(self) -> None:
        try:
            while self._obey():
                if not self.engine.idle:
                    self._step()
                    self._publish()
            self._give_up(shutting_down())
        except Exception:
            log.exception("The engine is beyond repair, and the server ends")
            self._tell(self.on_death)
        self._ended = True
        with suppress(queue.Empty):
            while command := self._inbox.get_nowait():
                command()
        self._publish()

    def _obey(self) -> bool:
        """Do what the event loop asks for; wait for it if there is nothing else to do.
        False: end."""
        with suppress(queue.Empty):
            while True:
                command = self._inbox.get(block=self.engine.idle)
                if command is None:
                    return False
                command()
                self._publish()
        return True

    def _step(self) -> None:
        try:
            deltas = self.engine.step()
        except Exception:
            log.exception("A step failed; all requests in the engine are given up")
            self._give_up(failed())
            if self.engine.cache.used:
                raise
            return
        now = self.engine.clock()
        courses = [(self._courses.get(delta.request_id), delta) for delta in deltas]
        for course, delta in courses:
            if course and delta.finish_reason == "error":
                self._refuse(course.job, damaged())
        for course, delta in courses:
            if course and delta.finish_reason != "error":
                self._note(course, delta, now)

    def _note(self, course: Course, delta: Delta, now: float) -> None:
        """Count a token, and pass it on."""
        job, handle, before = course.job, course.handle, course.times[delta.index]
        if before is not None:
            self.metrics.next_token(now - before)
        elif not any(course.times):
            self.metrics.first_token(handle)
        course.times[delta.index] = now
        if handle.finished and handle.id in self._courses:
            del self._courses[handle.id]
            self.metrics.end(handle)
        if job.streams or delta.finish_reason:
            delta.index += course.offset
            self._tell(partial(job.news.put_nowait, delta))

    def _add(self, job: Job) -> None:
        if self._ended:
            self._tell(partial(_settle, job.taken, shutting_down()))
            return
        offset = 0
        try:
            for request in job.requests:
                handle = self.engine.add(request)
                job.handles.append(handle)
                times: list[float | None] = [None] * request.n
                self._courses[handle.id] = Course(job, handle, offset, times)
                offset += request.n
        except ValueError as error:
            self._abort(job)
            self._tell(partial(_settle, job.taken, Refusal(400, error)))
        else:
            self._tell(partial(_settle, job.taken, None))

    def _abort(self, job: Job) -> None:
        for handle in job.handles:
            if self._courses.pop(handle.id, None):
                self.engine.abort(handle.id)

    def _refuse(self, job: Job, refusal: Refusal) -> None:
        self._abort(job)
        self._tell(partial(job.refuse, refusal))

    def _give_up(self, refusal: Refusal) -> None:
        for job in {id(c.job): c.job for c in self._courses.values()}.values():
            self._refuse(job, refusal)

    def _tell(self, news: Callable[[], None]) -> None:
        self._outgoing.append(news)

    def _publish(self) -> None:
        """Wake the event loop once for all that has come up."""
        self.metrics.update()
        news, self._outgoing = self._outgoing, []
        if news and self.loop:
            with suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(_call_all, news)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _settle(future: asyncio.Future[None], refusal: Refusal | None) -> None:
    if future.done():  # whoever waited was cancelled
        return
    if refusal:
        future.set_exception(refusal)
    else:
        future.set_result(None)
