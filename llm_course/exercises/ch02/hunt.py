"""The bug hunt of 02_rope: a rotation whose frequencies take the dtype of its input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llm_course.exercises.ch02.rotation import (
    frequencies,
    normal,
    rotate,
    rotate_half_split,
)
from llm_course.exercises.hunts import BugHunt


def at_positions(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    return rotate(x, position_ids[..., None] * frequencies(x.shape[-1], theta))


def rounded_frequencies(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    """`.to(x)` moves the frequencies to the device of x, and to its dtype."""
    exponents = torch.arange(0, x.shape[-1], 2) / x.shape[-1]
    inv_freq = (theta**-exponents).to(x)
    return rotate(x, position_ids[..., None].float() * inv_freq)


def place_in_the_row(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    return at_positions(x, torch.arange(x.shape[2]).expand_as(position_ids), theta)


def first_row_for_all(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    return at_positions(x, position_ids[:1].expand_as(position_ids), theta)


def half_split_pairs(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    return rotate_half_split(
        x, position_ids[..., None] * frequencies(x.shape[-1], theta)
    )


def single_exponent(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    return at_positions(x, position_ids, theta**0.5)


def fixed_theta(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    return at_positions(x, position_ids, 10_000.0)


def loose_test(implementation: Callable[..., Tensor]) -> None:
    """Large positions, but float32."""
    x, places = (
        normal(2, 3, 4, 8),
        torch.tensor([[0, 1, 2, 3], [4000, 4001, 4002, 4003]]),
    )
    expected = at_positions(x, places, 1e5)
    assert torch.allclose(implementation(x, places, 1e5), expected, atol=1e-2)


def near_test(implementation: Callable[..., Tensor]) -> None:
    """bfloat16, but only the first positions, with its tolerance."""
    x, places = normal(1, 3, 4, 8).bfloat16(), torch.arange(4)[None]
    off = implementation(x, places, 1e5) - at_positions(x, places, 1e5)
    assert off.abs().max() < 0.05


def strict_test(implementation: Callable[..., Tensor]) -> None:
    """bfloat16 compared as if it were float32."""
    x, places = normal(1, 3, 4, 8), torch.arange(4)[None]
    expected = at_positions(x, places, 1e5)
    assert torch.allclose(implementation(x.bfloat16(), places, 1e5).float(), expected)


HUNT = BugHunt(
    "02.hunt",
    right=at_positions,
    planted=rounded_frequencies,
    kind="it is right for every float32 x",
    others={
        "the place in the row taken for the position": place_in_the_row,
        "the positions of the first prompt used for all prompts": first_row_for_all,
        "pairs (i, i + D/2) instead of (2i, 2i + 1)": half_split_pairs,
        "frequencies theta^(-i/D) instead of theta^(-2i/D)": single_exponent,
        "theta = 10,000 whatever is asked for": fixed_theta,
    },
    wrong={
        "Your test accepts the planted bug": loose_test,
        "Your test accepts the planted bug.": near_test,
        "Your test rejects the right implementation": strict_test,
    },
)
