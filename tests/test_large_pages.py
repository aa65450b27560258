"""Weights side by side in large pieces of memory."""

import pickle

import numpy as np
import pytest
import torch

from llm_course.config import EngineConfig, ModelConfig
from llm_course.engine import pack, prepare_for_inference
from llm_course.engine.large_pages import LARGE, LINE, PIECE, LargePages
from llm_course.models import build_decoder_only_model


def test_arrays_keep_their_numbers_and_begin_on_a_line():
    rng, memory = np.random.default_rng(0), LargePages()
    sizes = [1, 63, 64, 65, 100_000, LARGE // 4 - 1] * 60  # more than one piece
    arrays = [rng.integers(0, 256, n).astype(np.uint8) for n in sizes]
    held = [memory.hold(x) for x in arrays]
    assert sum(sizes) > PIECE
    for array, copy in zip(arrays, held, strict=True):
        assert np.array_equal(array, copy)
        assert copy.ctypes.data % LINE == 0
        assert not np.shares_memory(array, copy)


def test_small_arrays_share_one_piece_and_a_large_one_stays_where_it_is():
    memory = LargePages()
    a, b = memory.hold(np.ones((3, 5), np.float32)), memory.hold(np.empty(0, np.uint16))
    assert a.base is not None
    assert a.base is b.base
    assert (a.shape, b.shape, b.dtype) == ((3, 5), (0,), np.uint16)
    large = np.zeros(LARGE, np.int8)
    assert memory.hold(large) is large


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "q8_0", "q4_1"])
def test_a_matrix_is_the_same_there(kind):
    weight = np.random.default_rng(1).standard_normal((50, 40)).astype(np.float32)
    packed = pack(weight, kind)
    moved, every = LargePages().hold_matrix(packed), np.arange(50)
    assert np.array_equal(moved.rows(every), packed.rows(every))
    assert moved.describe()[1:3] != packed.describe()[1:3]


def test_matrices_of_a_prepared_model_lie_together_and_survive_a_copy():
    config = ModelConfig(64, 32, 48, num_layers=2, num_heads=4)
    model = build_decoder_only_model(config, EngineConfig(device="cpu"))
    fast, ids = prepare_for_inference(model), torch.tensor([[1, 2, 3]])
    bases = {id(m.data.base) for m in fast.matrices.values()}
    assert len(bases) == 1
    again = pickle.loads(pickle.dumps(fast))
    assert torch.equal(again(ids), fast(ids))
