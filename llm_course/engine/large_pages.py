# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""Memory for weights in pages of 2 MB."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llm_course.engine.quantize import PackedMatrix

__all__ = ["LARGE", "PIECE", "LINE", "LargePages"]


LARGE = 4 * 2**20  # bytes from which on NumPy asks for large pages
PIECE = 64 * 2**20  # bytes that are taken at a time; untouched ones cost nothing
LINE = 64  # bytes that the memory delivers together


class LargePages:
    """Many small arrays, side by side in a few large ones."""

    def __init__(self) -> None:
        self.free = np.empty(0, np.uint8)

    def hold(self, array: NDArray) -> NDArray:
        """A copy that begins where a line does; a large array is returned as it is."""
        if array.nbytes >= LARGE:
            return array
        room = -(-array.nbytes // LINE) * LINE
        if room > len(self.free):
            piece = np.empty(PIECE, np.uint8)
            self.free = piece[-piece.ctypes.data % LINE :]
        copy = self.free[: array.nbytes].view(array.dtype).reshape(array.shape)
        self.free = self.free[room:]
        copy[...] = array
        return copy

    def hold_matrix(self, packed: PackedMatrix) -> PackedMatrix:
        """The same matrix, in this memory."""
        data, scales = self.hold(packed.data), self.hold(packed.scales)
        return replace(packed, data=data, scales=scales)
