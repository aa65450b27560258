"""The chat in a terminal, or at the end of a pipe."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_course.chat.session import Chat, Stats

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
LEAVE_HINT = "Ctrl-C again, Ctrl-D or /quit leaves the chat"


class Terminal:
    """Reads lines, and writes what the model says and, in brackets, what is said about it.

    `read` is given a prompt and returns a line, or raises EOFError; `write` is given text.
    """

    def __init__(
        self, chat: Chat, read: Callable[[str], str], write: Callable[[str], object]
    ) -> None:
        self.chat, self.read, self.write = chat, read, write

    def run(self) -> None:
        """Until the input ends, /quit, or a second Ctrl-C in a row at the prompt."""
        leaving = False
        while True:
            try:
                line = self.read("> ")
                leaving = False
                with first_interrupt(self.chat.stop):
                    self.handle(line)
            except KeyboardInterrupt:
                self.write("\n")
                if leaving:
                    return
                leaving = True
                self.note(LEAVE_HINT)
            except EOFError:
                return

    def handle(self, line: str) -> None:
        """Run a command, or send a message. Raises EOFError for /quit."""
        from llm_course.chat.commands import run_command

        try:
            if line.startswith("/"):
                self.note(run_command(self.chat, line))
            elif line.strip():
                self.answer(line.strip())
        except (ValueError, RuntimeError) as error:  # RuntimeError: torch's, and CheckpointError
            self.note(f"error: {error}")

    def answer(self, text: str) -> None:
        """Write the reply as it is made, then a line about it."""
        column = 0
        try:
            for piece in self.chat.reply(text):
                column = 0 if piece.endswith("\n") else 1
                # a model may write what a terminal takes for commands
                self.write(CONTROL.sub("", piece))
        finally:
            if column:
                self.write("\n")
        self.note(describe(self.chat.stats, self.chat.settings.max_new_tokens))

    def note(self, text: str) -> None:
        self.write(f"[{text}]\n")


def describe(stats: Stats, max_new_tokens: int) -> str:
    """One line about a reply: its tokens, their speed, the prompt's, and why it ended."""
    parts = [f"{stats.tokens} token{'s' * (stats.tokens != 1)}"]
    if stats.rate is not None:
        parts.append(f"{stats.rate:.1f} tokens/s")
    parts.append(f"first after {stats.first:.2f} s")
    parts.append(f"prompt: {stats.reused} reused, {stats.new} new")
    reasons = {
        "stopped": "stopped",
        "max_new_tokens": f"cut at max_new_tokens = {max_new_tokens}",
        "context": "cut: the context is full, /reset starts a new conversation",
    }
    if stats.ending in reasons:
        parts.append(reasons[stats.ending])
    return " · ".join(parts)


@contextmanager
def first_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Inside, the first Ctrl-C calls `stop`; the next one raises KeyboardInterrupt as usual."""

    def handler(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, usual)
        stop()

    usual = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def load_chat(name: str) -> Chat:
    """Load a model, download it if that was never done, and prepare it.

    Raises CheckpointError where it cannot be had, ValueError for one that cannot chat.
    """
    from llm_course.chat.session import Chat
    from llm_course.checkpoints import load_pretrained
    from llm_course.engine import prepare_for_inference

    model, tokenizer = load_pretrained(name)
    if tokenizer is None:
        raise ValueError(f"{name} has no tokenizer: choose a model that comes with one.")
    return Chat(prepare_for_inference(model), tokenizer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chat; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m llm_course.chat", description=__doc__)
    parser.add_argument(
        "--model",
        default="smollm2-135m-instruct",
        help="name of the course's model (the default), folder, hub id, or .gguf file",
    )
    name = parser.parse_args(arguments).model
    try:
        print(f"Loading {name} …", file=sys.stderr, flush=True)
        chat = load_chat(name)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("/help lists the commands. Ctrl-C stops a reply.", file=sys.stderr, flush=True)
    try:
        Terminal(chat, line_reader(), write_at_once).run()
    except BrokenPipeError:  # whoever read our output has left: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def line_reader() -> Callable[[str], str]:
    """`input`, with a prompt and line editing only where somebody types."""
    # Bytes that are no text arrive as lone surrogates, which the tokenizer refuses by name.
    sys.stdin.reconfigure(errors="surrogateescape")
    sys.stdout.reconfigure(errors="replace")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return lambda _prompt: input()
    with suppress(ImportError):  # as on Windows
        import readline  # noqa: F401 (arrow keys and history)
    return input


def write_at_once(text: str) -> None:
    print(text, end="", flush=True)
