"""At most one generation runs in a kernel, in a thread of its own, and it always ends.

It ends when another one starts, when a widget is made anew (its cell is run again),
on Stop, on an interrupt of the kernel, and when the kernel shuts down. Python is not
left with a thread at work: one that frees a tensor while Python shuts down aborts the
process.
"""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable
from typing import Any

_owner = threading.RLock()
_latest: Run | None = None


class Run:
    """Work in a thread that looks at `stopped` between its steps."""

    def __init__(self, work: Callable[[Run], None]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=work, args=(self,), daemon=True)

    @property
    def stopped(self) -> bool:
        """Whether the work has been asked to end."""
        return self._stop.is_set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask the work to end after its present step; returns at once."""
        self._stop.set()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the end of the work."""
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)


def start(work: Callable[[Run], None]) -> Run:
    """End what runs, and run `work`, which is given the Run to look at."""
    global _latest
    with _owner:
        end()
        _latest = Run(work)
        _latest._thread.start()
        _listen_for_interrupts()
        return _latest


def end(seconds: float = 20.0) -> None:
    """End what runs, and wait until it has ended."""
    if _latest is not None and _latest.alive:
        _latest.stop()
        _latest.join(seconds)


atexit.register(end)


def _stop_latest(*_: Any) -> None:
    if _latest is not None:
        _latest.stop()


def _listen_for_interrupts() -> None:
    """End the run when the kernel is interrupted, whether it executes a cell or not."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    kernel = getattr(shell, "kernel", None)
    if shell is None or kernel is None:  # a script, a test
        return
    if _after_cell not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", _after_cell)
    kernel.io_loop.add_callback(_take_interrupts, kernel)


def _after_cell(result: Any) -> None:
    if isinstance(result.error_in_exec, KeyboardInterrupt):
        _stop_latest()


def _take_interrupts(kernel: Any) -> None:
    """Install the handler of an idle kernel, which else ignores interrupts.

    While it handles a message it has another, and afterwards it would put back the one
    before: then we come again.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        kernel.io_loop.call_later(0.1, _take_interrupts, kernel)
    else:
        signal.signal(signal.SIGINT, _stop_latest)
