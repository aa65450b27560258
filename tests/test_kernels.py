"""Compiled kernels one by one: products, exp, and attention over pages, against
float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from llm_course.engine import kernels, rows
from llm_course.engine.kernels import OPTIONS
from llm_course.engine.native_attention import (
    attend_block,
    attend_chunk,
    combine,
    room_of_lanes,
)
from llm_course.engine.quantize import GROUP, KINDS, LANES, pack, pack_q4_1, pack_q8_0

few = settings(max_examples=40, deadline=None, derandomize=True)


def padded(x: np.ndarray, to: tuple[int, int]) -> np.ndarray:
    """x [rows, n] with zeros up to multiples of `to`."""
    return np.pad(x, [(0, -n % k) for n, k in zip(x.shape, to, strict=True)])


def product(packed, x: np.ndarray) -> np.ndarray:
    """x [rows, in] @ W.T [rows, out], by the kernels."""
    ready = padded(x, (1 if len(x) == 1 else 4, GROUP))
    out = np.full((len(x), len(packed.data) * LANES), np.nan, np.float32)
    rows.multiply(packed.describe(), ready, out)
    assert not out[:, packed.outputs :].any()  # what fills up the last tiles
    return out[:, : packed.outputs]


def as_used(kind: str, x: np.ndarray) -> np.ndarray:
    """Inputs [rows, in] as a product takes them, in float64: several rows for integers
    are rounded to 16 bits, by a step of their group of 32 that is a power of two."""
    if len(x) == 1 or kind in ("float32", "bfloat16"):
        return x.astype(float)
    groups = padded(x, (1, GROUP)).astype(float).reshape(len(x), -1, GROUP)
    _, power = np.frexp(np.abs(groups).max(axis=-1, keepdims=True))  # below 2 ** power
    step = np.ldexp(1.0, np.maximum(power - 15, -126))
    numbers = np.minimum(np.floor(groups / step + 0.5), 32767)
    assert np.abs(numbers * step - groups).max(initial=0) <= step.max(initial=0)
    return (numbers * step).reshape(len(x), -1)[:, : x.shape[1]]


@few
@given(
    kind=st.sampled_from(KINDS),
    outputs=st.integers(1, 200),
    inputs=st.integers(1, 200),
    count=st.integers(1, 9) | st.sampled_from([1, 96, 97, 200]),
    seed=st.integers(0, 2**32 - 1),
)
@example(kind="q8_0", outputs=50, inputs=100, count=1, seed=0)
@example(kind="q8_0", outputs=50, inputs=100, count=5, seed=0)
@example(kind="q4_1", outputs=50, inputs=100, count=1, seed=0)
@example(kind="q4_1", outputs=50, inputs=100, count=5, seed=0)
def test_products_are_those_of_the_dequantized_matrix(
    kind, outputs, inputs, count, seed
):
    rng = np.random.default_rng(seed)
    packed = pack(rng.normal(size=(outputs, inputs)).astype(np.float32), kind)
    x = rng.normal(size=(count, inputs)).astype(np.float32)
    wide, weight = as_used(kind, x), packed.rows(np.arange(outputs)).astype(float)
    error = np.abs(product(packed, x) - wide @ weight.T)
    assert (error <= 1e-5 * (np.abs(wide) @ np.abs(weight).T)).all()


def whole_numbers(kind: str, rng: np.random.Generator):
    """A matrix of small whole numbers in every kind, with scales of 1."""
    if kind in ("float32", "bfloat16"):
        return pack(rng.integers(-127, 128, (100, 70)).astype(np.float32), kind)
    low, high = (-127, 128) if kind == "q8_0" else (0, 16)
    numbers = np.zeros((100, 96), np.int8)
    numbers[:, :70] = rng.integers(low, high, (100, 70))
    one = np.ones((100, 3), np.float16)
    if kind == "q8_0":
        return pack_q8_0(numbers, one, 70)
    return pack_q4_1(numbers.astype(np.uint8), one, -4 * one, 70)


@pytest.mark.parametrize("count", [1, 2, 5, 193])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_are_multiplied_exactly(kind, count):
    rng = np.random.default_rng(0)
    packed = whole_numbers(kind, rng)
    x = rng.integers(-9, 10, (count, 70)).astype(np.float32)
    exact = x @ packed.rows(np.arange(100)).T  # far below 2 ** 24
    assert np.array_equal(product(packed, x), exact)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_each_weight_is_multiplied_by_its_input(kind, count):
    """Inputs with a single 1 read off the matrix, column by column."""
    packed = whole_numbers(kind, np.random.default_rng(0))
    weight = packed.rows(np.arange(100))
    for start in range(0, 70, count):
        x = np.eye(70, dtype=np.float32)[start : start + count]
        assert np.array_equal(product(packed, x), weight.T[start : start + count])


def rounding(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, steps and sums that the kernels make of x [rows, in]."""
    rows_of, groups = len(x), x.shape[1] // GROUP
    numbers = np.zeros(x.shape, np.int16)
    steps, sums = np.full((2, rows_of, groups), np.nan, np.float32)
    rows.round_inputs(x, rows_of, numbers, steps, sums)
    return numbers, steps, sums


