"""Checks of the exercises of 02_rope."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch02.base import NTK
from llm_course.exercises.ch02.hunt import HUNT
from llm_course.exercises.ch02.partial import PARTIAL
from llm_course.exercises.ch02.rotation import normal, rotate, rotate_half_split
from llm_course.exercises.ch02.rows import INVERSE
from llm_course.exercises.records import Case, Exercise, case
from llm_course.exercises.watch import largest_tensor

COMPLEX = (torch.complex32, torch.complex64, torch.complex128)


# --- 02.complex


def times(x: Tensor, factors: Tensor) -> Tensor:
    """The half-split pairs of x as complex numbers, times factors, as channels
    again."""
    turned = torch.complex(*x.float().chunk(2, dim=-1)) * factors
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


def complex_swapped(x: Tensor, angles: Tensor) -> Tensor:
    return times(x, torch.polar(angles, torch.ones_like(angles)).unsqueeze(1))


def complex_no_head_axis(x: Tensor, angles: Tensor) -> Tensor:
    return times(x, torch.polar(torch.ones_like(angles), angles))


def complex_parts(x: Tensor, angles: Tensor) -> Tensor:
    turned = rotate(x, angles)
    return torch.cat((turned[..., 0::2], turned[..., 1::2]), dim=-1)


def complex_neighbours_out(x: Tensor, angles: Tensor) -> Tensor:
    return rotate(torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2), angles)


def complex_rounded_angles(x: Tensor, angles: Tensor) -> Tensor:
    return rotate_half_split(x, angles.to(x.dtype).float())


def complex_cases() -> Iterator[Case]:
    """The third has as many prompts as heads: without the head axis nothing fails
    there."""
    yield case(
        torch.tensor([[[[1.0, 0.0, 0.0, 2.0]]]]),
        torch.tensor([[[torch.pi / 2, torch.pi]]]),
    )
    yield case(normal(1, 5, 3, 8).transpose(1, 2), normal(1, 5, 4, seed=1))
    yield case(normal(3, 3, 4, 6), normal(3, 4, 3, seed=1))
    yield case(normal(2, 3, 4, 8).bfloat16(), normal(2, 4, 4, seed=1))


def complex_used(function: Callable[..., Tensor]) -> str | None:
    if largest_tensor(function, normal(1, 2, 3, 8), normal(1, 3, 4), dtypes=COMPLEX):
        return None
    return "it makes no complex tensor; the exercise is to multiply complex numbers."


COMPLEX_ROTATION = Exercise(
    "02.complex",
    reference=rotate_half_split,
    cases=complex_cases,
    wrong={
        "that turns the other way": lambda x, angles: rotate_half_split(x, -angles),
        "that pairs channels (2i, 2i + 1); half-split pairs are (i, i + D/2)": rotate,
        "that takes channels (i, i + D/2) for pair i and puts them back as neighbours": (
            complex_neighbours_out
        ),
        "whose angles are rounded to the dtype of x": complex_rounded_angles,
        "that takes the angles as lengths: `torch.polar` takes the lengths first": (
            complex_swapped
        ),
        "without a head axis in the angles, so that B meets H": complex_no_head_axis,
        "that takes neighbours for a pair and puts all real parts first": complex_parts,
    },
    rtol=1e-2,  # above the distance between neighbours in bfloat16
    properties=(complex_used,),
)

EXERCISES = (COMPLEX_ROTATION, PARTIAL, INVERSE, NTK, HUNT)
