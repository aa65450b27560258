"""The check of 07.product: a matrix of Q4_0 blocks times a vector."""

import numpy as np
from numpy.typing import NDArray

from llm_course.exercises import Case, Cases, Exercise, normal
from llm_course.exercises.ch07.blocks import packed, some_numbers


def product(blocks: NDArray, x: NDArray) -> NDArray:
    parts = blocks.reshape(len(blocks), -1, 18)
    d = parts[..., :2].copy().view("<f2").astype(np.float32)  # [out, in / 32, 1]
    packed = parts[..., 2:]
    low, high = packed & 15, packed >> 4
    numbers = np.concatenate((low, high), axis=-1)
    weight = d * (numbers.astype(np.float32) - 8)
    return weight.reshape(len(blocks), -1) @ x


def cases() -> Cases:
    one = np.array([[0.5]], np.float16)
    number = np.arange(32)[None] // 2  # [1, 32]: 0, 0, 1, 1, ... 15, 15
    for place, what in ((2, "weight 2 is 0.5 * (1 - 8)"), (20, "weight 20 is 0.5 * 2")):
        x = np.zeros(32, np.float32)
        x[place] = 1
        yield Case(packed(number, one), x, name=f"one block, where {what}; x picks it")
    for outputs, inputs in ((1, 32), (1, 64), (5, 96)):
        d = 0.1 * normal(outputs, inputs // 32, seed=outputs).numpy()
        numbers = some_numbers(outputs, inputs, seed=inputs)
        yield Case(packed(numbers, d), normal(inputs, seed=2).numpy())


WIDE = "(numbers.astype(np.float32) - 8)"
WRONG = f"""
in which the two halves of a byte are neighbours: number i + 16 is in byte i
    np.concatenate((low, high), axis=-1) ->
        np.stack((low, high), axis=-1).reshape(*packed.shape[:2], 32)
with low and high half of a byte exchanged
    (low, high), -> (high, low),
whose neighbours are the two halves of a byte, the high one first
    np.concatenate((low, high), axis=-1) ->
        np.stack((high, low), axis=-1).reshape(*packed.shape[:2], 32)
that subtracts no 8: the numbers are from 0 to 15
    {WIDE} -> numbers
that subtracts 8 from uint8, where 3 - 8 is 251
    {WIDE} -> (numbers - 8)
that reads a number as signed (two's complement): 15 stands for 7, not for -1
    {WIDE} -> ((numbers ^ 8).astype(np.float32) - 8)
that subtracts 7.5
    - 8) -> - 7.5)
that subtracts 8 after the scale
    {WIDE} -> numbers.astype(np.float32) - 8
that takes the scale from the end of a block
    [..., :2].copy() -> [..., 16:].copy() ;; [..., 2:] -> [..., :16]
that reads the scale with its two bytes exchanged
    <f2 -> >f2
that reads the scale as a whole number of two bytes
    <f2 -> <u2
with the first scale of a row for all its blocks
    d * -> d[:, :1] *
without the scales
    weight = d * -> weight =
whose high half is not moved down by four bits
    packed >> 4 -> packed & 240
whose low half still holds the high one
    packed & 15 -> packed
that multiplies d and number in float16, and rounds each weight by that
    .astype(np.float32)  # -> #
    numbers.astype(np.float32) -> numbers.astype(np.float16)
whose result has the rows of the blocks, not yet added up
    @ x -> * x
"""

CHECK = Exercise("07.product", product, cases, WRONG)
