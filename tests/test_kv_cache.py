"""The cache's storage, its growth and its limits; the manager's budget."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.engine import KVCache, KVCacheManager, cache_bytes, make_cache
from llm_course.types import Cache as Protocol
from tests.helpers import random_ids, small_config, small_model

HKV, D = 2, 8  # of small_config
TOKEN = cache_bytes(small_config(), 1)


def keys(tokens: int, start: int = 0, rows: int = 1) -> torch.Tensor:
    """[rows, Hkv, tokens, D], each number the position it belongs to."""
    positions = torch.arange(start, start + tokens, dtype=torch.float32)
    return positions[None, None, :, None].expand(rows, HKV, tokens, D)


def fill(cache: KVCache, tokens: int) -> None:
    for layer_idx in range(2):
        k = keys(tokens, cache.length, cache.batch_size)
        cache.update(layer_idx, k, -k)
    cache.advance(tokens)


@given(
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    capacity=st.integers(1, 12),
)
def test_whatever_the_parts_and_the_capacity_all_tokens_are_there(parts, capacity):
    cache = KVCache(small_config(), capacity=capacity)
    assert isinstance(cache, Protocol)
    for part in parts:
        fill(cache, part)
    total = sum(parts)
    assert cache.length == total
    for layer_idx in range(2):
        k, v = cache.update(layer_idx, keys(1, total), -keys(1, total))
        assert torch.equal(k, keys(total + 1))
        assert torch.equal(v, -keys(total + 1))
    assert cache.nbytes == cache.capacity * TOKEN


def test_a_pass_that_broke_off_while_the_cache_grew_leaves_no_trace():
    """As Ctrl-C may do: one layer has more room than the other, and nothing was
    counted."""
    cache = KVCache(small_config(), capacity=2)
    fill(cache, 2)
    cache.update(0, keys(2, 50), keys(2, 50))
    assert (cache.length, cache.capacity) == (2, 2)
    fill(cache, 2)
    for layer_idx in range(2):
        assert torch.equal(cache.update(layer_idx, keys(1, 4), keys(1, 4))[0], keys(5))


def test_growth_is_geometric():
    cache = KVCache(small_config(), capacity=1)
    capacities = []
    for _ in range(100):
        fill(cache, 1)
        capacities.append(cache.capacity)
    assert sorted(set(capacities)) == [1, 2, 4, 8, 16, 32, 64, 128]


def test_update_returns_views_of_memory_reserved_ahead():
    cache = KVCache(small_config(), capacity=16)
    before = [layer.data_ptr() for layer in cache.layers]
    fill(cache, 5)
    k, v = cache.update(0, keys(1), keys(1))
    assert [layer.data_ptr() for layer in cache.layers] == before
    assert k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr() == before[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (3, 50)])
def test_bytes_are_those_of_the_formula(dtype, rows, tokens):
    config = small_config()
    cache = KVCache(config, rows, tokens, dtype=dtype)
    wanted = (
        2 * config.num_layers * rows * config.num_kv_heads * tokens * config.head_dim
    )
    wanted *= 4 if dtype == torch.float32 else 2
    assert cache.nbytes == cache_bytes(config, tokens, rows, dtype) == wanted


def test_a_limit_is_reached_exactly_and_not_passed():
    cache = KVCache(small_config(), capacity=3, max_length=5)
    fill(cache, 4)
    fill(cache, 1)
    assert cache.capacity == 5
    with pytest.raises(ValueError, match=r"6 tokens, and max_length = 5"):
        cache.update(0, keys(1), keys(1))
    k, _ = (cache.truncate(4), cache.update(0, keys(1, 4), keys(1)))[1]
    assert torch.equal(k, keys(5))  # nothing was lost by the refusal


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0"),
        ({"capacity": 0}, "capacity = 0"),
        ({"capacity": 9, "max_length": 8}, "max_length = 8"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        KVCache(small_config(), **changes)


@pytest.mark.parametrize("length", [-1, 4])
def test_truncate_takes_lengths_that_are_there(length):
    cache = KVCache(small_config())
    fill(cache, 3)
    with pytest.raises(ValueError, match="holds 3 tokens"):
        cache.truncate(length)
    assert cache.length == 3


@pytest.mark.parametrize("n", [-1, 5])
def test_advance_takes_no_more_than_there_is_room_for(n):
    cache = KVCache(small_config(), capacity=8)
    fill(cache, 4)
    with pytest.raises(ValueError, match=f"n = {n}: must be from 0 to 4"):
        cache.advance(n)
    cache.advance(4)
    assert cache.length == cache.capacity == 8


def test_a_cache_that_was_freed_counts_no_token():
    manager = KVCacheManager(small_config(), 10**6)
    cache = manager.allocate(8)
    manager.free(cache)
    with pytest.raises(ValueError, match="n = 1: must be from 0 to 0"):
        cache.advance(1)


def test_rows_heads_and_dtype_are_checked():
    cache = KVCache(small_config(), batch_size=2)
    for k in (keys(1), torch.zeros(2, 8, 1, D), torch.zeros(2, HKV, D)):
        with pytest.raises(ValueError, match=r"this cache holds \[2, 2, S, 8\]"):
            cache.update(0, k, k)
    half = keys(1, rows=2).bfloat16()
    with pytest.raises(ValueError, match=r"bfloat16, and this cache holds torch\.flo"):
        cache.update(0, half, half)


def test_under_autocast_the_message_says_which_cache_fits(prepare_modules):
    model, ids = prepare_modules(small_model()), random_ids(1, 4)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        with pytest.raises(ValueError, match=r"dtype=torch\.bfloat16 \(torch\.autoc"):
            model(ids, kv_cache=make_cache(model))
        cache = KVCache(model.config, dtype=torch.bfloat16)
        cached = model(ids, kv_cache=cache)
        torch.testing.assert_close(cached, model(ids))


def test_a_cache_made_in_inference_mode_works_outside(prepare):
    model = prepare(small_model())
    with torch.inference_mode():
        cache = make_cache(model, capacity=1)
        model(random_ids(1, 5), kv_cache=cache)
    logits = model(random_ids(1, 1), kv_cache=cache)
    assert logits.shape == (1, 1, 96)
    assert not cache.layers[0].requires_grad


def test_an_interrupted_forward_leaves_no_trace():
    model, ids = small_model(), random_ids(1, 6)
    cache = make_cache(model)
    with torch.inference_mode():
        model(ids[:, :4], kv_cache=cache)
        hook = model.layers[1].mlp.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(random_ids(1, 2, seed=9), kv_cache=cache)
        hook.remove()
        assert cache.length == 4
        rest = model(ids[:, 4:], kv_cache=cache)
        torch.testing.assert_close(rest, model(ids)[:, 4:])


def manager(tokens: int) -> KVCacheManager:
    return KVCacheManager(small_config(), budget=tokens * TOKEN)


def test_a_refusal_states_need_and_budget_and_changes_nothing():
    caches = manager(100)
    held = caches.allocate(30, batch_size=2)
    before = caches.stats
    message = (
        rf"needs {41 * TOKEN:,} bytes, and {40 * TOKEN:,} of the budget of"
        rf" {100 * TOKEN:,}"
    )
    with pytest.raises(MemoryError, match=message):
        caches.allocate(41)
    assert caches.stats.refused == 1
    assert caches.stats.in_use == before.in_use == 60 * TOKEN == held.nbytes
    assert caches.allocate(40).capacity == 40


def test_freed_memory_is_used_again_and_the_old_owner_is_shut_out():
    caches = manager(100)
    first = caches.allocate(60)
    fill(first, 3)
    memory = [layer.data_ptr() for layer in first.layers]
    caches.free(first)
    assert (caches.stats.in_use, caches.stats.kept) == (0, 60 * TOKEN)
    second = caches.allocate(50)
    assert [layer.data_ptr() for layer in second.layers] == memory
    assert second.length == 0
    assert caches.stats.reused == 1
    with pytest.raises(ValueError, match="was freed"):
        first.update(0, keys(1), keys(1))
    with pytest.raises(ValueError, match="freed before"):
        caches.free(first)
    with pytest.raises(ValueError, match="not allocated here"):
        caches.free(KVCache(small_config()))


def test_kept_memory_gives_way_to_a_request_that_does_not_fit_it():
    caches = manager(100)
    for cache in [caches.allocate(20), caches.allocate(60)]:
        caches.free(cache)
    # neither is large enough, both together too much
    assert caches.allocate(80).capacity == 80
    assert (caches.stats.kept, caches.stats.peak) == (20 * TOKEN * 0, 80 * TOKEN)


def test_a_small_request_does_not_take_much_larger_memory():
    caches = manager(100)
    large = caches.allocate(60)
    caches.free(large)
    caches.allocate(5)
    assert caches.stats.in_use == 5 * TOKEN
    assert caches.allocate(60).capacity == 60
    assert caches.stats.reused == 1


@settings(max_examples=50, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(1, 40), st.integers(1, 2)),
        min_size=1,
        max_size=30,
    )
)
def test_the_budget_holds_whatever_is_asked_for(steps):
    caches, out = manager(100), []
    for free, tokens, rows in steps:
        if free and out:
            caches.free(out.pop(0))
            continue
        try:
            out.append(caches.allocate(tokens, rows))
        except MemoryError:
            assert caches.stats.in_use + tokens * rows * TOKEN > caches.budget
    held = [layer.untyped_storage() for cache in out for layer in cache.layers]
    assert len({storage.data_ptr() for storage in held}) == len(held)  # none is shared
    assert sum(storage.nbytes() for storage in held) == caches.stats.in_use
    assert caches.stats.in_use + caches.stats.kept <= caches.budget
    assert caches.stats.in_use <= caches.stats.peak <= caches.budget


def test_a_managed_cache_does_not_grow():
    cache = manager(100).allocate(4)
    fill(cache, 4)
    with pytest.raises(ValueError, match="max_length = 4"):
        cache.update(0, keys(1), keys(1))
