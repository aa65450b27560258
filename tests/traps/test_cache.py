"""The traps of the key/value cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llm_course.config import GenerationConfig
from llm_course.engine import (
    Conversation,
    KVCache,
    KVCacheManager,
    cache_bytes,
    decode,
    generate,
    make_cache,
    prefill,
)
from llm_course.models.rope import apply_rotary
from tests.helpers import CPU, random_ids, small_config, small_model

GREEDY = GenerationConfig(max_new_tokens=6, do_sample=False)


@pytest.mark.parametrize("split", [(9,), (1, 8), (8, 1), (3, 3, 3), (1,) * 9])
@pytest.mark.parametrize("pads", [(0,), (3,), (3, 0)])
def test_every_split_gives_the_uncached_logits(prepare, split, pads):
    model, ids = small_model(), random_ids(len(pads), 9)
    mask = torch.arange(9) >= torch.tensor(pads)[:, None]
    with torch.inference_mode():
        whole = model(ids, mask)
    model = prepare(model)
    cache, seen = make_cache(model, len(pads), capacity=2), 0
    for size in split:
        seen += size
        logits = prefill(model, ids[:, seen - size : seen], cache, mask[:, :seen])
        assert cache.length == seen  # advanced once a forward, not once a layer
        real = mask[:, seen - 1]
        torch.testing.assert_close(logits[real], whole[:, seen - 1][real])


def test_positions_go_on_where_the_cache_ends(prepare):
    """RoPE sees offsets only, so the keys themselves are looked at: each turned by its
    position."""
    plain, ids = small_model(), random_ids(1, 5)
    model = prepare(plain)
    cache = make_cache(model)
    prefill(model, ids[:, :3], cache)
    decode(model, ids[:, 3:4], cache)
    decode(model, ids[:, 4:], cache)
    layer = plain.layers[0]
    with torch.inference_mode():
        normed = layer.input_layernorm(plain.embed_tokens(ids))
        # [1, Hkv, 5, D]
        k = layer.self_attn.k_proj(normed).unflatten(-1, (2, 8)).transpose(1, 2)
        cos, sin = layer.self_attn.rotary.cos_sin(torch.arange(5)[None])
    torch.testing.assert_close(cache.layers[0][0, :, :, :5], apply_rotary(k, cos, sin))


def test_a_reset_cache_is_as_good_as_new(prepare):
    plain = small_model()
    model = prepare(plain)
    cache = make_cache(model)
    prefill(model, random_ids(1, 9, seed=5), cache)
    cache.reset()
    assert cache.length == 0
    ids = random_ids(1, 4)
    with torch.inference_mode():
        torch.testing.assert_close(prefill(model, ids, cache), plain(ids)[:, -1])


def test_a_conversation_forgets_what_the_next_prompt_does_not_begin_with(prepare):
    model = small_model()
    talk = Conversation(prepare(model))
    for seed in (1, 2, 1):
        ids = random_ids(1, 7, seed=seed)
        wanted = generate(
            model, ids, model.config, CPU, replace(GREEDY, use_cache=False)
        )[0, 7:]
        assert list(talk.stream(ids[0].tolist(), GREEDY)) == wanted.tolist()


def test_memory_of_a_freed_cache_brings_nothing_of_it_along(prepare):
    plain, caches = small_model(), KVCacheManager(small_config(), budget=10**6)
    model = prepare(plain)
    old = caches.allocate(20)
    prefill(model, random_ids(1, 9, seed=5), old)
    caches.free(old)
    ids = random_ids(1, 4)
    with torch.inference_mode():
        torch.testing.assert_close(
            prefill(model, ids, caches.allocate(20)), plain(ids)[:, -1]
        )
    with pytest.raises(ValueError, match="freed"):
        prefill(model, ids, old)


def test_what_is_stored_has_the_kv_heads_only(prepare):
    config = small_config()  # 8 query heads on 2 K/V heads of 8 channels, 2 layers
    model = prepare(small_model())
    cache = make_cache(model, batch_size=3, capacity=5)
    prefill(model, random_ids(3, 5), cache)
    assert cache.nbytes == cache_bytes(config, 5, 3) == 2 * 2 * 3 * 2 * 5 * 8 * 4
    assert [list(layer.shape) for layer in cache.layers] == [[2, 3, 2, 5, 8]] * 2


def test_a_cache_grows_and_keeps_what_it_holds(prepare):
    plain, ids = small_model(), random_ids(1, 20)
    model = prepare(plain)
    cache = make_cache(model, capacity=1)
    for i in range(20):
        logits = decode(model, ids[:, i : i + 1], cache)
    with torch.inference_mode():
        torch.testing.assert_close(logits, plain(ids)[:, -1])


def test_past_the_limit_there_is_an_error_and_no_wrap(prepare):
    model, ids = prepare(small_model()), random_ids(1, 5)
    cache = KVCache(model.config, capacity=2, max_length=4)
    prefill(model, ids[:, :4], cache)
    kept = [layer.clone() for layer in cache.layers]
    with pytest.raises(ValueError, match="full"):
        decode(model, ids[:, 4:], cache)
    assert cache.length == 4
    assert all(map(torch.equal, kept, cache.layers))


def test_no_forward_after_the_last_token(prepare):
    model, fed = prepare(small_model()), []
    model.register_forward_pre_hook(lambda _, args: fed.append(args[0].shape[1]))
    generate(model, random_ids(1, 5), model.config, CPU, GREEDY)
    assert fed == [5, 1, 1, 1, 1, 1]
