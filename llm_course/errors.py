"""The exceptions of this package, and text that others wrote made fit to be read in
them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

# What a terminal obeys or what turns text around: controls but tab and newline, line
# and paragraph separators, the marks of writing direction, half characters.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)
_LONGEST = 2000


def readable(text: object, limit: int | None = _LONGEST) -> str:
    """Text from a file, a model or a user as a terminal may have it.

    What a terminal would obey becomes `\\x1b` and the like; of more than `limit`
    characters the middle is left out.
    """
    shown = str(text)
    if limit is not None and len(shown) > limit:
        head, tail = limit * 3 // 4, limit - limit * 3 // 4
        shown = f"{shown[:head]} […] {shown[-tail:]}"
    return _UNREADABLE.sub(lambda match: repr(match.group())[1:-1], shown)


class CheckpointError(RuntimeError):
    """Weights or a tokenizer could not be had: missing, damaged, unsupported, or
    nowhere to keep them.

    The message is for the reader of a notebook: it names the file or the value, and
    what to do. It may quote a file that does harm, so it is made `readable`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(readable(message))


class ConfigError(CheckpointError, ValueError):
    """A config that describes no model, engine or way to generate."""


@contextmanager
def library_errors(message: str) -> Iterator[None]:
    """Turn whatever the `tokenizers` library raises into a CheckpointError: `message`,
    then its reason.

    It raises plain Exception, or, when its Rust code panics over a file it did not
    expect, an exception that is none: not a subclass of Exception.
    """
    try:
        yield
    except CheckpointError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise CheckpointError(
                f"{message} ({error!s:.300}): copy the file again."
            ) from error
        raise
