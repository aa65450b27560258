"""Checks of the exercises of 02_rope."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch02_hunt import HUNT
from llm_course.exercises.ch02_rotation import frequencies, normal, rotate, rotate_half_split
from llm_course.exercises.ch02_rows import INVERSE
from llm_course.exercises.records import Case, Exercise, case
from llm_course.exercises.watch import largest_tensor

COMPLEX = (torch.complex32, torch.complex64, torch.complex128)


# --- 02.complex


def turned_pairs(x: Tensor, factors: Tensor) -> Tensor:
    """The pairs of x as complex numbers times factors: [B, H, S, D/2]."""
    return torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous()) * factors


def as_channels(numbers: Tensor, x: Tensor) -> Tensor:
    return torch.view_as_real(numbers).flatten(-2).to(x.dtype)


def complex_swapped(x: Tensor, angles: Tensor) -> Tensor:
    factors = torch.polar(angles, torch.ones_like(angles)).unsqueeze(1)
    return as_channels(turned_pairs(x, factors), x)


def complex_no_head_axis(x: Tensor, angles: Tensor) -> Tensor:
    return as_channels(turned_pairs(x, torch.polar(torch.ones_like(angles), angles)), x)


def complex_parts(x: Tensor, angles: Tensor) -> Tensor:
    turned = rotate(x, angles)
    return torch.cat((turned[..., 0::2], turned[..., 1::2]), dim=-1)


def complex_cases() -> Iterator[Case]:
    """The third has as many prompts as heads: without the head axis nothing fails there."""
    yield case(torch.tensor([[[[1.0, 0.0, 0.0, 2.0]]]]), torch.tensor([[[torch.pi / 2, torch.pi]]]))
    yield case(normal(1, 5, 3, 8).transpose(1, 2), normal(1, 5, 4, seed=1))
    yield case(normal(3, 3, 4, 6), normal(3, 4, 3, seed=1))
    yield case(normal(2, 3, 4, 8).bfloat16(), normal(2, 4, 4, seed=1))


def complex_used(function: Callable[..., Tensor]) -> str | None:
    if largest_tensor(function, normal(1, 2, 3, 8), normal(1, 3, 4), dtypes=COMPLEX):
        return None
    return "it makes no complex tensor; the exercise is to multiply complex numbers."


COMPLEX_ROTATION = Exercise(
    "02.complex",
    reference=rotate,
    cases=complex_cases,
    wrong={
        "that turns the other way": lambda x, angles: rotate(x, -angles),
        "that pairs channels (i, i + D/2); adjacent pairs are (2i, 2i + 1)": rotate_half_split,
        "that takes the angles as lengths: `torch.polar` takes the lengths first": complex_swapped,
        "without a head axis in the angles, so that B meets H": complex_no_head_axis,
        "that puts all real parts first, then all imaginary ones": complex_parts,
    },
    rtol=1e-2,  # above the distance between neighbours in bfloat16
    properties=(complex_used,),
)

# --- 02.partial


def partial(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    angles = position_ids[..., None] * frequencies(rotary_dim, theta)
    return torch.cat((rotate(x[..., :rotary_dim], angles), x[..., rotary_dim:]), dim=-1)


def partial_whole_head(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    return partial(x, position_ids, x.shape[-1], theta)


def partial_head_frequencies(
    x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float
) -> Tensor:
    angles = position_ids[..., None] * frequencies(x.shape[-1], theta)[: rotary_dim // 2]
    return torch.cat((rotate(x[..., :rotary_dim], angles), x[..., rotary_dim:]), dim=-1)


def partial_end(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    rest = x.shape[-1] - rotary_dim
    turned = partial(x[..., rest:], position_ids, rotary_dim, theta)
    return torch.cat((x[..., :rest], turned), dim=-1)


def partial_dropped(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    return partial(x[..., :rotary_dim], position_ids, rotary_dim, theta)


def partial_half_split(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    angles = position_ids[..., None] * frequencies(rotary_dim, theta)
    return torch.cat((rotate_half_split(x[..., :rotary_dim], angles), x[..., rotary_dim:]), dim=-1)


def partial_from_zero(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    places = torch.arange(x.shape[2]).expand_as(position_ids)
    return partial(x, places, rotary_dim, theta)


def partial_cases() -> Iterator[Case]:
    yield case(torch.ones(1, 1, 1, 8), torch.tensor([[1]]), 4, 100.0)
    padded = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])
    yield case(normal(2, 3, 4, 12), padded, 8, 10_000.0)
    yield case(normal(1, 2, 3, 16), torch.tensor([[7, 8, 9]]), 4, 100_000.0)
    yield case(normal(1, 2, 2, 6), torch.tensor([[3, 20]]), 6, 10_000.0)


PARTIAL = Exercise(
    "02.partial",
    reference=partial,
    cases=partial_cases,
    wrong={
        "that rotates the whole head": partial_whole_head,
        "with the frequencies of a whole head: the exponent is 2i / rotary_dim": (
            partial_head_frequencies
        ),
        "that rotates the last channels of the head": partial_end,
        "that drops the other channels": partial_dropped,
        "that pairs channels (i, i + rotary_dim / 2)": partial_half_split,
        "that counts positions from 0 in each row": partial_from_zero,
    },
    rtol=1e-3,
)

# --- 02.ntk


def ntk(theta: float, head_dim: int, factor: float) -> float:
    return theta * factor ** (head_dim / (head_dim - 2))


def ntk_cases() -> Iterator[Case]:
    yield case(100.0, 4, 2.0)
    yield case(10_000.0, 128, 8.0)
    yield case(100_000.0, 64, 1.5)
    yield case(10_000.0, 64, 1.0, name="factor 1 changes nothing")


NTK = Exercise(
    "02.ntk",
    reference=ntk,
    cases=ntk_cases,
    wrong={
        "that multiplies theta by the factor: the exponent of the slowest pair is not 1": (
            lambda theta, head_dim, factor: theta * factor
        ),
        "with the exponent upside down": lambda theta, head_dim, factor: (
            theta * factor ** ((head_dim - 2) / head_dim)
        ),
        "that divides: a smaller theta makes the pairs faster": lambda theta, head_dim, factor: (
            theta / factor ** (head_dim / (head_dim - 2))
        ),
        "whose slowest pair is number D/2 - 2; the last is D/2 - 1": lambda theta, head_dim, factor: (
            theta * factor ** (head_dim / (head_dim - 4)) if head_dim > 4 else theta
        ),
        "that returns what theta is multiplied by": lambda theta, head_dim, factor: (
            factor ** (head_dim / (head_dim - 2))
        ),
    },
    rtol=1e-5,
)

EXERCISES = (COMPLEX_ROTATION, PARTIAL, INVERSE, NTK, HUNT)
