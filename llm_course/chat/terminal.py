"""Talk with the model in a terminal, or through a pipe.

    python -m llm_course.chat [--model NAME_OR_PATH] [--system TEXT] [--set NAME VALUE]
                              [--weights KIND] [--threads N]

One key/value cache serves the whole conversation: each turn prefills only what is new.
Ctrl-C stops a reply; the chat goes on.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import cast

from llm_course.chat.session import Chat
from llm_course.checkpoints import load_pretrained
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.programs import Parser, add_model_options, complain, missing_streams
from llm_course.text import Tokenizer


@contextmanager
def first_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Inside, the first Ctrl-C calls `stop`, and the next one raises KeyboardInterrupt
    as usual."""

    def handler(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, usual)
        stop()

    usual = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def talk(chat: Chat, read: Callable[[], str]) -> None:
    """Handle lines until /quit, the end of the input (EOFError), or Ctrl-C twice at the
    prompt."""
    asked = False
    while True:
        try:
            line = read()
            asked = False
            with first_interrupt(chat.stop):
                if not chat.handle(line):
                    return
        except EOFError:
            return
        except KeyboardInterrupt:
            chat.write("\n")
            if asked:
                return
            asked = True
            chat.write("[Ctrl-C again, Ctrl-D or /quit to leave]\n")


def read_line() -> str:
    """A line of the input, with a prompt where somebody types."""
    return input("> " if sys.stdin.isatty() else "")


def write(text: str) -> None:
    print(text, end="", flush=True)


def load_model(
    name: str, weights: str, threads: int | None
) -> tuple[DecoderOnlyModel, Tokenizer | None]:
    """A model that is ready for inference, its weights in one of WEIGHTS."""
    if weights == "file":
        return load_pretrained(name, weights="file", threads=threads)
    # not at the top: --help needs no kernels
    from llm_course.engine import prepare_for_inference

    model, tokenizer = load_pretrained(name)
    return prepare_for_inference(model, weights, threads), tokenizer


def load(args: argparse.Namespace) -> Chat:
    """Raises CheckpointError for a model that cannot be had, ValueError for an option
    that is wrong."""
    model, tokenizer = load_model(args.model, args.weights, args.threads)
    if tokenizer is None or not tokenizer.chat_template:
        raise ValueError(f"{args.model} has no chat template: it is not a chat model")
    chat = Chat(model, tokenizer, write=write)
    if args.system:
        chat.set_system(args.system)
    for name, value in args.set or ():
        chat.set(name, value)
    return chat


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Exit status 1 when the model cannot be loaded or an option is
    wrong."""
    parser = Parser(
        prog="llm_course.chat",
        description="Talk with the model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("--system", help="the system message; None: the model's own")
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        metavar=("NAME", "VALUE"),
        help="a setting, as /set in the chat; may come several times",
    )
    args = parser.parse_args(argv)
    if missing_streams("stdin", "stdout"):
        return 1
    try:
        chat = load(args)
    except (ValueError, RuntimeError) as error:  # CheckpointError is a RuntimeError
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    with suppress(AttributeError):  # a stand-in of the two without `reconfigure`
        # Bytes that are no text become lone surrogates, which the tokenizer refuses by
        # name.
        cast(TextIOWrapper, sys.stdin).reconfigure(errors="surrogateescape")
        cast(TextIOWrapper, sys.stdout).reconfigure(errors="replace")
    if sys.stdin.isatty():
        with suppress(ImportError):  # not on Windows, which edits lines itself
            import readline  # noqa: F401  # arrow keys and history in input()
        chat.write("Type a message. /help lists the commands.\n")
    talk(chat, read_line)
    return 0
