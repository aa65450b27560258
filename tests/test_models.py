"""The model against slow, obvious versions, and against the traps of its parts."""

from __future__ import annotations

import math

import pytest
import torch

from llm_course.config import EngineConfig
from llm_course.models import (
    MLP,
    RMSNorm,
    RotaryEmbedding,
    SelfAttention,
    apply_rotary,
    attention_weights,
    build_decoder_only_model,
    capture_attention,
)
from llm_course.probe import record
from tests.helpers import ListCache, random_ids, small_config, small_model


def rotate_by_matrix(x: torch.Tensor, theta: float) -> torch.Tensor:
    """The oracle: one 2x2 rotation matrix for each position and adjacent pair, x [S, D]."""
    out = torch.empty_like(x)
    for p in range(len(x)):
        for i in range(x.shape[1] // 2):
            angle = p / theta ** (2 * i / x.shape[1])
            c, s = math.cos(angle), math.sin(angle)
            turn = torch.tensor([[c, -s], [s, c]], dtype=x.dtype)
            out[p, 2 * i : 2 * i + 2] = turn @ x[p, 2 * i : 2 * i + 2]
    return out


# --- norm and MLP ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_takes_the_mean_in_float32(dtype):
    x = torch.full((1, 64), 300.0, dtype=dtype)  # 300² leaves the range of float16
    torch.testing.assert_close(RMSNorm(64).to(dtype)(x), torch.ones(1, 64, dtype=dtype))


def test_norm_rounds_before_it_weighs():
    torch.manual_seed(0)
    x, norm = torch.randn(50, 64).bfloat16(), RMSNorm(64).bfloat16()
    torch.nn.init.normal_(norm.weight)
    wide = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
    assert torch.equal(norm(x), norm.weight * wide.bfloat16())


def test_norm_eps_is_under_the_root():
    x = torch.full((1, 4), 1e-3)
    out = RMSNorm(4, eps=1e-6)(x)
    torch.testing.assert_close(out, torch.full((1, 4), 2**-0.5))
    assert RMSNorm(4)(torch.zeros(1, 4)).eq(0).all()


def test_norm_keeps_float64_exact():
    x = torch.randn(3, 8, dtype=torch.float64)
    out = RMSNorm(8, eps=0.0).double()(x)
    torch.testing.assert_close(out, x / x.pow(2).mean(-1, keepdim=True).sqrt(), rtol=1e-14, atol=0)


def test_mlp_has_no_bias_and_treats_positions_alone():
    mlp = MLP(8, 12)
    assert {name for name, _ in mlp.named_parameters()} == {
        "gate_proj.weight",
        "up_proj.weight",
        "down_proj.weight",
    }
    x = torch.randn(1, 4, 8)
    torch.testing.assert_close(mlp(x)[:, 2:3], mlp(x[:, 2:3]))


# --- RoPE -----------------------------------------------------------------------------------------


def test_rope_equals_the_matrix_loop():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 10, 16)
    rope = RotaryEmbedding(16, max_position_embeddings=10, rope_theta=500.0)
    rotated, _ = rope(x, x, torch.arange(10)[None])
    for head in range(3):
        torch.testing.assert_close(rotated[0, head], rotate_by_matrix(x[0, head], 500.0))


def test_rope_pairs_are_adjacent():
    x = torch.zeros(1, 1, 1, 8)
    x[..., 0] = 1.0
    turned, _ = RotaryEmbedding(8)(x, x, torch.tensor([[1]]))
    assert turned.nonzero()[:, -1].tolist() == [0, 1]  # half-split would move it to channel 4


def test_rope_is_float32_after_a_cast_and_after_growth():
    model = build_decoder_only_model(small_config(), EngineConfig("cpu", "bfloat16"))
    rope = model.layers[0].self_attn.rotary
    cos, sin = rope.cos_sin(torch.tensor([[4095]]))  # the table was built for 64
    assert cos.dtype == torch.float32
    angle = torch.tensor(4095.0) / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    torch.testing.assert_close(cos[0, 0], angle.cos())
    torch.testing.assert_close(sin[0, 0], angle.sin())
    q = torch.randn(1, 1, 1, 8).bfloat16()
    assert apply_rotary(q, cos, sin).dtype == torch.bfloat16


def test_rope_table_grows_and_stays():
    rope, full = RotaryEmbedding(8, 4), RotaryEmbedding(8, 64)
    positions = torch.tensor([[3, 50, 4]])
    for grown, right in zip(rope.cos_sin(positions), full.cos_sin(positions), strict=True):
        assert torch.equal(grown, right)
    assert len(rope._cos) == 51  # asked for more than double
    for grown, right in zip(
        rope.cos_sin(torch.tensor([[51]])), full.cos_sin(torch.tensor([[51]])), strict=True
    ):
        assert torch.equal(grown, right)  # one past the end
    assert len(rope._cos) == 102  # doubled, so that growing token by token stays cheap


