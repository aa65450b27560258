"""Blocks of 32 four-bit numbers as GGUF stores them, made from known parts."""

import numpy as np
from numpy.typing import NDArray


def packed(numbers: NDArray, *scales: NDArray) -> NDArray:
    """Numbers from 0 to 15 [out, in] and float16 scales [out, in / 32] -> bytes.

    Each block is its scales, one after the other, then 16 bytes: byte i holds number i
    in its low half and number i + 16 in its high half. Returns uint8 [out, bytes].
    """
    halves = numbers.astype(np.uint8).reshape(len(numbers), -1, 2, 16)
    heads = [d.astype("<f2")[..., None].view(np.uint8) for d in scales]
    bodies = halves[:, :, 0] | halves[:, :, 1] << 4
    return np.concatenate([*heads, bodies], axis=-1).reshape(len(numbers), -1)


def some_numbers(*shape: int, seed: int = 0) -> NDArray:
    """Numbers from 0 to 15, the same at each call."""
    return np.random.default_rng(seed).integers(0, 16, shape, dtype=np.uint8)
