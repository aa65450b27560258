# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""Products of several rows, with the sums in the processor's registers.

Numba has no vectors, and if the sums are elements of an array, it keeps them in memory.
So the innermost loops are written in the compiler's own language: for a **strip** of
four rows and three vectors of lanes, whose twelve sums fit into the registers.
"""

from __future__ import annotations

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llm_course.engine.kernels import AHEAD, prefetch_line
from llm_course.engine.quantize import GROUP, LANES

__all__ = [
    "FEATURES",
    "WIDTH",
    "VECTORS",
    "onward",
    "load",
    "in_each_lane",
    "load_weights",
    "add_product",
    "strip_of",
    "strip_float16",
    "strip_of_pairs",
]


FEATURES = llvmlite.binding.get_host_cpu_features()
WIDTH = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("avx") else 4
ROWS, STRIP = 4, 3 * WIDTH  # rows and lanes of a strip
VECTORS = [(r, v) for r in range(ROWS) for v in range(3)]
I16, I32, I64, F16, F32 = *map(ir.IntType, (16, 32, 64)), ir.HalfType(), ir.FloatType()
SHORTS, INTS, HALVES, FLOATS = (ir.VectorType(t, WIDTH) for t in (I16, I32, F16, F32))


def onward(builder, address, count):
    """The address so many bytes further on."""
    return builder.add(address, I64(count) if isinstance(count, int) else count)


def load(builder, address, llvm_type, align=4):
    """The number or vector of an LLVM type at an address."""
    value = builder.load(builder.inttoptr(address, llvm_type.as_pointer()))
    value.align = align
    return value


def in_each_lane(builder, number, vector):
    """A vector with the number in each lane."""
    none, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(INTS, [0] * WIDTH)
    first = builder.insert_element(none, number, I32(0))
    return builder.shuffle_vector(first, none, zeros)


def load_weights(builder, address, kind):
    """A vector of weights of a kind, as float32."""
    if kind == "float32":
        return load(builder, address, FLOATS)
    if kind == "float16":
        return builder.fpext(load(builder, address, HALVES, 2), FLOATS)
    bits = builder.zext(load(builder, address, SHORTS, 2), INTS)  # bfloat16
    bits = builder.shl(bits, ir.Constant(INTS, [16] * WIDTH))
    return builder.bitcast(bits, FLOATS)


def add_product(builder, sums, a, b):
    """sums + a * b, in one instruction where there is one."""
    product = builder.fmul(a, b, flags=["contract"])
    return builder.fadd(sums, product, flags=["contract"])


def strip_of(kind):
    """The product for weights in float32, bfloat16 or float16."""
    size = 4 if kind == "float32" else 2

    @intrinsic
    def add_strip(typingctx, w, below, x, down, right, n, acc):
        """acc [4, STRIP] += x [4, n] @ w [n, STRIP], each given by its address.

        Three strides, in bytes: `below` from the weights of one input to those of the
        next, `down` from one row of x to the next, `right` from one input of a row to
        the next. The rows of acc are LANES numbers apart.
        """

        def codegen(context, builder, signature, args):
            w, below, x, down, right, n, acc = args
            targets = [
                onward(builder, acc, 4 * (LANES * r + WIDTH * v)) for r, v in VECTORS
            ]
            sums = [  # local variables, which LLVM keeps in registers
                cgutils.alloca_once_value(builder, load(builder, target, FLOATS))
                for target in targets
            ]
            with cgutils.for_range(builder, n) as loop:
                start = onward(builder, w, builder.mul(loop.index, below))
                parts = [onward(builder, start, size * WIDTH * v) for v in range(3)]
                weights = [load_weights(builder, part, kind) for part in parts]
                for part in parts:
                    prefetch_line(builder, onward(builder, part, AHEAD))
                here = onward(builder, x, builder.mul(loop.index, right))
                inputs = []
                for _ in range(ROWS):
                    number = load(builder, here, F32)
                    inputs.append(in_each_lane(builder, number, FLOATS))
                    here = onward(builder, here, down)
                for total, (r, v) in zip(sums, VECTORS, strict=True):
                    before = builder.load(total)
                    after = add_product(builder, before, weights[v], inputs[r])
                    builder.store(after, total)
            for total, target in zip(sums, targets, strict=True):
                to = builder.inttoptr(target, FLOATS.as_pointer())
                builder.store(builder.load(total), to).align = 4
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return add_strip


strip_float32, strip_bfloat16 = strip_of("float32"), strip_of("bfloat16")
strip_float16 = strip_of("float16")


@intrinsic
def strip_of_pairs(typingctx, w, x, down, steps, steps_down, scales, acc):
    """acc [4, STRIP] += scales * steps * (x [4, 32] @ w [32, STRIP]) for one group of
    inputs, each given by its address.

    x is int16, and so is w, in pairs: [16, 48, 2] holds the weights of two neighbouring
    inputs side by side. `scales` has a float16 for each lane, `steps` a float32 for
    each row. The rows of acc are LANES numbers apart.
    """
    pairs = ir.VectorType(I16, 2 * WIDTH)
    products = ir.VectorType(I32, 2 * WIDTH)

    def sum_of_pairs(builder, w, x):
        """Per lane w[0] * x[0] + w[1] * x[1]. The compiler knows this pattern and
        makes one instruction of it, or two."""
        both = builder.mul(builder.sext(w, products), builder.sext(x, products))
        none = ir.Constant(products, ir.Undefined)
        first, second = (
            builder.shuffle_vector(both, none, ir.Constant(INTS, list(lanes)))
            for lanes in (range(0, 2 * WIDTH, 2), range(1, 2 * WIDTH, 2))
        )
        return builder.add(first, second)

    def codegen(context, builder, signature, args):
        w, x, down, steps, steps_down, scales, acc = args
        sums = {one: ir.Constant(INTS, [0] * WIDTH) for one in VECTORS}
        for pair in range(GROUP // 2):
            here = onward(builder, x, 4 * pair)
            weights = [
                load(builder, onward(builder, w, 4 * (LANES * pair + WIDTH * v)), pairs)
                for v in range(3)
            ]
            for r in range(ROWS):
                two = in_each_lane(builder, load(builder, here, I32), INTS)
                two = builder.bitcast(two, pairs)
                for v in range(3):
                    more = sum_of_pairs(builder, weights[v], two)
                    sums[r, v] = builder.add(sums[r, v], more)
                here = onward(builder, here, down)
        for r in range(ROWS):
            step = in_each_lane(builder, load(builder, steps, F32), FLOATS)
            for v in range(3):
                target = onward(builder, acc, 4 * (LANES * r + WIDTH * v))
                half = onward(builder, scales, 2 * WIDTH * v)
                scale = builder.fmul(load_weights(builder, half, "float16"), step)
                before, total = load(builder, target, FLOATS), sums[r, v]
                total = builder.sitofp(total, FLOATS)
                to = builder.inttoptr(target, FLOATS.as_pointer())
                after = add_product(builder, before, total, scale)
                builder.store(after, to).align = 4
            steps = onward(builder, steps, steps_down)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen
