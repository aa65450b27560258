"""Readers' tests for 03.hunt: causal for a prompt or one token only."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention as attention

from llm_course.exercises import Function, normal


def compared(num_queries: int, is_causal: bool) -> Function:
    """A test of the last queries, with the fused function's own flag for the truth."""
    q, k, v = (normal(2, heads, 5, 8, seed=i) for i, heads in enumerate((4, 2, 2)))
    q = q[:, :, -num_queries:]

    def test(implementation: Function) -> None:
        expected = attention(q, k, v, is_causal=is_causal, enable_gqa=True)
        assert torch.allclose(implementation(q, k, v), expected, atol=1e-5)

    return test


TOO_WEAK = compared(5, is_causal=True), compared(1, is_causal=False)
TOO_STRICT = (compared(3, is_causal=True),)
