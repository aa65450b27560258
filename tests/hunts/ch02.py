"""Readers' tests for 02.hunt: frequencies in the dtype of the input."""

from __future__ import annotations

import torch

from llm_course.exercises import Function, normal
from llm_course.exercises.ch02.hunt import at_positions


def loose_test(implementation: Function) -> None:
    """Large positions, but float32."""
    x = normal(2, 3, 4, 8)
    places = torch.tensor([[0, 1, 2, 3], [4000, 4001, 4002, 4003]])
    expected = at_positions(x, places, 1e5)
    assert torch.allclose(implementation(x, places, 1e5), expected, atol=1e-2)


def near_test(implementation: Function) -> None:
    """bfloat16, but only the first positions, with its tolerance."""
    x, places = normal(1, 3, 4, 8).bfloat16(), torch.arange(4)[None]
    off = implementation(x, places, 1e5) - at_positions(x, places, 1e5)
    assert off.abs().max() < 0.05


def strict_test(implementation: Function) -> None:
    """bfloat16 compared as if it were float32."""
    x, places = normal(1, 3, 4, 8), torch.arange(4)[None]
    expected = at_positions(x, places, 1e5)
    assert torch.allclose(implementation(x.bfloat16(), places, 1e5).float(), expected)


TOO_WEAK = loose_test, near_test
TOO_STRICT = (strict_test,)
