# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""Products of matrices and vectors in compiled loops, for four kinds of weights.

For one input row each SIMD lane is one output row, so nothing is summed across lanes;
the inner loops are plain, and the compiler makes vector instructions of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from llm_course.engine.quantize import GROUP, KINDS, LANES

__all__ = [
    "OPTIONS",
    "row_float32",
    "row_bfloat16",
    "half",
    "upper_half",
    "float_of",
    "pointer",
    "exp",
    "LINE",
    "AHEAD",
    "prefetch_line",
    "prefetch",
    "look_ahead",
    "row_q8_0",
    "split_inputs",
    "row_q4_1",
    "one_row",
]


OPTIONS: dict[str, Any] = {"fastmath": True, "nogil": True, "error_model": "numpy"}
FLOAT32, BFLOAT16, Q8_0, Q4_1 = range(len(KINDS))
f32, i32 = np.float32, np.int32


@njit(**OPTIONS)
def row_float32(w, x, n, acc):
    """acc [48] = one tile w [n, 48] of a float32 matrix times x [n]."""
    acc[:] = 0
    for i in range(0, n, 8):
        tile, x8 = w[i * LANES : (i + 8) * LANES], x[i : i + 8]
        for j in range(LANES):
            total = f32(0)
            for u in range(8):
                total += tile[u * LANES + j] * x8[u]
            acc[j] += total


@njit(**OPTIONS)
def row_bfloat16(w, x, n, acc):
    """acc [48] = one tile w [n, 48] of bfloat16 bits times x [n]."""
    acc[:] = 0
    for i in range(0, n, 8):
        tile, x8 = w[i * LANES : (i + 8) * LANES], x[i : i + 8]
        for j in range(LANES):
            total = f32(0)
            for u in range(8):
                total += upper_half(tile[u * LANES + j]) * x8[u]
            acc[j] += total


