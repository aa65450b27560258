"""The kernels' inner loops are vector instructions: a rewrite that the compiler cannot
vectorise gives the same numbers several times slower, and nothing else would notice."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest
from numba import njit

from llm_course.engine import kernels, native_attention, quantize, rows, step
from llm_course.engine.quantize import pack

PATTERNS = {  # a multiplication of several float32 at once
    "x86_64": r"\b(vfn?m(add|sub)\w*|v?mul)ps\s",
    "aarch64": r"\b(fmla|fmls|fmul)\s+v\d+\.[24]s",
}
INTEGERS = {  # products of pairs of 16-bit numbers, or of 16-bit numbers
    "x86_64": r"\bv?p(maddwd|dpwssd)\s",
    "aarch64": r"\bsm(lal|ull)2?\s",
}
ROUNDING = {"x86_64": r"\bv?cvttps2dq\s", "aarch64": r"\bfcvtz?[sm]s?\s+v"}
NAMES = {"AMD64": "x86_64", "arm64": "aarch64"}
MACHINE = NAMES.get(platform.machine(), platform.machine())
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MACHINE not in PATTERNS, reason="no pattern for this processor"),
]


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def counts(kernel, patterns: dict[str, str] = PATTERNS) -> dict[str, int]:
    """Vector multiplications in each version that was compiled, by types of
    arguments."""
    return {
        str(types): len(re.findall(patterns[MACHINE], kernel.inspect_asm(types)))
        for types in kernel.signatures
    }


@pytest.fixture(scope="module")
def compiled() -> None:
    """Every kernel is compiled for the arguments that a forward pass has."""
    x, out, tokens = zeros(4, 96), zeros(4, 96), zeros(1, 3, dtype=np.int64)
    packed = pack(zeros(96, 96), "q4_1").describe()
    for count in (1, 4):
        rows.multiply(packed, x[:count], out[:count])
    p = step.Pass(
        x, zeros(4, 288), x, x, zeros(1, 1, 1, 4), x, tokens, zeros(1, 1), zeros(1, 1),
        zeros(0, 3, dtype=np.int64), zeros(0, 2, dtype=np.int64),
        zeros(1, 2, dtype=np.int64), zeros(1, 1, dtype=np.int64),
        zeros(1, 3, dtype=np.int64), False, zeros(8, 1, step.CELLS, dtype=np.int64),
    )  # fmt: skip
    layer = step.Layer(
        (1, 1, 2, 96), (96, 192), zeros(0), zeros(2, 0), np.float32(1e-5), zeros(4),
        (p.pages, 1, 1, 2),
    )  # fmt: skip
    lanes = native_attention.room_of_lanes(2, quantize.LANES)
    scores = zeros(native_attention.CHUNK)
    step.attend_phase(p, layer, p.blocks, p.singles, False, 0, 0, scores, lanes)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    "kernel",
    [
        kernels.row_float32,
        kernels.row_bfloat16,
        kernels.row_q8_0,
        kernels.row_q4_1,
        rows.add_floats,
        native_attention.scores_of,
        native_attention.add_values,
        native_attention.weigh,
    ],
    ids=lambda kernel: kernel.__name__,
)
def test_inner_loops_are_vector_instructions(kernel):
    found = counts(kernel)
    assert found
    assert min(found.values()) >= 8, found


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("kernel", "patterns", "least"),
    [(rows.add_integers, INTEGERS, 12 * 16), (rows.round_inputs, ROUNDING, 1)],
    ids=["products", "rounding"],
)
def test_integers_are_multiplied_and_made_in_vectors(kernel, patterns, least):
    found = counts(kernel, patterns)
    assert found
    assert min(found.values()) >= least, found


def test_loops_of_single_numbers_would_be_noticed():
    @njit
    def dot(x, y):  # without fastmath: one after the other, as written
        total = np.float32(0)
        for i in range(len(x)):
            total += x[i] * y[i]
        return total

    @njit(**kernels.OPTIONS)
    def add(x, y):  # x of any stride: nothing says that its numbers are neighbours
        for i in range(len(x)):
            x[i] += np.float32(2) * y[i]

    dot(zeros(64), zeros(64))
    add(zeros(64, 2)[:, 0], zeros(64))
    assert list(counts(dot).values()) == list(counts(add).values()) == [0]
