"""The check of exercise 02.partial: only the first channels of each head are
rotated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch02.rotation import (
    frequencies,
    normal,
    rotate,
    rotate_half_split,
)
from llm_course.exercises.records import Case, Exercise, case
from llm_course.models.rope import apply_rotary


def with_angles(
    x: Tensor, angles: Tensor, turn: Callable[..., Tensor] = rotate
) -> Tensor:
    """The first channels of x turned by angles [B, S, R/2], the others as they are."""
    rotary_dim = 2 * angles.shape[-1]
    return torch.cat((turn(x[..., :rotary_dim], angles), x[..., rotary_dim:]), dim=-1)


def partial(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    return with_angles(x, position_ids[..., None] * frequencies(rotary_dim, theta))


def partial_whole_head(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    return partial(x, position_ids, x.shape[-1], theta)


def partial_head_frequencies(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    fast = frequencies(x.shape[-1], theta)[: rotary_dim // 2]
    return with_angles(x, position_ids[..., None] * fast)


def partial_single_exponent(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    return partial(x, position_ids, rotary_dim, theta**0.5)


def partial_fixed_theta(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    return partial(x, position_ids, rotary_dim, 10_000.0)


def partial_end(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    rest = x.shape[-1] - rotary_dim
    turned = partial(x[..., rest:], position_ids, rotary_dim, theta)
    return torch.cat((x[..., :rest], turned), dim=-1)


def partial_rest_first(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    turned = partial(x, position_ids, rotary_dim, theta)
    return torch.cat((turned[..., rotary_dim:], turned[..., :rotary_dim]), dim=-1)


def partial_dropped(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    return partial(x[..., :rotary_dim], position_ids, rotary_dim, theta)


def partial_half_split(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    angles = position_ids[..., None] * frequencies(rotary_dim, theta)
    return with_angles(x, angles, rotate_half_split)


def partial_from_zero(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    return partial(
        x, torch.arange(x.shape[2]).expand_as(position_ids), rotary_dim, theta
    )


def partial_first_prompt(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    return partial(x, position_ids[:1].expand_as(position_ids), rotary_dim, theta)


def partial_rounded_frequencies(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    rounded = frequencies(rotary_dim, theta).to(x.dtype).float()
    return with_angles(x, position_ids[..., None] * rounded)


def partial_rounded_angles(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    angles = position_ids[..., None] * frequencies(rotary_dim, theta)
    return with_angles(x, angles.to(x.dtype).float())


def partial_all_rounded(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    angles = position_ids[..., None] * frequencies(rotary_dim, theta).to(x.dtype)
    turned = apply_rotary(x[..., :rotary_dim], angles.cos(), angles.sin())
    return torch.cat((turned, x[..., rotary_dim:]), dim=-1)


def partial_cases() -> Iterator[Case]:
    """The last one is in bfloat16 and far out, where a rounded frequency is a wrong
    angle."""
    yield case(torch.ones(1, 1, 1, 8), torch.tensor([[1]]), 4, 100.0)
    padded = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])
    yield case(normal(2, 3, 4, 12), padded, 8, 10_000.0)
    yield case(normal(1, 2, 3, 16), torch.tensor([[7, 8, 9]]), 4, 100_000.0)
    yield case(normal(1, 2, 2, 6), torch.tensor([[3, 20]]), 6, 10_000.0)
    yield case(
        normal(1, 2, 2, 12).bfloat16(), torch.tensor([[1001, 3001]]), 8, 10_000.0
    )


PARTIAL = Exercise(
    "02.partial",
    reference=partial,
    cases=partial_cases,
    wrong={
        "that rotates the whole head": partial_whole_head,
        "with the frequencies of a whole head: the exponent is 2i / rotary_dim": (
            partial_head_frequencies
        ),
        "with the frequencies theta^(-i / rotary_dim): the exponent is 2i / rotary_dim": (
            partial_single_exponent
        ),
        "with theta = 10,000 whatever is asked for": partial_fixed_theta,
        "that rotates the last channels of the head": partial_end,
        "that puts the untouched channels first": partial_rest_first,
        "that drops the other channels": partial_dropped,
        "that pairs channels (i, i + rotary_dim / 2)": partial_half_split,
        "that counts positions from 0 in each row": partial_from_zero,
        "that uses the positions of the first prompt for all prompts": (
            partial_first_prompt
        ),
        "whose frequencies are rounded to the dtype of x": partial_rounded_frequencies,
        "whose angles are rounded to the dtype of x": partial_rounded_angles,
        "in which frequencies, angles, cos and sin all have the dtype of x": (
            partial_all_rounded
        ),
    },
    rtol=1e-2,  # above the distance between neighbours in bfloat16
    atol=1e-3,
)