@few
@given(
    st.lists(
        st.floats(-(2.0**99), 2.0**99, width=32), min_size=4 * GROUP, max_size=4 * GROUP
    )
)
@example([2.0 - 2**-23, *[0.0] * 127])  # rounds up to 2 ** 15, which has no place
@example([1e-38, *[0.0] * 127])
def test_rounded_inputs_are_within_half_a_step(numbers):
    x = np.array(numbers, np.float32).reshape(2, 2 * GROUP)
    whole, steps, sums = rounding(x)
    groups = x.astype(float).reshape(2, 2, GROUP)
    largest = np.abs(groups).max(axis=-1)
    error = np.abs(whole.reshape(2, 2, GROUP) * steps[..., None].astype(float) - groups)
    assert (
        error
        <= np.where(whole == 32767, 1, 0.5).reshape(groups.shape) * steps[..., None]
    ).all()
    assert (steps <= np.maximum(largest * 2.0**-14, 2.0**-126)).all()
    rounded = whole.reshape(groups.shape).astype(float).sum(axis=-1) * steps
    np.testing.assert_allclose(sums, rounded, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["q8_0", "q4_1"])
def test_what_is_not_finite_stays_so_when_inputs_are_rounded(kind, bad):
    x = np.ones((5, 70), np.float32)
    x[3, 40] = bad
    packed = whole_numbers(kind, np.random.default_rng(0))
    out = np.empty((5, len(packed.data) * LANES), np.float32)
    rows.multiply(packed.describe(), padded(x, (4, GROUP)), out)
    assert not np.isfinite(out[3, : packed.outputs]).any()
    assert np.isfinite(out[[0, 1, 2, 4]]).all()


@njit(**OPTIONS)
def exp_of_all(x, out):
    for i in range(len(x)):
        out[i] = kernels.exp(x[i])


def test_exp_is_exp():
    near = np.linspace(-87, 88, 200_001).astype(np.float32)
    out = np.empty_like(near)
    exp_of_all(near, out)
    wanted = np.exp(near.astype(float))
    assert (np.abs(out - wanted) / wanted).max() < 3e-7
    far = np.array([-3e38, -1e4, 0.0, 89.0, 3e38], np.float32)
    exp_of_all(far, out)
    assert out[:2].max() < 2e-38
    assert out[2] == 1
    assert (out[3:5] == out[-1]).all()  # clipped to exp(88)


SIZES = [(group, D) for D in (2, 6, 64, 80, 128) for group in (1, 3)] + [(8, 6)]
HKV, PAGE, COUNT = 2, 37, 9  # pages of a size that no chunk or block divides