def test_rope_refuses_negative_positions_and_odd_heads():
    with pytest.raises(ValueError, match="-1"):
        RotaryEmbedding(8).cos_sin(torch.tensor([[-1]]))
    with pytest.raises(ValueError, match="head_dim = 7"):
        RotaryEmbedding(7)


# --- attention and masks --------------------------------------------------------------------------


def test_fused_attention_equals_the_captured_weights():
    torch.manual_seed(0)
    layer = SelfAttention(small_config())
    x = torch.randn(2, 5, 64)
    with capture_attention(layer) as maps:
        captured = layer(x)
    assert torch.equal(captured, layer(x))  # looking changes nothing
    assert "attend" not in layer.__dict__
    v = layer.v_proj(x).view(2, 5, 2, 8).transpose(1, 2).repeat_interleave(4, dim=1)
    out = (maps[0] @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer.o_proj(out), captured)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 8, 5))
    assert maps[0].triu(1).eq(0).all()


def test_capture_can_be_limited_and_ends_after_an_error():
    model = small_model()
    with capture_attention(model, layers=[1]) as maps:
        model(random_ids(1, 4))
    assert list(maps) == [1]
    with pytest.raises(ZeroDivisionError), capture_attention(model):
        raise ZeroDivisionError
    assert all("attend" not in layer.self_attn.__dict__ for layer in model.layers)


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


def test_a_large_score_on_a_masked_key_does_not_leak():
    q = torch.tensor([[[[30.0, 0.0], [30.0, 0.0]]]])
    k = torch.tensor([[[[0.0, 0.0], [1e4, 0.0]]]])
    weights = attention_weights(q, k, None)
    assert weights[0, 0, 0].tolist() == [1.0, 0.0]


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


def test_positions_count_real_tokens():
    """RoPE sees offsets only, so a shifted row gives the same logits: look at the positions."""
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


def test_a_layer_alone_continues_at_the_cache_length():
    torch.manual_seed(0)
    layer, x, cache = SelfAttention(small_config()), torch.randn(1, 5, 64), ListCache()
    whole = layer(x)
    first = layer(x[:, :3], kv_cache=cache)
    cache.advance(3)
    rest = layer(x[:, 3:], kv_cache=cache)
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole)


def test_the_layer_takes_boolean_masks_only():
    with pytest.raises(ValueError, match=r"float32.*mask\.bool\(\)"):
        SelfAttention(small_config())(torch.randn(1, 2, 64), torch.zeros(1, 1, 2, 2))


# --- the cache path, by a list-backed cache -------------------------------------------------------


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


# --- the whole model ------------------------------------------------------------------------------


def test_the_model_is_its_parts_in_order():
    model, ids = small_model(), random_ids(1, 6)
    x = model.embed_tokens(ids)
    for layer in model.layers:
        x = x + layer.self_attn(layer.input_layernorm(x))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    torch.testing.assert_close(model(ids), model.lm_head(model.norm(x)))


def test_tied_head_is_the_embedding():
    tied, untied = small_model(tie_word_embeddings=True), small_model()
    assert tied.lm_head.weight is tied.embed_tokens.weight
    assert untied.lm_head.weight is not untied.embed_tokens.weight
    saved = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert saved == 96 * 64


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (torch.tensor([[1, 96]]), ["96", "vocabulary of 96"]),
        (torch.tensor([[-1, 3]]), ["-1", "vocabulary"]),
        (torch.zeros(1, 0, dtype=torch.long), ["[1, 0]", "at least one token"]),
        (torch.tensor([1, 2]), ["[2]", "[B, S]"]),
        (torch.tensor([[0.5]]), ["float32", "whole numbers"]),
    ],
)
def test_bad_ids_are_named(ids, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        small_model()(ids)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_mask_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"\[1, 3\].*\[1, 4\]"):
        small_model()(random_ids(1, 4), torch.ones(1, 3))


def test_build_follows_the_engine_config():
    model = build_decoder_only_model(small_config(), EngineConfig("cpu", "bfloat16"))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not model.training
    with pytest.raises(ValueError, match="no_such_device"):
        build_decoder_only_model(small_config(), EngineConfig("no_such_device"))


def test_record_keeps_inputs_and_outputs():
    model = small_model()
    with record(model, "layers.*.mlp", "norm") as seen:
        model(random_ids(1, 4))
    assert sorted(seen) == ["layers.0.mlp", "layers.1.mlp", "norm"]
    assert torch.equal(model.norm(seen["norm"].input), seen["norm"].output)
    with pytest.raises(ValueError, match="no_such"), record(model, "no_such"):
        pass
    assert not model.norm._forward_hooks
