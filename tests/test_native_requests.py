"""What the model of compiled kernels is asked for: which requests it refuses, and what
a token costs."""

from __future__ import annotations

import linecache
import pickle
from copy import deepcopy
from weakref import ref

import pytest
import torch

from llm_course.config import EngineConfig
from llm_course.engine import (
    FusedModel,
    KVCache,
    KVCacheManager,
    decode,
    make_cache,
    prepare_for_inference,
)
from llm_course.models import build_decoder_only_model
from tests.helpers import ListCache, random_ids, small_model


def test_bytes_read_for_a_token():
    tied = prepare_for_inference(small_model(tie_word_embeddings=True), "int8")
    own = prepare_for_inference(small_model(tie_word_embeddings=False), "int8")
    assert tied.read_a_token == sum(m.nbytes for m in tied.matrices.values())
    assert own.read_a_token == tied.read_a_token  # of the embedding only a row is read


def test_the_embedding_and_the_head_keep_8_bits_where_layers_have_4():
    fast = prepare_for_inference(small_model(tie_word_embeddings=False), "q4_1")
    kinds = {name: matrix.kind for name, matrix in fast.matrices.items()}
    assert kinds.pop("embed_tokens") == kinds.pop("lm_head") == "q8_0"
    assert set(kinds.values()) == {"q4_1"}


def test_caches_that_the_kernels_cannot_read_are_refused():
    fast, token = prepare_for_inference(small_model()), random_ids(1, 1)
    with pytest.raises(ValueError, match=r"a ListCache: .* make_cache\(model\)"):
        fast(token, kv_cache=ListCache())
    with pytest.raises(ValueError, match=r"this cache holds torch\.bfloat16"):
        fast(token, kv_cache=KVCache(fast.config, dtype=torch.bfloat16))
    assert decode(fast, token, make_cache(fast)).shape == (1, 96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 0}, "threads = 0: must be at least 1"),
        ({"weights": "int4"}, "'int4': must be one of float32, bfloat16, int8, q4_1"),
        ({"weights": "q8_0"}, "must be one of"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        prepare_for_inference(small_model(), **changes)


def test_what_cannot_be_packed_is_refused_or_fused():
    for prepared in (prepare_for_inference(small_model()), FusedModel(small_model())):
        for prepare in (prepare_for_inference, FusedModel):
            with pytest.raises(ValueError, match="prepared already"):
                prepare(prepared)
    torch.manual_seed(0)
    half = build_decoder_only_model(
        small_model().config, EngineConfig("cpu", "bfloat16")
    )
    with pytest.raises(ValueError, match=r"'int8' on cpu in torch.bfloat16"):
        prepare_for_inference(half, "int8")
    assert isinstance(prepare_for_inference(half), FusedModel)


def test_a_model_of_kernels_stays_where_it_is_and_in_float32():
    fast, ids = prepare_for_inference(small_model()), random_ids(1, 5)
    wanted = fast(ids)
    for elsewhere in (torch.bfloat16, "meta"):
        with pytest.raises(ValueError, match=f"{elsewhere}.*model as built"):
            fast.to(elsewhere)
    assert fast.float().to("cpu") is fast
    assert torch.equal(fast(ids), wanted)


def test_the_warning_that_numba_is_missing_points_at_who_asked(monkeypatch):
    monkeypatch.setattr("llm_course.engine.prepare.compiled_engine", lambda: None)
    with pytest.warns(UserWarning, match="pip install numba") as seen:
        prepare_for_inference(small_model())
    line = linecache.getline(seen[0].filename, seen[0].lineno)
    assert line.strip() == "prepare_for_inference(small_model())"


def test_memory_that_a_cache_gave_back_is_not_held():
    fast, ids = prepare_for_inference(small_model(), threads=1), random_ids(1, 5)
    manager = KVCacheManager(fast.config, 10**6)
    for cache in (KVCache(fast.config, capacity=8), manager.allocate(8)):
        fast(ids, kv_cache=cache)
        old = [ref(layer) for layer in cache.layers]
        if cache.max_length is None:
            cache.room(0, 4)  # the first layer grows
            assert [layer() is None for layer in old] == [True, False]
        else:
            manager.free(cache)
            assert [layer() is None for layer in old] == [True, True]


def test_a_layer_that_was_replaced_is_found():
    fast, ids = prepare_for_inference(small_model()), random_ids(1, 5)
    cache, other = make_cache(fast), make_cache(fast)
    fast(ids, kv_cache=cache)
    old, cache.layers = cache.layers, [layer.clone() for layer in cache.layers]
    for layer in old:
        layer.zero_()
    fast(ids, kv_cache=other)
    wanted = fast(ids[:, :1], kv_cache=other)
    assert torch.equal(fast(ids[:, :1], kv_cache=cache), wanted)


@pytest.mark.parametrize("copy_of", [deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_weights_of_its_own(copy_of):
    model, ids = small_model(qkv_bias=True, qk_norm=True), random_ids(1, 5)
    fast = prepare_for_inference(model, "q4_1")
    wanted = fast(ids)
    copy = copy_of(fast)
    for matrix in fast.matrices.values():
        matrix.data.fill(0)
    assert torch.equal(copy(ids), wanted)
    assert not torch.equal(fast(ids), wanted)