class Paged:
    """Keys and values [2, Hkv, length, D] of one of two sequences, in shuffled pages.

    Pages that are not its own hold 1e30, and so would any wrong address.
    """

    def __init__(self, length: int, D: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.length, self.D = length, D
        self.kv = rng.normal(size=(2, HKV, length, D)).astype(np.float32)
        self.pages = rng.permutation(2 * COUNT).reshape(2, COUNT)
        storage = np.full((2, 2 * COUNT, HKV, PAGE, D), 1e30, np.float32)
        for slot in range(length):
            page = self.pages[1, slot // PAGE]
            storage[:, page, :, slot % PAGE] = self.kv[:, :, slot]
        self.storage = storage.ravel()

    @property
    def cache(self):
        return self.pages, PAGE, HKV, self.D

    def wanted(self, q: np.ndarray, head: int, first: int, end: int) -> np.ndarray:
        """Attention of q [n, D] over slots first to end - 1, in float64."""
        k, v = (torch.from_numpy(x[head, first:end]).double() for x in self.kv)
        scores = torch.from_numpy(q).double() @ k.T / self.D**0.5
        return (scores.softmax(dim=-1) @ v).numpy()


def by_chunks(paged: Paged, q: np.ndarray, head: int, first: int, ends) -> np.ndarray:
    """The same by the kernels: a chunk up to each of `ends`, then combined."""
    group, D = q.shape
    parts = np.full((len(ends), group, D + 2), np.nan, np.float32)
    for part, start, end in zip(parts, (first, *ends), ends, strict=False):
        scores = np.empty(group * (end - start), np.float32)
        place = paged.storage, paged.cache, 1, head, start, end
        attend_chunk(q.ravel(), group, *place, scores, part)
    out = np.empty((group, D), np.float32)
    for i in range(group):
        combine(parts[:, i], D, out[i])
    return out


def check(out: np.ndarray, wanted: np.ndarray, size: float) -> None:
    """Scores grow with `size`, and so does the rounding of what they are made of."""
    assert np.abs(out - wanted).max() < 3e-6 * max(1, size)


@pytest.mark.parametrize(("group", "D"), SIZES)
@pytest.mark.parametrize(
    ("first", "ends"), [(0, (1,)), (5, (12,)), (0, (37, 75)), (3, (40, 41, 300, 300))]
)
def test_attention_of_single_queries(group, D, first, ends):
    """Chunks of one key and of many, within a page and over several; an empty last."""
    paged = Paged(300, D)
    for size in (1.0, 30.0):  # scores near each other, and one that outweighs all
        q = size * np.random.default_rng(1).normal(size=(group, D))
        q = q.astype(np.float32)
        for head in range(HKV):
            out = by_chunks(paged, q, head, first, ends)
            check(out, paged.wanted(q, head, first, ends[-1]), size)


def by_block(paged: Paged, q: np.ndarray, head: int, first: int, last: int):
    """Attention of q [n, D], the first on slots first to last, each next one a slot
    more."""
    n, D = q.shape
    lanes = room_of_lanes(D, LANES)
    lanes.q.reshape(-1, LANES)[:D, :n] = q.T
    lanes.keys[:, :D] = np.nan  # what must not be read; columns past D are not written
    for part in lanes[2:]:
        part[:] = np.nan
    attend_block(n, paged.storage, paged.cache, 1, head, first, last, lanes)
    return (lanes.acc.reshape(-1, LANES)[:D, :n] / lanes.total[:n]).T


@pytest.mark.slow
@pytest.mark.parametrize("D", [2, 6, 64, 80, 128])
@pytest.mark.parametrize(
    ("n", "first", "last"),
    [(1, 0, 0), (5, 0, 0), (48, 0, 0), (48, 7, 150), (33, 2, 47), (17, 48, 200)],
)
def test_attention_of_a_block_of_queries(D, n, first, last):
    paged = Paged(300, D)
    for size in (1.0, 30.0):
        q = (size * np.random.default_rng(1).normal(size=(n, D))).astype(np.float32)
        for head in range(HKV):
            out = by_block(paged, q, head, first, last)
            for m in range(n):
                wanted = paged.wanted(q[m : m + 1], head, first, last + m + 1)
                check(out[m], wanted, size)


@pytest.mark.slow
def test_a_query_sees_the_key_of_its_own_slot_and_none_after_it():
    """Values that name their slots, equal scores: the mean of what is seen."""
    paged = Paged(64, 2)
    slots = np.arange(64, dtype=np.float32)
    paged.kv[1] = slots[None, :, None]
    for slot in range(64):
        page = paged.storage.reshape(2, 2 * COUNT, HKV, PAGE, 2)[1]
        page[paged.pages[1, slot // PAGE], :, slot % PAGE] = slot
    out = by_block(paged, np.zeros((20, 2), np.float32), 0, 10, 30)
    np.testing.assert_allclose(out[:, 0], (10 + 30 + np.arange(20)) / 2, rtol=1e-5)
