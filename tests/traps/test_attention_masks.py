"""The traps of attention and its masks, with a list-backed cache where one is
needed."""

from __future__ import annotations

import pytest
import torch

from llm_course.config import EngineConfig
from llm_course.models import SelfAttention, attention_weights, build_decoder_only_model
from llm_course.models.attention import causal_mask
from llm_course.models.transformer import expand_mask
from tests.helpers import ListCache, random_ids, small_config, small_model


def test_query_heads_share_kv_heads_in_blocks():
    """Query head h reads K/V head h // 4: moving one K/V head moves the output of its
    four alone."""
    torch.manual_seed(0)
    q, k = torch.randn(1, 8, 3, 4), torch.randn(1, 2, 3, 4)
    before = attention_weights(q, k, None)
    k[:, 1] += 1.0 + torch.arange(3.0)[:, None]
    changed = (attention_weights(q, k, None) != before).flatten(2).any(-1)[0]
    assert changed.tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize("split", [(9,), (1, 8), (8, 1), (3, 3, 3), (1,) * 9])
@pytest.mark.parametrize("padded", [False, True])
def test_cached_equals_uncached(split, padded):
    model, ids = small_model(), random_ids(2, 9)
    mask = torch.ones(2, 9, dtype=torch.long)
    if padded:
        mask[0, :3] = 0
    cache, outs, seen = ListCache(), [], 0
    with torch.inference_mode():
        for size in split:
            part = ids[:, seen : seen + size]
            seen += size
            outs.append(model(part, mask[:, :seen] if padded else None, kv_cache=cache))
            assert cache.length == seen  # advanced once a forward, not once a layer
        whole = model(ids, mask)
    real = mask.bool()
    torch.testing.assert_close(torch.cat(outs, dim=1)[real], whole[real])
    assert cache.layers[0][0].shape == (2, 2, 9, 8)  # num_kv_heads, not expanded


def test_a_layer_alone_continues_at_the_cache_length():
    torch.manual_seed(0)
    layer, x, cache = SelfAttention(small_config()), torch.randn(1, 5, 64), ListCache()
    whole = layer(x)
    first = layer(x[:, :3], kv_cache=cache)
    cache.advance(3)
    rest = layer(x[:, 3:], kv_cache=cache)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole)


def test_positions_count_real_tokens():
    """RoPE sees offsets only, so a shifted row gives the same logits: look at the
    positions."""
    model, seen = small_model(), []
    keep = lambda module, args: seen.append(args[2].tolist())  # noqa: E731
    hook = model.layers[1].self_attn.rotary.register_forward_pre_hook(keep)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    cache = ListCache()
    with torch.inference_mode():
        model(random_ids(2, 4), mask)
        model(random_ids(2, 3), mask[:, :3], kv_cache=cache)
        model(random_ids(2, 1), mask, kv_cache=cache)
        model(random_ids(1, 2), kv_cache=None)
    hook.remove()
    assert seen[0] == [[0, 0, 0, 1], [0, 1, 2, 3]]
    assert seen[2] == [[0, 0, 0], [0, 1, 2]]
    assert seen[4] == [[1], [3]]
    assert seen[6] == [[0, 1]]


def test_padded_rows_equal_the_rows_alone():
    model = small_model()
    ids = random_ids(3, 9)
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, :4] = 0
    mask[1, :1] = 0
    with torch.inference_mode():
        batched = model(ids, mask)
        for row, start in enumerate((4, 1, 0)):
            alone = model(ids[row : row + 1, start:])
            torch.testing.assert_close(batched[row, start:], alone[0])
        assert torch.equal(batched, model(ids, mask.bool()))
        torch.testing.assert_close(model(ids, torch.ones(3, 9)), model(ids))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_fully_masked_row_is_finite(dtype):
    torch.manual_seed(0)
    model = build_decoder_only_model(small_config(), EngineConfig("cpu", dtype))
    mask = torch.ones(2, 6)
    mask[0] = 0
    with torch.inference_mode():
        assert model(random_ids(2, 6), mask).isfinite().all()
    q = torch.randn(1, 1, 2, 8)
    weights = attention_weights(q, q, torch.tensor([[True, False], [False, False]]))
    assert weights[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_padding_and_causality_are_combined_as_booleans(dtype):
    """Keys that are both padding and in the future: two added minima would overflow to
    -inf."""
    real = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    mask, _ = expand_mask(real, 4, torch.device("cpu"))
    assert mask.dtype == torch.bool
    expected = causal_mask(4, 4, torch.device("cpu")) & real.bool()[:, None, None, :]
    assert torch.equal(mask, expected)
    torch.manual_seed(0)
    model = build_decoder_only_model(small_config(), EngineConfig("cpu", dtype))
    with torch.inference_mode():
        assert model(random_ids(2, 4), real).isfinite().all()


def test_a_large_score_on_a_masked_key_does_not_leak():
    q = torch.tensor([[[[30.0, 0.0], [30.0, 0.0]]]])
    k = torch.tensor([[[[0.0, 0.0], [1e4, 0.0]]]])
    weights = attention_weights(q, k, None)
    assert weights[0, 0, 0].tolist() == [1.0, 0.0]


def test_the_layer_takes_boolean_masks_only():
    with pytest.raises(ValueError, match=r"float32.*mask\.bool\(\)"):
        SelfAttention(small_config())(torch.randn(1, 2, 64), torch.zeros(1, 1, 2, 2))
