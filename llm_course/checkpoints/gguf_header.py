"""Read the header of a GGUF file; every count and length in it is checked against the
file's size.

The layout (versions 2 and 3, little-endian; a string is its length as u64, then UTF-8
bytes)::

    "GGUF", version u32, number of tensors u64, number of metadata entries u64
    metadata    key string, kind u32, value; an array is its items' kind u32, its
                length u64, the items
    tensors     name string, number of dimensions u32, dimensions u64 (innermost first),
                kind u32, offset u64
    padding, then the tensors' bytes; offsets count from there and are multiples of the
    alignment
"""

from __future__ import annotations

import math
import mmap
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

# Far above what real files hold (300,000 strings, 1,200 tensors), and still quick to
# read.
_MAX_STRINGS, _MAX_ENTRIES, _MAX_DIMENSIONS = 4_000_000, 65_536, 4
_STRING, _ARRAY = 8, 9
_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))


class UnknownKind(ValueError):
    """The number of a kind of tensors that the `gguf` package does not know."""


class GgufTensor(NamedTuple):
    """A tensor in the file: `shape` outermost dimension first, `data` its stored bytes
    (read-only)."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    data: np.ndarray


def read_header(path: Path) -> tuple[dict[str, Any], list[GgufTensor]]:
    """Return (metadata, tensors). The tensors' bytes stay mapped to the file.

    A metadata array is a list of strings or a numpy array of numbers. Raises ValueError
    that says what is wrong with the file, and OSError where it cannot be opened.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("it does not start with the letters GGUF")
        data = np.frombuffer(
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8
        )
    cursor = _Cursor(data.data)
    cursor.take(4)
    version, tensor_count, entry_count = cursor.numbers("<IQQ")
    if version not in (2, 3):
        raise ValueError(f"its version is {version}, where 2 and 3 can be read")
    if max(tensor_count, entry_count) > _MAX_ENTRIES:
        raise ValueError(
            f"{tensor_count} tensors and {entry_count} metadata entries are announced"
        )

    metadata: dict[str, Any] = {}
    for _ in range(entry_count):
        key, (kind,) = cursor.string(), cursor.numbers("<I")
        if key in metadata:
            raise ValueError(f"the key {key!r:.100} appears twice")
        metadata[key] = cursor.value(kind)
    infos = [_tensor_info(cursor) for _ in range(tensor_count)]
    if len({name for name, *_ in infos}) < len(infos):
        raise ValueError("a tensor's name appears twice")
    return metadata, _tensors(
        infos, data, cursor.at, metadata.get("general.alignment", 32)
    )


def release(data: np.ndarray) -> None:
    """Tell the system that a tensor's mapped bytes are not needed for now.

    They then no longer count as this process's memory; whoever looks again reads them
    from the file.
    """
    base: Any = data
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if not isinstance(mapped, mmap.mmap) or not hasattr(mapped, "madvise"):
        return  # not mapped, or on Windows
    start = data.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, first, start + data.nbytes - first)


class _Cursor:
    """A place in the file that only moves forward, and never past the end."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at, self.strings = data, 0, 0

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise ValueError(
                f"{size} bytes are announced at byte {self.at}, beyond the end"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def string(self) -> str:
        self.strings += 1
        if self.strings > _MAX_STRINGS:
            raise ValueError(f"it holds more than {_MAX_STRINGS} strings")
        return str(self.take(*self.numbers("<Q")), "utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _NUMBERS:
            return self.numbers(f"<{_NUMBERS[kind]}")[0]
        if kind != _ARRAY:
            raise ValueError(f"there is no metadata of kind {kind}")
        item, length = self.numbers("<IQ")
        if item == _STRING:
            return [self.string() for _ in range(length)]
        if item not in _NUMBERS:
            raise ValueError(f"arrays of kind {item} are not read")
        form = np.dtype(_NUMBERS[item]).newbyteorder("<")
        return np.frombuffer(self.take(length * form.itemsize), form)


def _tensor_info(cursor: _Cursor) -> tuple[str, Kind, tuple[int, ...], int]:
    """Return (name, kind, shape, offset) of the tensor described here."""
    name, (count,) = cursor.string(), cursor.numbers("<I")
    if count > _MAX_DIMENSIONS:
        raise ValueError(f"the tensor {name!r:.100} has {count} dimensions")
    dimensions = cursor.numbers(f"<{count}Q")
    number, offset = cursor.numbers("<IQ")
    try:
        kind = Kind(number)
    except ValueError as error:
        raise UnknownKind(number) from error
    return name, kind, tuple(reversed(dimensions)), offset


def _tensors(
    infos: list, data: np.ndarray, header_end: int, alignment: object
) -> list[GgufTensor]:
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment is {alignment!r:.100}, not a power of two")
    start = -(-header_end // alignment) * alignment
    tensors, spans = [], []
    for name, kind, shape, offset in infos:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if (shape[-1] if shape else 1) % block:
            raise ValueError(
                f"the rows of {name!r:.100} do not divide into blocks of {block}"
            )
        first, length = start + offset, math.prod(shape) // block * size
        if offset % alignment or first + length > len(data):
            raise ValueError(
                f"the data of {name!r:.100} are misplaced or beyond the end"
            )
        tensors.append(GgufTensor(name, kind, shape, data[first : first + length]))
        spans.append((first, first + length))
    spans.sort()
    if any(end > following for (_, end), (following, _) in pairwise(spans)):
        raise ValueError("the data of two tensors overlap")
    return tensors
