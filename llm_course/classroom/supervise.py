"""Judge a notebook's answers in processes that are stopped when one takes too long."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_course.authoring.processes import utf8_environment
from llm_course.classroom.answers import Answer, read_answers
from llm_course.classroom.exercise_cells import FormError

LIMIT = 60.0  # seconds for one answer and its check
START = 300.0  # for the process to import PyTorch


@dataclass(frozen=True)
class Row:
    """What became of one answer."""

    answer: Answer
    status: str
    reason: str


class Worker:
    """A process that judges the answers of a notebook from number `first` on."""

    def __init__(self, path: Path, first: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llm_course.classroom.run", str(path), str(first)],
            cwd=path.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=utf8_environment(MPLBACKEND="agg"),
            start_new_session=True,
        )
        self.last_line = "it ended without a word"
        self.messages: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            try:
                self.messages.put(json.loads(line))
            except ValueError:
                self.last_line = line.strip() or self.last_line
        self.messages.put(None)

    def stop(self) -> None:
        """End the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def judge_notebook(path: Path, limit: float = LIMIT) -> Iterator[Row]:
    """A row for each exercise of a notebook, as soon as it is known.

    An answer that takes more than `limit` seconds, or ends its process, fails; the next
    one gets a process of its own. Raises FormError when nothing can be run.
    """
    known = {answer.key: answer for answer in read_answers(path)}
    done = 0
    while True:
        worker = Worker(path, done)
        try:
            for row in _rows(worker, known, limit):
                done += 1
                yield row
            if worker.process.returncode == 0:
                return
        finally:
            worker.stop()


def _rows(worker: Worker, known: dict[str, Answer], limit: float) -> Iterator[Row]:
    """The rows of one process. It has ended well, with status 0, or the last row says
    how not."""
    while True:
        message = _next(worker, START)
        if not isinstance(message, dict):
            raise FormError(f"its exercises cannot be run: {worker.last_line}")
        if not message:
            worker.process.wait()
            return
        answer = known.get(message["exercise"], Answer(message["exercise"]))
        message = _next(worker, limit)
        if isinstance(message, dict):
            yield Row(answer, message["status"], message["reason"])
            continue
        late = f"its cell takes more than {limit:g} s"
        yield Row(answer, "failing", message or late)
        return


def _next(worker: Worker, seconds: float) -> Any:
    """The next message, "" when none comes in time, a reason when the process ended."""
    try:
        message = worker.messages.get(timeout=seconds)
    except queue.Empty:
        return ""
    return "its cell ends the process" if message is None else message
