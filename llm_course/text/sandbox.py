"""Run a chat template that came with a checkpoint: no access to Python, and bounded
time and memory.

Jinja's sandbox keeps a template away from Python's internals, but not from looping for
hours or doubling a string forty times. So templates run in a process of their own,
`template_worker.py`, which is killed when it takes too long or too much. It is started
when the first chat is rendered and serves all that follow.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

MAX_TEMPLATE = 200_000  # characters; the longest in use have about 20,000
MAX_TEXT = 5_000_000  # characters of a rendered chat
MEMORY = 512_000_000  # bytes of the process, of which Python itself takes about 50
SECONDS = 5.0  # for one chat; an ordinary one takes milliseconds
START_SECONDS = 30.0
_LOOK = 0.01  # seconds between two looks at the memory
_WORKER = Path(__file__).with_name("template_worker.py")


class TemplateRefusal(Exception):
    """The template called `raise_exception`: it will not have these messages."""


class TemplateFailure(Exception):
    """The template is wrong, reaches for Python's internals, or does too much."""


def render(template: str, values: dict[str, Any]) -> str:
    """Return the text that `template` makes of `values`, which are JSON.

    Raises TemplateRefusal where the template itself refuses, TemplateFailure where it
    cannot be rendered within the limits.
    """
    if len(template) > MAX_TEMPLATE:
        raise TemplateFailure(f"it has {len(template):,} characters")
    request = json.dumps({"template": template, "values": values}).encode()
    answer = json.loads(_workers.ask(request))
    if "refused" in answer:
        raise TemplateRefusal(answer["refused"])
    if "error" in answer:
        raise TemplateFailure(answer["error"])
    return answer["text"]


class _Worker:
    """One process that renders, and the thread that reads its answers."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("jinja2")
        if found is None or found.origin is None:
            raise TemplateFailure("the package jinja2 is not installed")
        place = Path(found.origin).parents[1]
        limits = map(str, (MEMORY, SECONDS, MAX_TEXT))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WORKER), str(place), *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for the program that the reader sees
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise TemplateFailure(f"its process does not start, {error}") from error
        self.owner, self.pid = os.getpid(), self.process.pid
        self.answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            # not always that of `process`: on Windows a launcher stands between
            self.pid = int(self._answer(START_SECONDS))
        except BaseException:
            self.end()
            raise

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.answers.put(line)
        self.answers.put(b"")  # it has ended

    def ask(self, request: bytes) -> bytes:
        """The answer to one request. Raises TemplateFailure past a limit."""
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended: no answer will come
            self.process.stdin.write(request + b"\n")
            self.process.stdin.flush()
        return self._answer(SECONDS)

    def _answer(self, seconds: float) -> bytes:
        end = time.monotonic() + seconds
        while True:
            with suppress(queue.Empty):
                answer = self.answers.get(timeout=_LOOK)
                if not answer:
                    raise TemplateFailure("it asks for too much, and its process died")
                return answer
            if time.monotonic() > end:
                raise TemplateFailure(f"it takes more than {seconds:g} seconds")
            with suppress(psutil.Error):
                if psutil.Process(self.pid).memory_info().rss > MEMORY:
                    raise TemplateFailure("it asks for too much memory")

    def end(self) -> None:
        """Kill the process, if it still runs."""
        if self.owner == os.getpid():  # not in a fork
            self.process.kill()
            self.process.wait()
            with suppress(OSError):
                self.process.stdin.close()  # type: ignore[union-attr]


class _Workers:
    """At most one worker, made when it is needed and replaced when it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def ask(self, request: bytes) -> bytes:
        """The worker's answer; a worker that breaks a limit, or is left in mid-work, is
        killed."""
        with self._lock:
            worker = self._worker
            if worker is None or worker.owner != os.getpid():
                worker = self._worker = _Worker()
            try:
                return worker.ask(request)
            except BaseException:
                self._worker = None
                worker.end()
                raise

    def end(self) -> None:
        """Kill the worker, if there is one."""
        with self._lock:
            if self._worker is not None:
                self._worker.end()
                self._worker = None


_workers = _Workers()
atexit.register(_workers.end)
