"""Text from token ids as they come, without half characters, and in linear time."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol


class TextDecoder(Protocol):
    """Takes ids one by one, and gives their text as soon as it is certain."""

    def push(self, token_id: int) -> str:
        """The text that one more id completes; "" while none is complete."""
        ...

    def finish(self) -> str:
        """The text that was held back, at the end of the ids."""
        ...


class ByteDecoder:
    """The text of ids whose bytes, joined, are UTF-8.

    A text that ends in the middle of a character is held back; bytes that are no
    character become U+FFFD.
    """

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held: list[str] = []

    def push(self, token_id: int) -> str:
        self._held.append(self._decoder.decode(self._bytes_of(token_id)))
        unfinished, _ = self._decoder.getstate()
        return "" if unfinished else self._release()

    def finish(self) -> str:
        self._held.append(self._decoder.decode(b"", final=True))
        return self._release()

    def _release(self) -> str:
        piece, self._held = "".join(self._held), []
        return piece


class WindowDecoder:
    """The text of ids for any decoder that looks at most one piece of text back.

    `decode` is given the ids of the last piece and the new ones, because it may drop a
    space at the beginning of a text. Tokens that spell one byte each wait until
    another kind of token follows: only then is it known what they make together.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], is_byte: Callable[[int], bool]
    ) -> None:
        self._decode, self._is_byte = decode, is_byte
        self._before: list[int] = []
        self._new: list[int] = []

    def push(self, token_id: int) -> str:
        self._new.append(token_id)
        return "" if self._is_byte(token_id) else self._release()

    def finish(self) -> str:
        return self._release()

    def _release(self) -> str:
        whole = self._decode([*self._before, *self._new])
        piece = whole[len(self._decode(self._before)) :]
        if piece:
            self._before, self._new = self._new, []
        return piece


class Shown:
    """Another decoder, without the ids that are not to be shown."""

    def __init__(self, decoder: TextDecoder, shows: Callable[[int], bool]) -> None:
        self._decoder, self._shows = decoder, shows

    def push(self, token_id: int) -> str:
        return self._decoder.push(token_id) if self._shows(token_id) else ""

    def finish(self) -> str:
        return self._decoder.finish()


def pieces_of(ids: Iterable[int], decoder: TextDecoder) -> Iterator[str]:
    """The pieces of a whole stream of ids."""
    for token_id in ids:
        if piece := decoder.push(token_id):
            yield piece
    if piece := decoder.finish():
        yield piece
