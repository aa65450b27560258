"""The model against slow, obvious versions. What went wrong elsewhere is in
tests/traps/."""

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
    build_decoder_only_model,
    capture_attention,
)
from llm_course.viz.probe import record
from tests.helpers import ListCache, random_ids, small_config, small_model


def rotate_by_matrix(x: torch.Tensor, theta: float) -> torch.Tensor:
    """The oracle: one 2x2 rotation matrix for each position and adjacent pair, x [S,
    D]."""
    out = torch.empty_like(x)
    for p in range(len(x)):
        for i in range(x.shape[1] // 2):
            angle = p / theta ** (2 * i / x.shape[1])
            c, s = math.cos(angle), math.sin(angle)
            turn = torch.tensor([[c, -s], [s, c]], dtype=x.dtype)
            out[p, 2 * i : 2 * i + 2] = turn @ x[p, 2 * i : 2 * i + 2]
    return out


# --- norm and MLP


def test_norm_keeps_float64_exact():
    x = torch.randn(3, 8, dtype=torch.float64)
    out = RMSNorm(8, eps=0.0).double()(x)
    torch.testing.assert_close(
        out, x / x.pow(2).mean(-1, keepdim=True).sqrt(), rtol=1e-14, atol=0
    )


def test_mlp_has_no_bias_and_treats_positions_alone():
    mlp = MLP(8, 12)
    assert {name for name, _ in mlp.named_parameters()} == {
        "gate_proj.weight",
        "up_proj.weight",
        "down_proj.weight",
    }
    x = torch.randn(1, 4, 8)
    torch.testing.assert_close(mlp(x)[:, 2:3], mlp(x[:, 2:3]))


# --- RoPE


def test_rope_equals_the_matrix_loop():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 10, 16)
    rope = RotaryEmbedding(16, max_position_embeddings=10, rope_theta=500.0)
    rotated, _ = rope(x, x, torch.arange(10)[None])
    for head in range(3):
        torch.testing.assert_close(
            rotated[0, head], rotate_by_matrix(x[0, head], 500.0)
        )


def test_rope_refuses_negative_positions_and_odd_heads():
    with pytest.raises(ValueError, match="-1"):
        RotaryEmbedding(8).cos_sin(torch.tensor([[-1]]))
    with pytest.raises(ValueError, match="head_dim = 7"):
        RotaryEmbedding(7)


# --- attention and masks


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


# --- the whole model


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
    saved = sum(p.numel() for p in untied.parameters()) - sum(
        p.numel() for p in tied.parameters()
    )
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


@torch.no_grad()
def test_biases_and_norms_of_heads():
    """Head by head: product, bias, norm over the head's channels, rotation."""
    config = small_config(
        qkv_bias=True, qk_norm=True, rms_norm_eps=0.1, rope_theta=50.0, num_layers=1
    )
    torch.manual_seed(0)
    layer = SelfAttention(config)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn_like(parameter))
    x, D = torch.randn(5, 64), config.head_dim

    def head(name: str, h: int, norm: torch.Tensor | None) -> torch.Tensor:
        linear, rows = getattr(layer, f"{name}_proj"), slice(h * D, (h + 1) * D)
        out = x @ linear.weight[rows].T + linear.bias[rows]  # [S, D]
        if norm is None:
            return out
        out = out / (out.pow(2).mean(-1, keepdim=True) + 0.1).sqrt() * norm
        return rotate_by_matrix(out, 50.0)

    outs = []
    for h in range(8):
        q, k = head("q", h, layer.q_norm.weight), head("k", h // 4, layer.k_norm.weight)
        scores = (q @ k.T / D**0.5).masked_fill(~torch.ones(5, 5).tril().bool(), -1e9)
        outs.append(scores.softmax(-1) @ head("v", h // 4, None))
    expected = layer.o_proj(torch.cat(outs, dim=-1))
    torch.testing.assert_close(layer(x[None])[0], expected, rtol=1e-4, atol=1e-4)


def test_a_llama_has_no_more_parameters_than_before():
    names = {name for name, _ in SelfAttention(small_config()).named_parameters()}
    assert names == {f"{kind}_proj.weight" for kind in "qkvo"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"attention_mask": torch.ones(1, 1, 2, 2)},
        {"attention_mask": torch.ones(1, 1, 2, 3, dtype=torch.bool)},
        {"position_ids": torch.tensor([[-1, 0]])},
    ],
)
def test_a_layer_that_refuses_has_stored_nothing(wrong):
    cache = ListCache()
    with pytest.raises(ValueError, match=r"attention_mask|position_ids"):
        SelfAttention(small_config())(torch.randn(1, 2, 64), kv_cache=cache, **wrong)
    assert not cache.layers
