"""Readers' tests for 01.hunt: a norm that changes its input."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from llm_course.exercises import Function, normal
from llm_course.exercises.ch01.hunt import norm

EPS = 1e-5


def values_only(implementation: Function) -> None:
    """Ordinary and small vectors: the result is right."""
    for size in (1.0, 1e-3):
        x, weight = size * (normal(2, 4, 16) + 0.5), normal(16, seed=1)
        expected = F.rms_norm(x, (16,), weight, EPS)
        assert torch.allclose(implementation(x, weight, EPS), expected, rtol=1e-3)


def bfloat16_only(implementation: Function) -> None:
    """Looks at the input, but `.to` copies a bfloat16 one."""
    x, weight = normal(4, 16).bfloat16(), normal(16, seed=1).bfloat16()
    kept = x.clone()
    assert torch.equal(implementation(x, weight, EPS), norm(kept, weight, EPS))
    assert torch.equal(x, kept)


def size_one(implementation: Function) -> None:
    """With eps the size of a small vector is below 1."""
    out = implementation(1e-3 * normal(4, 16), torch.ones(16), EPS)
    assert torch.allclose(out.pow(2).mean(-1), torch.ones(4), atol=1e-3)


def default_eps(implementation: Function) -> None:
    x = 1e-3 * normal(4, 16)
    assert torch.allclose(implementation(x, torch.ones(16), EPS), F.rms_norm(x, (16,)))


def torch_order(implementation: Function) -> None:
    x, weight = normal(4, 16).bfloat16(), normal(16, seed=1).bfloat16()
    expected = F.rms_norm(x, (16,), weight, EPS)
    assert torch.equal(implementation(x, weight, EPS), expected)


TOO_WEAK = values_only, bfloat16_only
TOO_STRICT = size_one, default_eps, torch_order
