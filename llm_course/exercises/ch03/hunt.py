"""The bug hunt of 03_attention_gqa: causal for a whole prompt and for one token, not in
between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch03.steps import (
    causal,
    distances,
    normal,
    scores_of,
    weighted,
)
from llm_course.exercises.hunts import BugHunt


def shared(q: Tensor, *tensors: Tensor) -> list[Tensor]:
    """The tensors [B, Hkv, K, D] with a copy for each query head: [B, H, K, D]."""
    return [t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in tensors]


def right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = shared(q, k, v)
    return weighted(scores_of(q, k), causal(q.shape[2], k.shape[2]), v)


def chunk_top_left(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Right with Q = K and with Q = 1."""
    k, v = shared(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)


def always_top_left(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = shared(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def repeated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    return right(q, k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1))


def one_too_wide(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = shared(q, k, v)
    return weighted(scores_of(q, k), distances(q.shape[2], k.shape[2]) >= -1, v)


def one_for_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The chunk's own keys are all read, the later ones too."""
    k, v = shared(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] == k.shape[2])


def masked_late(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = shared(q, k, v)
    return (scores_of(q, k).softmax(-1) * causal(q.shape[2], k.shape[2])) @ v


def first_row_for_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return right(q, k[:1].expand_as(k), v[:1].expand_as(v))


def inputs(num_queries: int) -> tuple[Tensor, Tensor, Tensor]:
    q = normal(2, 4, 5, 8)[:, :, -num_queries:]
    return q, normal(2, 2, 5, 8, seed=1), normal(2, 2, 5, 8, seed=2)


def whole_prompt(implementation: Callable[..., Tensor]) -> None:
    expected = F.scaled_dot_product_attention(
        *inputs(5), is_causal=True, enable_gqa=True
    )
    assert torch.allclose(implementation(*inputs(5)), expected, atol=1e-5)


def one_token(implementation: Callable[..., Tensor]) -> None:
    expected = F.scaled_dot_product_attention(*inputs(1), enable_gqa=True)
    assert torch.allclose(implementation(*inputs(1)), expected, atol=1e-5)


def flag_for_chunks(implementation: Callable[..., Tensor]) -> None:
    """Takes the flag's triangle for the truth."""
    expected = F.scaled_dot_product_attention(
        *inputs(3), is_causal=True, enable_gqa=True
    )
    assert torch.allclose(implementation(*inputs(3)), expected, atol=1e-5)


HUNT = BugHunt(
    "03.hunt",
    right=right,
    planted=chunk_top_left,
    kind="it is right for a whole prompt, and for one new token",
    others={
        "query head h reads K/V head h % Hkv": repeated,
        "a triangle that is one too wide": one_too_wide,
        "is_causal=True whatever Q and K are": always_top_left,
        "no mask at all where Q and K differ": one_for_all,
        "weights set to 0 after the softmax": masked_late,
        "the keys and values of the first sentence used for all": first_row_for_all,
    },
    wrong={
        "Your test accepts the planted bug": whole_prompt,
        "Your test accepts the planted bug.": one_token,
        "Your test rejects the right implementation": flag_for_chunks,
    },
)
