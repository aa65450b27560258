"""Each part of a layer alone, on the same random input: norm, MLP, RoPE, attention,
layer.

Where RoPE takes part, the reference computes in float32: see `configs.Pair`.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.llama import modeling_llama as llama

from llm_course.models import MLP, RMSNorm, RotaryEmbedding
from tests.parity.configs import (
    Case,
    Pair,
    adjacent_order,
    build_pair,
    cases,
    their_config,
)
from tests.parity.harness import compared, relative_error

# of the input; at 1e-3 its mean square is of eps's own size
SIZES = (1e-3, 1e-2, 1.0, 100.0)


@compared(
    "RMSNorm",
    f"inputs of size {SIZES[0]:g} to {SIZES[-1]:g}, eps 1e-6 to 1e-3",
    st.tuples(cases(), st.sampled_from(SIZES)),
)
def test_norm(drawn: tuple[Case, float], dtype: str) -> float:
    case, size = drawn
    hidden, eps = case.config.hidden_dim, case.config.rms_norm_eps
    ours, theirs = RMSNorm(hidden, eps), llama.LlamaRMSNorm(hidden, eps)
    weight = {"weight": case.normal(hidden)}
    ours.load_state_dict(weight)
    theirs.load_state_dict(weight)
    x = hidden_states(case, dtype) * size
    return error_of(ours.to(x.dtype)(x), theirs.to(x.dtype)(x), dtype)


@compared("MLP", "hidden 8 to 192, intermediate 3 to 100", cases())
def test_mlp(case: Case, dtype: str) -> float:
    ours = MLP(case.config.hidden_dim, case.config.intermediate_dim)
    theirs = llama.LlamaMLP(their_config(case.config))
    weights = {
        name: case.normal(*w.shape) / w.shape[1] ** 0.5
        for name, w in ours.state_dict().items()
    }
    ours.load_state_dict(weights)
    theirs.load_state_dict(weights)
    x = hidden_states(case, dtype)
    return error_of(ours.to(x.dtype)(x), theirs.to(x.dtype)(x), dtype)


@compared(
    "RoPE",
    "no, linear and llama3 scaling; head_dim 2 to 16; positions up to 9,000, past the"
    " table as well",
    st.tuples(cases(), st.sampled_from([0, 1, 500, 9000])),
)
def test_rope(drawn: tuple[Case, int], dtype: str) -> float:
    """Ours on adjacent channels, theirs on half-split ones; compared in adjacent
    order."""
    case, start = drawn
    config = case.config
    q = case.normal(case.batch, config.num_heads, case.length, config.head_dim)
    k = case.normal(case.batch, config.num_kv_heads, case.length, config.head_dim)
    q, k = q.to(getattr(torch, dtype)), k.to(getattr(torch, dtype))
    positions = case.positions + start
    ours = RotaryEmbedding(
        config.head_dim,
        config.max_position_embeddings,
        config.rope_theta,
        rope_scaling=config.rope_scaling,
    )
    order = adjacent_order(1, config.head_dim)
    rotated = ours(q[..., order], k[..., order], positions)
    cos, sin = llama.LlamaRotaryEmbedding(their_config(config))(q.float(), positions)
    expected = llama.apply_rotary_pos_emb(q.float(), k.float(), cos, sin)
    pairs = zip(rotated, expected, strict=True)
    return max(relative_error(mine, its[..., order], dtype) for mine, its in pairs)


@compared(
    "SelfAttention",
    "1 to 12 heads on 1 to 3 K/V heads, head_dim 2 to 16, rows of 1 to 12 padded on the"
    " left",
    cases(),
)
def test_attention(case: Case, dtype: str) -> float:
    pair, x = build_pair(case, dtype), hidden_states(case, dtype)
    ours = pair.ours.layers[0].self_attn(x, allowed(case), case.positions)
    theirs, _ = pair.theirs.model.layers[0].self_attn(
        x.float(), **their_arguments(case, pair, x.float())
    )
    return error_of(case.rows(ours), case.rows(theirs), dtype)


@compared("DecoderLayer", "the same shapes", cases())
def test_layer(case: Case, dtype: str) -> float:
    pair, x = build_pair(case, dtype), hidden_states(case, dtype)
    ours = pair.ours.layers[-1](x, allowed(case), case.positions)
    theirs = pair.theirs.model.layers[-1](
        x.float(), **their_arguments(case, pair, x.float())
    )
    return error_of(case.rows(ours), case.rows(theirs), dtype)


def hidden_states(case: Case, dtype: str) -> Tensor:
    x = case.normal(case.batch, case.length, case.config.hidden_dim)  # [B, S, hidden]
    return x.to(getattr(torch, dtype))


def allowed(case: Case) -> Tensor:
    """[B, 1, S, S] boolean: the real tokens up to each one."""
    causal = torch.ones(case.length, case.length, dtype=torch.bool).tril()
    return causal & case.mask[:, None, None, :]


def their_arguments(case: Case, pair: Pair, x: Tensor) -> dict[str, object]:
    """Their layers take a mask to add, and the angles from outside."""
    added = torch.zeros(case.batch, 1, case.length, case.length, dtype=x.dtype)
    added.masked_fill_(~allowed(case), torch.finfo(x.dtype).min)
    angles = pair.theirs.model.rotary_emb(x, case.positions)
    return {"attention_mask": added, "position_embeddings": angles}


def error_of(ours: Tensor, theirs: Tensor, dtype: str) -> float:
    return relative_error(ours.detach(), theirs.detach(), dtype)
