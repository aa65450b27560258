"""What the programs of this package share: the options for a model, and how they end,
with a status, and one sentence for what failed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from llm_course.errors import readable

MODEL = "smollm2-135m-instruct"
WEIGHTS = ("float32", "bfloat16", "int8", "q4_1", "file")


class Parser(argparse.ArgumentParser):
    """A parser whose complaints a terminal can show, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        """Write the usage and `message`, and exit with status 2."""
        super().error(readable(message, 300))


def whole(low: int, high: int = 2**40) -> Callable[[str], int]:
    """A whole number from `low` to `high`, as argparse wants it."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            fix = f"a whole number from {low}" + f" to {high}" * (high < 2**40)
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: must be {fix}")
        return value

    return read


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and how: `--model`, `--weights` and `--threads`."""
    add = parser.add_argument
    add("--model", default=MODEL, help="a name, a folder, or a .gguf file")
    add(
        "--weights",
        choices=WEIGHTS,
        default="float32",
        help='how they are kept in memory; "file": in a .gguf file\'s own numbers',
    )
    add("--threads", type=whole(1, 1024), metavar="N", help="None: all cores")


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
