"""Weights in fewer bits: what rounding may lose, and that packing loses nothing."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.engine.quantize import (
    GROUP,
    KINDS,
    LANES,
    dequantize,
    pack,
    pack_q4_1,
    pack_q8_0,
    quantize_q4_1,
    quantize_q8_0,
)

seeds = st.integers(0, 2**32 - 1)
# 1, a group or a tile and its neighbours, and whatever else
outputs = st.sampled_from([1, 47, 48, 49, 95, 96, 97]) | st.integers(1, 200)
inputs = st.sampled_from([1, 31, 32, 33, 64, 65]) | st.integers(1, 200)
derandomized = settings(max_examples=30, deadline=None, derandomize=True)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def padded(weight: np.ndarray) -> np.ndarray:
    """Columns of zeros up to whole groups."""
    return np.pad(weight, ((0, 0), (0, -weight.shape[1] % GROUP)))


def dequantized(weight: np.ndarray, kind: str) -> np.ndarray:
    """What a matrix of this kind stands for, without the tiles."""
    if kind == "float32":
        return weight
    if kind == "bfloat16":
        return torch.from_numpy(weight).bfloat16().float().numpy()
    quantize = quantize_q8_0 if kind == "q8_0" else quantize_q4_1
    return dequantize(*quantize(padded(weight)))[:, : weight.shape[1]]


@pytest.mark.parametrize("size", [1e-3, 1.0, 50.0])
def test_q8_0_is_off_by_half_a_step_at_most(size):
    weight = size * normal(7, 96)
    numbers, d = quantize_q8_0(weight)
    assert (numbers.dtype, numbers.shape) == (np.int8, (7, 96))
    assert (d.dtype, d.shape) == (np.float16, (7, 3))
    step = np.repeat(d.astype(np.float32), GROUP, axis=1)
    # the float16 scale may be a little small, and the largest number is clipped then
    assert (np.abs(dequantize(numbers, d) - weight) <= 0.57 * step).all()
    assert (np.abs(numbers.reshape(7, 3, GROUP)).max(axis=-1) >= 126).all()


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_q4_1_is_off_by_half_a_step_and_the_rounding_of_its_minimum(shift):
    weight = normal(7, 96) + np.float32(shift)
    numbers, d, m = quantize_q4_1(weight)
    assert (numbers.dtype, numbers.shape) == (np.uint8, (7, 96))
    assert (d.dtype, m.dtype, d.shape, m.shape) == (
        np.float16,
        np.float16,
        (7, 3),
        (7, 3),
    )
    assert numbers.max() == 15
    step, low = (np.repeat(x.astype(np.float32), GROUP, axis=1) for x in (d, m))
    rounding = 2**-11 * (15 * step + np.abs(low))
    error = np.abs(dequantize(numbers, d, m) - weight)
    assert (error <= 0.501 * step + rounding).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_can_say_comes_back_as_it_was(kind):
    """Zeros, a constant group, and every number of a kind, with steps of 1/4."""
    counts = (
        np.arange(-127, 129).reshape(8, GROUP)
        if kind == "q8_0"
        else (np.tile(np.arange(16), (8, 2)))
    )
    weight = (counts.clip(-127, 127) / 4).astype(np.float32)
    if kind == "q8_0":
        weight[:, 0] = 127 / 4  # the largest of its group
    weight = np.concatenate([weight, np.zeros((1, GROUP), np.float32)])
    packed = pack(weight, kind)
    assert np.array_equal(packed.rows(np.arange(9)), weight)
    constant = np.full((2, GROUP), 0.5, np.float32)
    np.testing.assert_allclose(
        pack(constant, kind).rows(np.arange(2)), constant, rtol=1e-3
    )


def fields(blocks: np.ndarray, scales: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The float16 numbers that start each block of a GGUF file, and what follows."""
    head, rest = np.split(blocks, [2 * scales], axis=-1)
    halves = np.ascontiguousarray(head).view(np.float16)  # [rows, groups, scales]
    return [halves[..., i] for i in range(scales)], rest


def test_q8_0_means_what_the_gguf_library_means():
    blocks = gguf.quants.quantize(normal(5, 96), gguf.GGMLQuantizationType.Q8_0)
    wanted = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    (d,), rest = fields(blocks.reshape(5, 3, 34), 1)
    numbers = np.ascontiguousarray(rest).view(np.int8).reshape(5, 96)
    assert np.array_equal(dequantize(numbers, d), wanted)
    assert np.array_equal(pack_q8_0(numbers, d, 96).rows(np.arange(5)), wanted)


