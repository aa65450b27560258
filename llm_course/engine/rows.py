# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""The same products for several rows at once: weights that have been read serve up to
96 rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from llm_course.engine.kernels import (
    BFLOAT16,
    FLOAT32,
    OPTIONS,
    Q4_1,
    Q8_0,
    f32,
    float_of,
    i32,
    look_ahead,
    one_row,
    pointer,
    split_inputs,
)
from llm_course.engine.quantize import GROUP, LANES
from llm_course.engine.strips import (
    ROWS,
    STRIP,
    strip_bfloat16,
    strip_float16,
    strip_float32,
    strip_of_pairs,
)

__all__ = [
    "BLOCK",
    "add_floats",
    "add_products",
    "round_inputs",
    "pairs_of_q8_0",
    "pairs_of_q4_1",
    "Room",
    "room_of",
    "add_integers",
    "tickets",
    "sums_of",
    "product",
    "multiply",
]


BLOCK = 96  # rows that share weights: their sums fit into the first-level cache


@njit(**OPTIONS)
def add_floats(kind, w, below, x, down, right, n, rows, acc):
    """acc [rows, 48] += x [rows, n] @ w [n, 48]; rows in fours, w and x by address.
    The minima of q4_1 are float16."""
    size = 4 if kind == FLOAT32 else 2
    for lane in range(0, LANES, STRIP):
        for row in range(0, rows, ROWS):
            here, at = w + size * lane, x + down * row
            to = acc.ctypes.data + 4 * (LANES * row + lane)
            if kind == FLOAT32:
                strip_float32(here, below, at, down, right, n, to)
            elif kind == BFLOAT16:
                strip_bfloat16(here, below, at, down, right, n, to)
            else:
                strip_float16(here, below, at, down, right, n, to)


@njit(**OPTIONS)
def add_products(w, x, first, n, rows, acc):
    """acc [rows, 48] += x[:rows, first : first + n] @ w [n, 48], all of them arrays of
    float32; rows in fours."""
    down, right = x.strides
    at = x.ctypes.data + right * first
    add_floats(FLOAT32, w.ctypes.data, 4 * LANES, at, down, right, n, rows, acc)


@njit(**OPTIONS)
def round_inputs(x, rows, numbers, steps, sums):
    """x [rows, in] -> int16 numbers [rows, in], and for each group of 32 inputs a step
    and the sum of the rounded inputs, [rows, in / 32].

    A step is the smallest power of two with which the largest input fits, so whole
    numbers below 2 ** 15 are not changed.
    """
    groups = x.shape[1] // GROUP
    size = x.shape[1] // groups  # 32 as a constant would be unrolled number by number
    for m in range(rows):
        bits = x[m].view(np.int32)
        for g in range(groups):
            start, end = g * size, (g + 1) * size
            line, to = x[m, start:end], numbers[m, start:end]
            b = bits[start:end]  # as integers, positive floats are in the same order
            largest, total = i32(0), i32(0)
            for i in range(len(line)):
                largest = max(largest, i32(b[i] & i32(0x7FFFFFFF)))
            power = max(i32(largest >> i32(23)), i32(15))  # the exponent + 127
            step = i32(i32(power - i32(14)) << i32(23))  # 2 ** (exponent - 14)
            if power == i32(255):  # infinity or NaN: the product becomes NaN
                step = i32(0x7FC00000)
            inverse = float_of(i32(i32(268 - power) << i32(23)))  # 1 / step
            for i in range(len(line)):
                number = i32(np.floor(line[i] * inverse + f32(0.5)))
                number = min(number, i32(32767))
                to[i], total = number, i32(total + number)
            steps[m, g], sums[m, g] = float_of(step), float_of(step) * f32(total)


