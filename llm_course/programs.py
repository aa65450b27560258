"""How the programs of this package end: with a status, and one sentence for what
failed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from llm_course.errors import readable


class Parser(argparse.ArgumentParser):
    """A parser whose complaints a terminal can show, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        """Write the usage and `message`, and exit with status 2."""
        super().error(readable(message, 300))


def run_program(main: Callable[[], int | None]) -> int:
    """Run a program and return its exit status.

    Whoever reads the output may leave, as in `… | head`: then it ends in silence. An
    output or an input that fails otherwise, on a full disk say, is one sentence.
    """
    try:
        try:
            status = main() or 0
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        complain(f"The program stops: {error}.")
        return 1
    return status


def complain(sentence: object) -> None:
    """Write to the error output, where there is one."""
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"{readable(sentence)}\n")
        sys.stderr.flush()


def missing_streams(*names: str) -> bool:
    """Complain, and return True, if "stdin" or "stdout" is named and closed."""
    words = {"stdin": "input", "stdout": "output"}
    for name in names:
        if getattr(sys, name) is None:
            complain(
                f"The standard {words[name]} is closed: start the program in a"
                " terminal, or with a file or a pipe there."
            )
            return True
    return False


def _drop_output() -> None:
    """Python writes what is left at its end, and would complain again."""
    with suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