def test_q4_1_means_what_the_gguf_library_means():
    blocks = gguf.quants.quantize(normal(5, 96), gguf.GGMLQuantizationType.Q4_1)
    wanted = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q4_1)
    (d, m), rest = fields(blocks.reshape(5, 3, 20), 2)
    # a block's bytes hold inputs 0 to 15 in their lower halves, 16 to 31 in the upper
    numbers = np.concatenate([rest & 15, rest >> 4], axis=-1).reshape(5, 96)
    assert np.array_equal(dequantize(numbers, d, m), wanted)
    assert np.array_equal(pack_q4_1(numbers, d, m, 96).rows(np.arange(5)), wanted)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_rounding_loses_no_more_than_that_of_the_gguf_library(kind):
    weight = normal(20, 320)
    theirs = gguf.quants.quantize(weight, getattr(gguf.GGMLQuantizationType, kind))
    theirs = gguf.quants.dequantize(theirs, getattr(gguf.GGMLQuantizationType, kind))
    ours = dequantized(weight, kind.lower())
    assert np.square(ours - weight).mean() <= 1.01 * np.square(theirs - weight).mean()


@derandomized
@given(rows=outputs, columns=inputs, seed=seeds)
def test_packing_q4_1_loses_nothing(rows, columns, seed):
    rng, wide = np.random.default_rng(seed), -(-columns // GROUP) * GROUP
    numbers = rng.integers(0, 16, (rows, wide), dtype=np.uint8)
    d, m = rng.normal(size=(2, rows, wide // GROUP)).astype(np.float16)
    packed = pack_q4_1(numbers, d, m, columns)
    assert np.array_equal(
        packed.rows(np.arange(rows)), dequantize(numbers, d, m)[:, :columns]
    )


def test_a_word_of_q4_1_holds_eight_inputs_the_first_in_its_lowest_bits():
    numbers = np.arange(32, dtype=np.uint8)[None] % 16
    one = np.ones((1, 1), np.float16)
    packed = pack_q4_1(numbers, one, -one, 32)
    assert packed.data.shape == (1, 4, LANES)
    words = [f"{word:08x}" for word in packed.data[0, :, 0].view(np.uint32)]
    assert words == ["76543210", "fedcba98"] * 2
    assert packed.scales[0, 0, [0, LANES]].view(np.float16).tolist() == [1, -1]
    assert not packed.data[0, :, 1:].any()


def test_bfloat16_is_rounded_as_torch_does():
    bits = np.random.default_rng(0).integers(0, 2**32, 96 * 32, dtype=np.uint32)
    ties = (bits & 0xFFFF0000) | 0x8000  # halfway: to the even neighbour
    for weight in (bits.view(np.float32), ties.view(np.float32)):
        weight = np.where(np.isfinite(weight), weight, 1).reshape(96, 32)
        ours = pack(weight, "bfloat16").rows(np.arange(96))
        wanted = torch.from_numpy(weight).bfloat16().float().numpy()
        assert np.array_equal(ours, wanted)


@derandomized
@given(kind=st.sampled_from(KINDS), rows=outputs, columns=inputs, seed=seeds)
def test_rows_are_rows_of_the_dequantized_matrix(kind, rows, columns, seed):
    weight, rng = normal(rows, columns, seed=seed), np.random.default_rng(seed)
    packed, ids = pack(weight, kind), rng.integers(0, rows, 9)
    wanted = dequantized(weight, kind)[ids]
    assert packed.rows(ids).dtype == np.float32
    assert np.array_equal(packed.rows(ids), wanted)
    assert (packed.outputs, packed.inputs) == (rows, columns)


@pytest.mark.parametrize("kind", KINDS)
def test_what_fills_up_a_tile_is_zero(kind):
    packed = pack(normal(50, 40) + 5, kind)
    tiles, groups = 2, 2
    assert len(packed.data) == tiles
    assert not packed.data[1, :, 50 - LANES :].any()
    if packed.scales.size:
        of_rows = packed.scales.reshape(tiles, groups, -1, LANES)
        assert not of_rows[1, ..., 50 - LANES :].any()
    assert len(pack(normal(97, 40), kind).data) == 3


@pytest.mark.parametrize(
    ("kind", "bits"), [("float32", 32), ("bfloat16", 16), ("q8_0", 8.5), ("q4_1", 5)]
)
def test_bits_of_a_weight(kind, bits):
    packed = pack(normal(96, 64), kind)
    assert packed.nbytes == 96 * 64 * bits / 8
    number, data, scales, tiles, wide = packed.describe()
    assert (KINDS[number], tiles, wide) == (kind, 2, 64)
    assert data == packed.data.ctypes.data
    assert scales == packed.scales.ctypes.data


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'q5_0': must be one of float32, bfloat16"):
        pack(normal(2, 32), "q5_0")
