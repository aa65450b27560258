# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""Weights in fewer bits, and in the order in which a kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm_course.arguments import checked, shaped

__all__ = [
    "GROUP",
    "LANES",
    "KINDS",
    "WEIGHTS",
    "quantize_q8_0",
    "quantize_q4_1",
    "dequantize",
    "PackedMatrix",
    "in_tiles",
    "padded_inputs",
    "pack_floats",
    "pack_q8_0",
    "pack_q4_1",
    "pack",
]


GROUP = 32  # inputs that share a scale
LANES = 48  # output rows in a tile
KINDS = ("float32", "bfloat16", "q8_0", "q4_1")  # a kind's number is its place
WEIGHTS = {  # name: kinds of the layers' matrices, and of the embedding and the head
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "int8": ("q8_0", "q8_0"),
    "q4_1": ("q4_1", "q8_0"),
}


def quantize_q8_0(weight: NDArray) -> tuple[NDArray, NDArray]:
    """Weights [out, in] -> int8 [out, in] and a float16 scale for each group of 32,
    [out, in / 32].

    The largest weight of a group becomes 127 or -127. `in` must be a multiple of 32.
    """
    groups = weight.reshape(len(weight), -1, GROUP)
    scale = (np.abs(groups).max(axis=-1) / 127).astype(np.float16)
    step = np.where(scale == 0, 1, scale.astype(np.float32))[..., None]
    numbers = np.clip(np.rint(groups / step), -127, 127)
    return numbers.astype(np.int8).reshape(weight.shape), scale


def quantize_q4_1(weight: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Weights [out, in] -> numbers from 0 to 15 [out, in], and for each group of 32 a
    float16 step d and a float16 minimum m, [out, in / 32]: weight = d * number + m."""
    groups = weight.reshape(len(weight), -1, GROUP)
    m = groups.min(axis=-1).astype(np.float16)
    d = ((groups.max(axis=-1) - groups.min(axis=-1)) / 15).astype(np.float16)
    step = np.where(d == 0, 1, d.astype(np.float32))[..., None]
    numbers = np.rint((groups - m.astype(np.float32)[..., None]) / step)
    return np.clip(numbers, 0, 15).astype(np.uint8).reshape(weight.shape), d, m


def dequantize(numbers: NDArray, d: NDArray, m: NDArray | None = None) -> NDArray:
    """Numbers [out, in], d and m [out, in / 32] -> float32 weights [out, in]."""
    groups = numbers.reshape(len(numbers), -1, GROUP).astype(np.float32)
    weight = groups * d.astype(np.float32)[..., None]
    if m is not None:
        weight += m.astype(np.float32)[..., None]
    return weight.reshape(numbers.shape)


@dataclass(frozen=True)
class PackedMatrix:
    """A matrix [outputs, inputs] in tiles of 48 outputs, as the kernels read it.

    `data` is [tiles, words, 48], `scales` [tiles, groups, 48 or 2 * 48] float16 bits.
    A word holds one input of one output row, or for q4_1 eight: input 8 i + u stands in
    bits 4 u to 4 u + 3 of word i. What fills up a row is multiplied by inputs of 0.
    """

    kind: str
    data: NDArray
    scales: NDArray
    outputs: int
    inputs: int

    @property
    def nbytes(self) -> int:
        """Bytes that one product reads."""
        return self.data.nbytes + self.scales.nbytes

    def describe(self) -> tuple[int, int, int, int, int]:
        """Kind, two addresses, tiles and padded inputs: all that a kernel is told."""
        tiles, padded = len(self.data), padded_inputs(self.inputs)
        addresses = self.data.ctypes.data, self.scales.ctypes.data
        return KINDS.index(self.kind), *addresses, tiles, padded

    def rows(self, ids: NDArray) -> NDArray:
        """Rows of the matrix as float32, [len(ids), inputs]: an embedding's lookup."""
        tile, lane = ids // LANES, ids % LANES
        words = self.data[tile, :, lane]  # [ids, words]
        if self.kind == "float32":
            return words[:, : self.inputs]
        if self.kind == "bfloat16":
            wide = words.astype(np.uint32) << 16
            return wide.view(np.float32)[:, : self.inputs]
        d = self.scales[tile, :, lane].view(np.float16)  # [ids, groups]
        if self.kind == "q8_0":
            return dequantize(words, d)[:, : self.inputs]
        shifts = np.arange(0, 32, 4, dtype=np.uint32)
        numbers = (words.view(np.uint32)[..., None] >> shifts) & 15  # [ids, words, 8]
        m = self.scales[tile, :, LANES + lane].view(np.float16)
        return dequantize(numbers.reshape(len(ids), -1), d, m)[:, : self.inputs]


def in_tiles(rows: NDArray) -> NDArray:
    """[out, words] -> [tiles, words, 48], with rows of zeros that fill the last."""
    tiles = -(-len(rows) // LANES)
    full = np.zeros((tiles * LANES, rows.shape[1]), rows.dtype)
    full[: len(rows)] = rows
    tiled = full.reshape(tiles, LANES, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(tiled)


def padded_inputs(inputs: int) -> int:
    """Inputs with zeros up to whole groups."""
    return -(-inputs // GROUP) * GROUP


def pack_floats(weight: NDArray, kind: str, inputs: int) -> PackedMatrix:
    """float32 [out, padded inputs] -> tiles of float32, or of bfloat16: the upper 16
    bits, rounded."""
    if kind == "bfloat16":
        bits = weight.view(np.uint32)
        half = np.uint32(0x7FFF) + ((bits >> 16) & 1)  # a tie goes to the even number
        weight = ((bits + half) >> 16).astype(np.uint16)
    none = np.empty(0, np.uint16)
    return PackedMatrix(kind, in_tiles(weight), none, len(weight), inputs)


def pack_q8_0(numbers: NDArray, d: NDArray, inputs: int) -> PackedMatrix:
    """int8 [out, padded inputs] and float16 scales [out, groups] -> tiles."""
    scales = in_tiles(d.view(np.uint16))
    return PackedMatrix("q8_0", in_tiles(numbers), scales, len(numbers), inputs)


def pack_q4_1(numbers: NDArray, d: NDArray, m: NDArray, inputs: int) -> PackedMatrix:
    """Numbers from 0 to 15 [out, padded inputs], float16 d and m [out, groups] ->
    tiles. Nothing is rounded."""
    words = np.zeros((len(numbers), numbers.shape[1] // 8), np.uint32)
    for u in range(8):
        words |= numbers[:, u::8].astype(np.uint32) << np.uint32(4 * u)
    pair = [in_tiles(x.view(np.uint16)) for x in (d, m)]  # [tiles, groups, 48] each
    scales = np.concatenate(pair, axis=2)  # [tiles, groups, 96]
    return PackedMatrix(
        "q4_1", in_tiles(words.view(np.int32)), scales, len(numbers), inputs
    )


@checked
def pack(weight: NDArray, kind: str) -> PackedMatrix:
    """Bring float32 weights [out, in] into tiles of a kind; q8_0 and q4_1 round them.
    Raises ValueError for a kind that is not one of KINDS."""
    shaped((None, None), weight=weight)
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    outputs, inputs = weight.shape
    full = np.zeros((outputs, padded_inputs(inputs)), np.float32)
    full[:, :inputs] = weight
    if kind in ("float32", "bfloat16"):
        return pack_floats(full, kind, inputs)
    if kind == "q8_0":
        return pack_q8_0(*quantize_q8_0(full), inputs)
    return pack_q4_1(*quantize_q4_1(full), inputs)