@njit(**OPTIONS)
def pairs_of_q8_0(q, pairs):
    """int8 q [32, 48] -> pairs of int16 [16, 48, 2], each in a word of [16, 48]."""
    for i in range(GROUP // 2):
        two, to = (
            q[2 * i * LANES : (2 * i + 2) * LANES],
            pairs[i * LANES : (i + 1) * LANES],
        )
        for j in range(LANES):
            low, high = i32(two[j]), i32(two[LANES + j])
            to[j] = i32(low & i32(0xFFFF)) | i32(high << i32(16))


@njit(**OPTIONS)
def pairs_of_q4_1(words, pairs):
    """Words [4, 48] of eight numbers each -> the same pairs."""
    for i in range(GROUP // 8):
        line = words[i * LANES : (i + 1) * LANES]
        for u in range(4):
            to = pairs[(4 * i + u) * LANES : (4 * i + u + 1) * LANES]
            for j in range(LANES):
                two = i32(line[j] >> i32(8 * u))
                to[j] = i32(two & i32(15)) | i32(i32(two & i32(240)) << i32(12))


class Room(NamedTuple):
    """What one thread needs for its products."""

    shifted: NDArray  # [in]: a single row as q4_1 wants it; see `split_inputs`
    part: NDArray  # [48]: a single row's sums of one group
    numbers: NDArray  # [rows, in]: inputs rounded to int16; see `round_inputs`
    steps: NDArray  # [rows, in / 32]: the step of each group
    sums: NDArray  # [rows, in / 32]: the sum of each group's inputs
    pairs: NDArray  # [16 * 48]: a group of weights, unpacked
    block: NDArray  # [1]: the first of the rows that are rounded now; -1 for none


@njit(**OPTIONS)
def room_of(inputs, rows):
    """Room for products of so many rows."""
    rows = 1 if rows == 1 else BLOCK
    return Room(
        np.empty(inputs, f32),
        np.empty(LANES, f32),
        np.empty((rows, inputs), np.int16),
        np.empty((rows, inputs // GROUP), f32),
        np.empty((rows, inputs // GROUP), f32),
        np.empty(GROUP // 2 * LANES, np.int32),
        np.full(1, -1),
    )


@njit(**OPTIONS)
def add_integers(matrix, tile, rows, room, acc):
    """acc [rows, 48] += the rounded inputs times a tile of q8_0 or q4_1."""
    kind, groups, count = matrix[0], matrix[4] // GROUP, GROUP * LANES
    first, size = tile * groups, 2 * LANES if kind == Q8_0 else 4 * LANES
    if kind == Q4_1:  # each group's minimum times the sum of its inputs
        minima, sums = matrix[2] + size * first + 2 * LANES, room.sums.ctypes.data
        add_floats(kind, minima, size, sums, *room.sums.strides, groups, rows, acc)
    down, steps_down = room.numbers.strides[0], room.steps.strides[0]
    for g in range(groups):
        at = matrix[1] + (count if kind == Q8_0 else count // 2) * (first + g)
        if kind == Q8_0:
            look_ahead(at, count)
            pairs_of_q8_0(carray(pointer(at), count, np.int8), room.pairs)
        else:
            look_ahead(at, count // 2)
            pairs_of_q4_1(carray(pointer(at), count // 8, np.int32), room.pairs)
        scales = matrix[2] + size * (first + g)
        for lane in range(0, LANES, STRIP):
            for row in range(0, rows, ROWS):
                x = room.numbers.ctypes.data + down * row + 2 * GROUP * g
                steps = room.steps.ctypes.data + steps_down * row + 4 * g
                w, d = room.pairs.ctypes.data + 4 * lane, scales + 2 * lane
                to = acc.ctypes.data + 4 * (LANES * row + lane)
                strip_of_pairs(w, x, down, steps, steps_down, d, to)


@njit(**OPTIONS)
def tickets(matrix, rows):
    """Into how many pieces a product is cut: tiles times blocks of rows."""
    return matrix[3] * ((rows + BLOCK - 1) // BLOCK)


@njit(**OPTIONS)
def sums_of(rows):
    """Room for the sums that `product` leaves in `acc`, for so many rows."""
    return np.empty((1 if rows == 1 else BLOCK) * LANES, f32)


@njit(**OPTIONS)
def product(matrix, ticket, x, rows, room, acc):
    """One ticket of x [rows, in] times the matrix, left in acc [rows, 48].

    Returns (first row, rows, first output): where it belongs. The number of rows of x
    is 1 or a multiple of four.
    """
    tile, row = ticket % matrix[3], ticket // matrix[3] * BLOCK
    count = min(BLOCK, rows - row)
    padded = (count + 3) // 4 * 4
    kind, n, block = matrix[0], matrix[4], x[row:]
    if rows == 1:
        one_row(matrix, tile, x[0], room.shifted, room.sums[0], acc, room.part)
        return row, count, tile * LANES
    acc[: padded * LANES] = 0
    if kind in (FLOAT32, BFLOAT16):
        below = 4 * LANES if kind == FLOAT32 else 2 * LANES
        for i in range(0, n, GROUP):  # these weights stay in a cache for all rows
            w, at = matrix[1] + below * (tile * n + i), block.ctypes.data + 4 * i
            down, right = x.strides
            add_floats(kind, w, below, at, down, right, GROUP, padded, acc)
    else:
        if room.block[0] != row:
            round_inputs(block, padded, room.numbers, room.steps, room.sums)
            room.block[0] = row
        add_integers(matrix, tile, padded, room, acc)
    return row, count, tile * LANES


@njit(**OPTIONS)
def multiply(packed, x, out):
    """out [rows, tiles * 48] = x [rows, padded in] @ W.T, on one thread: for tests and
    measurements."""
    rows = len(out)
    room, acc = room_of(x.shape[1], rows), sums_of(rows)
    if rows == 1 and packed[0] == Q4_1:
        split_inputs(x[0], packed[4], room.shifted, room.sums[0])
    for ticket in range(tickets(packed, rows)):
        row, count, column = product(packed, ticket, x, rows, room, acc)
        for m in range(count):
            for j in range(LANES):
                out[row + m, column + j] = acc[m * LANES + j]