@intrinsic
def half(typingctx, bits):
    """The float16 whose bits are a uint16, as float32: one instruction on processors
    that have it."""

    def codegen(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def upper_half(typingctx, bits):
    """The bfloat16 whose bits are a uint16, as float32: its upper 16 bits."""

    def codegen(context, builder, signature, args):
        wide = builder.zext(args[0], ir.IntType(32))
        shifted = builder.shl(wide, ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(shifted, ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def float_of(typingctx, bits):
    """The float32 whose bits are an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def pointer(typingctx, address):
    """An address as a pointer, for `carray`."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@njit(**OPTIONS)
def exp(x):
    """e ** x to about 2e-7 of its value, in steps that vectorise (np.exp does not).

    x is clipped to -87..88. e ** x = 2 ** k * e ** r with a whole k and a small r; the
    polynomial is that of the Cephes library's expf (Moshier).
    """
    x = min(max(x, f32(-87)), f32(88))
    k = np.floor(x * f32(1.4426950408889634) + f32(0.5))
    r = x - k * f32(0.693359375) + k * f32(2.12194440e-4)  # ln 2 in two parts
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * r * r + r + f32(1)
    return p * float_of(i32(i32(i32(k) + i32(127)) << i32(23)))  # times 2 ** k


LINE = 64  # bytes that come from the memory together
AHEAD = 4096  # bytes between what is read and what is asked for


def prefetch_line(builder, address):
    """Emit the request for the line at an address: a hint, which the processor may
    follow or not."""
    where = builder.inttoptr(address, cgutils.voidptr_t)
    int32 = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [where.type, int32, int32, int32])
    hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    # to read (0), into every level of the cache (3), data (1)
    builder.call(hint, [where, int32(0), int32(3), int32(1)])


@intrinsic
def prefetch(typingctx, address):
    """Ask for the line at an address."""

    def codegen(context, builder, signature, args):
        prefetch_line(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@njit(**OPTIONS)
def look_ahead(address, count):
    """Ask for `count` bytes that lie AHEAD bytes further on."""
    for line in range(address + AHEAD, address + AHEAD + count, LINE):
        prefetch(line)


@njit(**OPTIONS)
def row_q8_0(q, d, x, n, acc, part):
    """acc [48] = one tile of int8 q [n, 48] with scales d [n / 32, 48] times x [n]."""
    acc[:] = 0
    for g in range(n // GROUP):
        part[:] = 0
        for i in range(g * GROUP, (g + 1) * GROUP, 8):
            tile, x8 = q[i * LANES : (i + 8) * LANES], x[i : i + 8]
            look_ahead(tile.ctypes.data, 8 * LANES)
            for j in range(LANES):
                total = f32(0)
                for u in range(8):
                    total += f32(tile[u * LANES + j]) * x8[u]
                part[j] += total
        scale = d[g * LANES : (g + 1) * LANES]
        for j in range(LANES):
            acc[j] += part[j] * half(scale[j])


@njit(**OPTIONS)
def split_inputs(x, n, shifted, sums):
    """What q4_1 needs of x [n]: input 8 i + u divided by 16 ** u, and each group's sum.

    Number u of a word is masked out where it stands, 16 ** u times too large.
    """
    for g in range(n // GROUP):
        total = f32(0)
        for i in range(g * GROUP, (g + 1) * GROUP):
            total += x[i]
        sums[g] = total
    for i in range(0, n, 8):
        for u in range(7):
            shifted[i + u] = x[i + u] * f32(16.0**-u)
        shifted[i + 7] = x[i + 7]  # the last one is shifted down: its top bit is a sign


@njit(**OPTIONS)
def row_q4_1(q, dm, shifted, sums, n, acc, part):
    """acc [48] = one tile of words q [n / 8, 48], with d and m [n / 32, 2, 48], times
    the inputs that `split_inputs` made ready."""
    acc[:] = 0
    for g in range(n // GROUP):
        part[:] = 0
        for i in range(g * 4, g * 4 + 4):
            tile, x8 = q[i * LANES : (i + 1) * LANES], shifted[i * 8 : i * 8 + 8]
            look_ahead(tile.ctypes.data, 4 * LANES)
            for j in range(LANES):
                word, total = tile[j], f32(0)
                for u in range(7):
                    total += f32(i32(word & i32(15 << (4 * u)))) * x8[u]
                top = i32(i32(word >> i32(28)) & i32(15))
                part[j] += total + f32(top) * x8[7]
        d = dm[2 * g * LANES : (2 * g + 1) * LANES]
        m = dm[(2 * g + 1) * LANES : (2 * g + 2) * LANES]
        total = sums[g]
        for j in range(LANES):
            acc[j] += part[j] * half(d[j]) + total * half(m[j])


@njit(**OPTIONS)
def one_row(matrix, tile, x, shifted, sums, acc, part):
    """acc [48] = one tile of a matrix of any kind times x; `matrix` is
    `PackedMatrix.describe()`."""
    kind, n = matrix[0], matrix[4]
    numbers, groups = n * LANES, n // GROUP * LANES
    if kind == FLOAT32:
        start = matrix[1] + 4 * numbers * tile
        row_float32(carray(pointer(start), numbers, np.float32), x, n, acc)
    elif kind == BFLOAT16:
        start = matrix[1] + 2 * numbers * tile
        row_bfloat16(carray(pointer(start), numbers, np.uint16), x, n, acc)
    elif kind == Q8_0:
        start, at = matrix[1] + numbers * tile, matrix[2] + 2 * groups * tile
        q = carray(pointer(start), numbers, np.int8)
        d = carray(pointer(at), groups, np.uint16)
        row_q8_0(q, d, x, n, acc, part)
    else:
        start, at = matrix[1] + numbers // 2 * tile, matrix[2] + 4 * groups * tile
        words = carray(pointer(start), numbers // 8, np.int32)
        dm = carray(pointer(at), 2 * groups, np.uint16)
        row_q4_1(words, dm, shifted, sums, n, acc, part)
