# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""The same products for several rows at once: weights are unpacked once for up to 192
rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from llm_course.engine.kernels import (
    BFLOAT16,
    BLOCK,
    FLOAT32,
    OPTIONS,
    Q4_1,
    Q8_0,
    WIDE,
    f32,
    half,
    i32,
    one_row,
    pointer,
    split_inputs,
    upper_half,
)
from llm_course.engine.quantize import GROUP, LANES

__all__ = [
    "unpack_group",
    "add_products",
    "Room",
    "room_of",
    "tickets",
    "product",
    "multiply",
]


@njit(**OPTIONS)
def unpack_group(matrix, tile, g, lane, out):
    """Group g of a tile as float32 -> out [32, 96], from column `lane` on."""
    kind, n = matrix[0], matrix[4]
    first, group = (tile * n + g * GROUP) * LANES, tile * (n // GROUP) + g
    if kind == FLOAT32:
        w = carray(pointer(matrix[1] + 4 * first), LANES * GROUP, np.float32)
        for i in range(GROUP):
            for j in range(LANES):
                out[i * WIDE + lane + j] = w[i * LANES + j]
    elif kind == BFLOAT16:
        b = carray(pointer(matrix[1] + 2 * first), LANES * GROUP, np.uint16)
        for i in range(GROUP):
            for j in range(LANES):
                out[i * WIDE + lane + j] = upper_half(b[i * LANES + j])
    elif kind == Q8_0:
        q = carray(pointer(matrix[1] + first), LANES * GROUP, np.int8)
        d = carray(pointer(matrix[2] + 2 * LANES * group), LANES, np.uint16)
        for i in range(GROUP):
            for j in range(LANES):
                out[i * WIDE + lane + j] = f32(q[i * LANES + j]) * half(d[j])
    else:
        words = carray(pointer(matrix[1] + first // 2), LANES * GROUP // 8, np.int32)
        dm = carray(pointer(matrix[2] + 4 * LANES * group), 2 * LANES, np.uint16)
        for i in range(GROUP):
            shift, word = i32(4 * (i % 8)), words[i // 8 * LANES : (i // 8 + 1) * LANES]
            for j in range(LANES):
                number = f32(i32(i32(word[j] >> shift) & i32(15)))
                out[i * WIDE + lane + j] = number * half(dm[j]) + half(dm[LANES + j])


@njit(**OPTIONS)
def add_products(w, x, first, n, rows, acc):
    """acc [rows, 96] += x[:rows, first : first + n] @ w [n, 96]; rows and n in fours.

    Four rows times four inputs at once: each weight that is loaded serves four rows,
    and each sum is loaded once for four inputs.
    """
    for k in range(0, rows, 4):
        p = acc[k * WIDE : (k + 4) * WIDE]
        for i in range(0, n, 4):
            t, c = w[i * WIDE : (i + 4) * WIDE], first + i
            a0, a1, a2, a3 = x[k, c], x[k, c + 1], x[k, c + 2], x[k, c + 3]
            k1, k2, k3 = k + 1, k + 2, k + 3
            b0, b1, b2, b3 = x[k1, c], x[k1, c + 1], x[k1, c + 2], x[k1, c + 3]
            c0, c1, c2, c3 = x[k2, c], x[k2, c + 1], x[k2, c + 2], x[k2, c + 3]
            d0, d1, d2, d3 = x[k3, c], x[k3, c + 1], x[k3, c + 2], x[k3, c + 3]
            for j in range(WIDE):
                w0, w1, w2, w3 = t[j], t[WIDE + j], t[2 * WIDE + j], t[3 * WIDE + j]
                p[j] += w0 * a0 + w1 * a1 + w2 * a2 + w3 * a3
                p[WIDE + j] += w0 * b0 + w1 * b1 + w2 * b2 + w3 * b3
                p[2 * WIDE + j] += w0 * c0 + w1 * c1 + w2 * c2 + w3 * c3
                p[3 * WIDE + j] += w0 * d0 + w1 * d1 + w2 * d2 + w3 * d3


class Room(NamedTuple):
    """What one thread needs for its products."""

    shifted: NDArray  # [in]: an input as q4_1 wants it, and
    sums: NDArray  # [in / 32]: its groups' sums; see `split_inputs`
    acc: NDArray  # [rows * 96], or [48] of one row: what `product` leaves
    part: NDArray  # [48]: the sums of a group
    weights: NDArray  # [32 * 96]: a group, unpacked


@njit(**OPTIONS)
def room_of(inputs, rows):
    """Room for products of so many rows."""
    return Room(
        np.empty(inputs, f32),
        np.empty(inputs // GROUP, f32),
        np.empty((1 if rows == 1 else BLOCK) * WIDE, f32),
        np.empty(LANES, f32),
        np.empty(GROUP * WIDE, f32),
    )


@njit(**OPTIONS)
def tickets(matrix, rows):
    """Into how many pieces a product is cut: tiles for one row, else pairs of tiles
    times blocks of rows."""
    if rows == 1:
        return matrix[3]
    return matrix[3] // 2 * ((rows + BLOCK - 1) // BLOCK)


@njit(**OPTIONS)
def product(matrix, ticket, x, rows, room):
    """One piece of x [rows, in] times the matrix, left in room.acc.

    Returns (first row, rows, first output, outputs): where it belongs. x has rows in
    fours, unless it has one.
    """
    acc = room.acc
    if rows == 1:
        one_row(matrix, ticket, x[0], room.shifted, room.sums, acc, room.part)
        return 0, 1, ticket * LANES, LANES
    pair, row = ticket % (matrix[3] // 2), ticket // (matrix[3] // 2) * BLOCK
    count = min(BLOCK, rows - row)
    padded = (count + 3) // 4 * 4
    acc[: padded * WIDE] = 0
    for g in range(matrix[4] // GROUP):
        unpack_group(matrix, 2 * pair, g, 0, room.weights)
        unpack_group(matrix, 2 * pair + 1, g, LANES, room.weights)
        add_products(room.weights, x[row:], g * GROUP, GROUP, padded, acc)
    return row, count, pair * WIDE, WIDE


@njit(**OPTIONS)
def multiply(packed, x, out):
    """out [rows, tiles * 48] = x [rows, padded in] @ W.T, on one thread: what the steps
    of a pass are tested with."""
    rows = len(out)
    room = room_of(x.shape[1], rows)
    if rows == 1 and packed[0] == Q4_1:
        split_inputs(x[0], packed[4], room.shifted, room.sums)
    for ticket in range(tickets(packed, rows)):
        row, count, column, width = product(packed, ticket, x, rows, room)
        for m in range(count):
            for j in range(width):
                out[row + m, column + j] = room.acc[m * width + j]
