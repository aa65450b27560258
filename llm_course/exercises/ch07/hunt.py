"""The bug hunt of chapter 07: Q4_1 blocks back to weights, right for one block in a
row."""

import numpy as np
from numpy.typing import NDArray

from llm_course.exercises import BugHunt


def right(blocks: NDArray) -> NDArray:
    parts = blocks.reshape(len(blocks), -1, 20)  # [out, in / 32, 20]
    halves = parts[..., :4].copy().view("<f2")  # [out, in / 32, 2]
    d, m = halves.transpose(2, 0, 1).astype(np.float32)  # [out, in / 32] each
    low, high = parts[..., 4:] & 15, parts[..., 4:] >> 4
    numbers = np.concatenate((low, high), axis=-1).reshape(len(blocks), -1)
    return numbers * np.repeat(d, 32, axis=1) + np.repeat(m, 32, axis=1)


PLANTED = """np.repeat(d, 32, axis=1) -> np.tile(d, 32)
np.repeat(m, 32, axis=1) -> np.tile(m, 32)"""
KIND = "it is right as long as a row has one block"
OTHERS = """
the two halves of a byte as neighbours
    np.concatenate -> np.stack
low and high half of a byte exchanged
    (low, high) -> (high, low)
m left out
    + np.repeat(m, 32, axis=1) ->
m subtracted
    + np.repeat -> - np.repeat
d and m exchanged
    d, m = -> m, d =
numbers from -8 to 7, by two's complement
    return numbers -> return ((numbers ^ 8) - 8.0).astype(np.float32)
8 subtracted from each number, as in Q4_0
    return numbers -> return (numbers - np.float32(8))
d and m of the first row for all rows
    d, m = halves -> d, m = np.broadcast_to(halves[:1], halves.shape)
d of the block before
    repeat(d, -> repeat(np.roll(d, 1, axis=1),
"""

CHECK = BugHunt("07.hunt", right, PLANTED, KIND, OTHERS)
