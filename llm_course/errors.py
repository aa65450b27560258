"""The exceptions of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CheckpointError(RuntimeError):
    """Weights or a tokenizer could not be had: missing, damaged, unsupported, or
    nowhere to keep them.

    The message is for the reader of a notebook: it names the file or the value, and
    what to do.
    """


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
