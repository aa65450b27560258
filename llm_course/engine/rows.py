# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""The same products for several rows at once: weights that have been read and unpacked
serve up to 96 rows."""

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
    half,
    i32,
    look_ahead,
    one_row,
    pointer,
    split_inputs,
    upper_half,
)
from llm_course.engine.quantize import GROUP, LANES

__all__ = [
    "BLOCK",
    "eight_inputs",
    "add_products",
    "Room",
    "room_of",
    "tickets",
    "product",
    "multiply",
]


BLOCK = 96  # rows that share weights: their sums fit into the first-level cache


@njit(**OPTIONS)
def eight_inputs(matrix, tile, i, scratch):
    """Inputs i to i + 7 of a tile as float32 [8, 48]: unpacked into `scratch`, or where
    they lie."""
    kind, n = matrix[0], matrix[4]
    first, group = (tile * n + i) * LANES, tile * (n // GROUP) + i // GROUP
    if kind == FLOAT32:
        address = matrix[1] + 4 * first
        look_ahead(address, 4 * 8 * LANES)
        return carray(pointer(address), 8 * LANES, np.float32)
    if kind == BFLOAT16:
        address = matrix[1] + 2 * first
        look_ahead(address, 2 * 8 * LANES)
        b = carray(pointer(address), 8 * LANES, np.uint16)
        for k in range(8 * LANES):
            scratch[k] = upper_half(b[k])
    elif kind == Q8_0:
        address = matrix[1] + first
        look_ahead(address, 8 * LANES)
        q = carray(pointer(address), 8 * LANES, np.int8)
        d = carray(pointer(matrix[2] + 2 * LANES * group), LANES, np.uint16)
        for j in range(LANES):
            scale = half(d[j])
            for u in range(8):
                scratch[u * LANES + j] = f32(q[u * LANES + j]) * scale
    else:
        address = matrix[1] + first // 2
        look_ahead(address, 4 * LANES)
        words = carray(pointer(address), LANES, np.int32)
        dm = carray(pointer(matrix[2] + 4 * LANES * group), 2 * LANES, np.uint16)
        for j in range(LANES):
            word, d4, m4 = words[j], half(dm[j]), half(dm[LANES + j])
            for u in range(8):
                number = f32(i32(i32(word >> i32(4 * u)) & i32(15)))
                scratch[u * LANES + j] = number * d4 + m4
    return scratch


@njit(**OPTIONS)
def add_products(w, x, first, n, rows, acc):
    """acc [rows, 48] += x[:rows, first : first + n] @ w [n, 48]; rows and n in fours.

    Four rows times four inputs at once: each weight that is loaded serves four rows,
    and each sum is loaded once for four inputs.
    """
    for i in range(0, n, 4):
        t, c = w[i * LANES : (i + 4) * LANES], first + i
        for k in range(0, rows, 4):
            p = acc[k * LANES : (k + 4) * LANES]
            a0, a1, a2, a3 = x[k, c], x[k, c + 1], x[k, c + 2], x[k, c + 3]
            k1, k2, k3 = k + 1, k + 2, k + 3
            b0, b1, b2, b3 = x[k1, c], x[k1, c + 1], x[k1, c + 2], x[k1, c + 3]
            c0, c1, c2, c3 = x[k2, c], x[k2, c + 1], x[k2, c + 2], x[k2, c + 3]
            d0, d1, d2, d3 = x[k3, c], x[k3, c + 1], x[k3, c + 2], x[k3, c + 3]
            for j in range(LANES):
                w0, w1, w2, w3 = t[j], t[LANES + j], t[2 * LANES + j], t[3 * LANES + j]
                p[j] += w0 * a0 + w1 * a1 + w2 * a2 + w3 * a3
                p[LANES + j] += w0 * b0 + w1 * b1 + w2 * b2 + w3 * b3
                p[2 * LANES + j] += w0 * c0 + w1 * c1 + w2 * c2 + w3 * c3
                p[3 * LANES + j] += w0 * d0 + w1 * d1 + w2 * d2 + w3 * d3


class Room(NamedTuple):
    """What one thread needs for its products."""

    shifted: NDArray  # [in]: an input as q4_1 wants it, and
    sums: NDArray  # [in / 32]: its groups' sums; see `split_inputs`
    acc: NDArray  # [rows * 48]: what `product` leaves
    part: NDArray  # [48]: the sums of a group
    weights: NDArray  # [8 * 48]: eight inputs of a tile, unpacked


@njit(**OPTIONS)
def room_of(inputs, rows):
    """Room for products of so many rows."""
    return Room(
        np.empty(inputs, f32),
        np.empty(inputs // GROUP, f32),
        np.empty((1 if rows == 1 else BLOCK) * LANES, f32),
        np.empty(LANES, f32),
        np.empty(8 * LANES, f32),
    )


@njit(**OPTIONS)
def tickets(matrix, rows):
    """Into how many pieces a product is cut: tiles times blocks of rows."""
    return matrix[3] * ((rows + BLOCK - 1) // BLOCK)


@njit(**OPTIONS)
def product(matrix, ticket, x, rows, room):
    """One piece of x [rows, in] times the matrix, left in room.acc [rows, 48].

    Returns (first row, rows, first output): where it belongs. x has rows in fours,
    unless it has one.
    """
    acc, tile, row = room.acc, ticket % matrix[3], ticket // matrix[3] * BLOCK
    count = min(BLOCK, rows - row)
    if rows == 1:
        one_row(matrix, tile, x[0], room.shifted, room.sums, acc, room.part)
    else:
        padded = (count + 3) // 4 * 4
        acc[: padded * LANES] = 0
        for i in range(0, matrix[4], 8):
            w = eight_inputs(matrix, tile, i, room.weights)
            add_products(w, x[row:], i, 8, padded, acc)
    return row, count, tile * LANES


@njit(**OPTIONS)
def multiply(packed, x, out):
    """out [rows, tiles * 48] = x [rows, padded in] @ W.T, on one thread: what the steps
    of a pass are tested with."""
    rows = len(out)
    room = room_of(x.shape[1], rows)
    if rows == 1 and packed[0] == Q4_1:
        split_inputs(x[0], packed[4], room.shifted, room.sums)
    for ticket in range(tickets(packed, rows)):
        row, count, column = product(packed, ticket, x, rows, room)
        for m in range(count):
            for j in range(LANES):
                out[row + m, column + j] = room.acc[m * LANES + j]
