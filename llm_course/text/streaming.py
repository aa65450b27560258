"""Text from token ids as they come, without half characters, and in linear time."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator


def stream_bytes(ids: Iterable[int], bytes_of: Callable[[int], bytes]) -> Iterator[str]:
    """Yield the text of ids whose bytes, joined, are UTF-8.

    A text that ends in the middle of a character is held back; bytes that are no
    character become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held: list[str] = []
    for i in ids:
        held.append(decoder.decode(bytes_of(i)))
        unfinished, _ = decoder.getstate()
        if not unfinished and (piece := "".join(held)):
            yield piece
            held = []
    if piece := "".join(held) + decoder.decode(b"", final=True):
        yield piece


def stream_windows(
    ids: Iterable[int],
    decode: Callable[[list[int]], str],
    is_byte: Callable[[int], bool],
) -> Iterator[str]:
    """Yield the text of ids for any decoder that looks at most one piece of text back.

    `decode` is given the ids of the last piece and the new ones, because it may drop a
    space at the beginning of a text. Tokens that spell one byte each wait until
    another kind of token follows: only then is it known what they make together.
    """
    before: list[int] = []
    new: list[int] = []
    for i in ids:
        new.append(i)
        if not is_byte(i) and (piece := _added(before, new, decode)):
            yield piece
            before, new = new, []
    if piece := _added(before, new, decode):
        yield piece


def _added(
    before: list[int], new: list[int], decode: Callable[[list[int]], str]
) -> str:
    return decode([*before, *new])[len(decode(before)) :]
