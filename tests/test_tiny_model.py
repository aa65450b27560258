"""The twelve things a reader's model must do, on the tiny model of
configs/tiny_model.json."""

from __future__ import annotations

import math
from importlib import resources

import pytest
import torch
from torch.nn import functional as F

from llm_course.config import GenerationConfig, ModelConfig
from llm_course.engine import generate, top_k_filtering, top_p_filtering
from llm_course.models import (
    MLP,
    DecoderOnlyModel,
    RMSNorm,
    RotaryEmbedding,
    SelfAttention,
    build_decoder_only_model,
)
from tests.helpers import CPU, random_ids, small_config

VOCAB = 32000


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return ModelConfig.from_json(
        str(resources.files("llm_course") / "configs/tiny_model.json")
    )


@pytest.fixture(scope="module")
def model(config: ModelConfig) -> DecoderOnlyModel:
    torch.manual_seed(0)
    return build_decoder_only_model(config, CPU)


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return random_ids(2, 12, vocab_size=VOCAB)


def test_import():
    import llm_course.engine
    import llm_course.models

    for package in (llm_course.models, llm_course.engine):
        for name in package.__all__:
            assert callable(getattr(package, name)), name


def test_forward_shape(model, ids):
    with torch.inference_mode():
        logits = model(ids)
        last = model(ids, last_only=True)
    assert logits.shape == (2, 12, VOCAB)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    torch.testing.assert_close(last, logits[:, -1:])


def test_rmsnorm_and_mlp_match_pytorch():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 64) * 3
    norm, mlp = RMSNorm(64, eps=1e-3), MLP(64, 96)
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (64,), norm.weight, eps=1e-3))
    gate, up, down = (
        layer.weight for layer in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    )
    torch.testing.assert_close(
        mlp(x), F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)
    )


def test_rope_preserves_norms_and_sees_only_offsets():
    torch.manual_seed(0)
    rope = RotaryEmbedding(head_dim=16, max_position_embeddings=32)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def turned(x: torch.Tensor, position: int) -> torch.Tensor:
        return rope(x, x, torch.tensor([[position]]))[0]

    for position in (0, 1, 7, 31, 100):  # 100 is past the table
        torch.testing.assert_close(turned(q, position).norm(), q.norm())
    scores = [(turned(q, p + 5) * turned(k, p)).sum() for p in (0, 3, 20, 90)]
    torch.testing.assert_close(
        torch.stack(scores), scores[0].expand(4), atol=1e-4, rtol=1e-4
    )
    assert not torch.isclose(scores[0], (turned(q, 6) * turned(k, 0)).sum(), atol=1e-2)


def test_gqa_equals_a_loop_over_heads():
    torch.manual_seed(0)
    layer = SelfAttention(small_config(num_heads=8, num_kv_heads=2))
    x = torch.randn(1, 6, 64)
    positions = torch.arange(6)[None]
    q = layer.q_proj(x).view(1, 6, 8, 8)
    k, v = (proj(x).view(1, 6, 2, 8) for proj in (layer.k_proj, layer.v_proj))
    heads = []
    for head in range(8):
        shared = head // 4  # query heads 0-3 read K/V head 0, heads 4-7 read head 1
        q_h, k_h = (
            q[:, :, head, None].transpose(1, 2),
            k[:, :, shared, None].transpose(1, 2),
        )
        q_h, k_h = layer.rotary(q_h, k_h, positions)  # [1, 1, S, D]
        out = []
        for i in range(6):
            scores = torch.stack([q_h[0, 0, i] @ k_h[0, 0, j] for j in range(i + 1)])
            weights = (scores / math.sqrt(8)).softmax(dim=0)
            out.append(sum(w * v[0, j, shared] for j, w in enumerate(weights)))
        heads.append(torch.stack(out))  # [S, D]
    expected = layer.o_proj(torch.cat(heads, dim=-1))[None]
    torch.testing.assert_close(layer(x), expected)


def test_a_later_token_changes_nothing_before_it(model, ids):
    changed = ids.clone()
    changed[:, 7] = (ids[:, 7] + 1) % VOCAB
    with torch.inference_mode():
        before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_generate_returns_prompt_and_the_number_asked_for(model, config, ids):
    out = generate(model, ids, config, CPU, GenerationConfig(max_new_tokens=5, seed=0))
    assert out.shape == (2, 17)
    assert torch.equal(out[:, :12], ids)
    assert ((out >= 0) & (out < VOCAB)).all()


def test_greedy_is_deterministic_and_takes_the_argmax(model, config, ids):
    greedy = GenerationConfig(max_new_tokens=4, do_sample=False)
    out = generate(model, ids, config, CPU, greedy)
    assert torch.equal(out, generate(model, ids, config, CPU, greedy))
    with torch.inference_mode():
        best = model(out[:, :-1])[:, 11:].argmax(dim=-1)
    assert torch.equal(out[:, 12:], best)


def test_eos_stops_a_row_and_pads_it(model, config, ids):
    greedy = GenerationConfig(max_new_tokens=6, do_sample=False)
    free = generate(model, ids, config, CPU, greedy)
    eos = int(free[0, 14])  # row 0's third new token
    stops = [(row == eos).nonzero() for row in free[:, 12:]]
    first = [int(where[0]) if len(where) else 6 for where in stops]
    out = generate(model, ids, config, CPU, greedy, eos_token_id=eos, pad_token_id=0)
    assert out.shape[1] == 12 + min(6, max(first) + 1)
    for row, stop in enumerate(first):
        assert torch.equal(out[row, : 13 + stop], free[row, : 13 + stop])
        assert (out[row, 13 + stop :] == 0).all()
    in_prompt = generate(model, ids, config, CPU, greedy, eos_token_id=int(ids[0, 3]))
    assert in_prompt.shape[1] > 13  # an EOS of the prompt stops nothing


def test_top_k_keeps_the_k_largest(model, ids):
    with torch.inference_mode():
        logits = model(ids)[:, -1]
    kept = top_k_filtering(logits, 10)
    assert (kept.isfinite().sum(dim=-1) == 10).all()
    values = logits.topk(10).values
    torch.testing.assert_close(kept.topk(10).values, values)
    for off in (0, None, VOCAB, VOCAB + 1):
        assert torch.equal(top_k_filtering(logits, off), logits)


def test_top_p_keeps_the_smallest_set_that_reaches_p(model, ids):
    with torch.inference_mode():
        logits = model(ids)[:, -1]
    for p in (0.0, 0.1, 0.5, 0.9):
        kept = top_p_filtering(logits, p).isfinite()
        for row, keep in zip(logits.double().softmax(dim=-1), kept, strict=True):
            inside = row[keep]
            assert len(inside) >= 1
            assert inside.sum() >= p - 1e-6
            assert inside.sum() - inside.min() < p or len(inside) == 1
            assert len(inside) == len(row) or inside.min() >= row[~keep].max()
    assert torch.equal(top_p_filtering(logits, 1.0), logits)


def test_parameter_count(model, config):
    hidden, inner, vocab = config.hidden_dim, config.intermediate_dim, config.vocab_size
    a_layer = 4 * hidden * hidden + 3 * hidden * inner + 2 * hidden
    assert 2 * vocab * hidden + config.num_layers * a_layer + hidden == 19_007_744
    assert sum(p.numel() for p in model.parameters()) == 19_007_744
