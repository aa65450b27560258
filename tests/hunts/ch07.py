"""Readers' tests for 07.hunt: Q4_1 blocks back to weights."""

from __future__ import annotations

import numpy as np

from llm_course.exercises import Function, normal
from llm_course.exercises.ch07.blocks import packed, some_numbers


def compared(outputs: int, inputs: int, same: bool = False) -> Function:
    """A test with known numbers, d and m; `same` gives all blocks those of the first
    one."""
    shape = outputs, inputs // 32
    d, m = (normal(*shape, seed=i).numpy().astype(np.float16) for i in range(2))
    if same:
        d[:], m[:] = d[0, 0], m[0, 0]
    numbers = some_numbers(outputs, inputs)
    wide_d, wide_m = (x.astype(np.float32).repeat(32, axis=1) for x in (d, m))
    expected = numbers * wide_d + wide_m

    def test(implementation: Function) -> None:
        out = implementation(packed(numbers, d, m))
        assert np.allclose(out, expected, atol=1e-4)

    return test


def sizes_only(implementation: Function) -> None:
    """All weights lie between the smallest and the largest that a block can have."""
    ones = np.ones((2, 3), np.float16)
    out = implementation(packed(some_numbers(2, 96), ones, ones))
    assert out.shape == (2, 96)
    assert out.min() == 1
    assert out.max() == 16


def neighbours(implementation: Function) -> None:
    """Takes the two halves of a byte for numbers 2 i and 2 i + 1."""
    byte = np.arange(16, dtype=np.uint8)[None]
    head = np.array([[0, 60, 0, 0]], np.uint8)  # d = 1, m = 0
    out = implementation(np.concatenate((head, byte), axis=1))
    assert np.array_equal(out[0, ::2], byte[0])


def float16_alone(implementation: Function) -> None:
    """The weights of GGUF are not rounded to the dtype of d and m."""
    one = np.ones((1, 1), np.float16)
    assert implementation(packed(some_numbers(1, 32), one, one)).dtype == np.float16


TOO_WEAK = compared(3, 32), compared(2, 96, same=True), sizes_only
TOO_STRICT = neighbours, float16_alone
