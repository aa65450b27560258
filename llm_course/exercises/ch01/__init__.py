"""Checks of the exercises of 01_rmsnorm: folding the weight, and a norm by groups."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch01.backward import BACKWARD
from llm_course.exercises.ch01.hunt import HUNT
from llm_course.exercises.ch01.inputs import EPS, normal
from llm_course.exercises.ch01.lean import LEAN
from llm_course.exercises.records import Case, Exercise, case

# --- 01.fold


def fold_cases() -> Iterator[Case]:
    yield case(torch.tensor([2.0, 10.0]), torch.tensor([[1.0, 1.0], [1.0, 3.0]]))
    yield case(normal(6), normal(4, 6, seed=1))
    yield case(torch.tensor([1.0, 0.0, -1.0]), normal(3, 3))


FOLD = Exercise(
    "01.fold",
    reference=lambda weight, matrix: matrix @ torch.diag(weight),
    cases=fold_cases,
    wrong={
        "that scales the rows: row i makes output i, column j reads channel j": (
            lambda weight, matrix: weight[:, None] * matrix
        ),
        "that divides by the weight": lambda weight, matrix: matrix / weight,
        "that leaves the matrix as it is": lambda weight, matrix: matrix.clone(),
    },
)

# --- 01.grouped


def grouped(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.chunk(groups, dim=-1)
    size = (x.shape[-1] // groups,)
    return weight * torch.cat(
        [F.rms_norm(part, size, eps=eps) for part in parts], dim=-1
    )


def grouped_strided(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.unflatten(-1, (-1, groups))
    scale = torch.rsqrt(parts.pow(2).mean(-2, keepdim=True) + eps)
    return weight * (parts * scale).flatten(-2)


def grouped_sum(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.unflatten(-1, (groups, -1))
    return weight * (
        parts * torch.rsqrt(parts.pow(2).sum(-1, keepdim=True) + eps)
    ).flatten(-2)


def grouped_eps_outside(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.unflatten(-1, (groups, -1))
    return weight * (
        parts / (parts.pow(2).mean(-1, keepdim=True).sqrt() + eps)
    ).flatten(-2)


def grouped_mixed(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.reshape(groups, -1)
    scale = torch.rsqrt(parts.pow(2).mean(-1, keepdim=True) + eps)
    return weight * (parts * scale).reshape(x.shape)


def grouped_cases() -> Iterator[Case]:
    yield case(torch.tensor([1.0, 1.0, 1.0, 10.0, 10.0, 10.0]), torch.ones(6), 2, EPS)
    yield case(normal(2, 3, 12), normal(12, seed=1), 3, EPS)
    yield case(normal(5, 8), normal(8, seed=1), 1, 0.1)
    yield case(normal(5, 8), normal(8, seed=1), 8, 0.1)


GROUPED = Exercise(
    "01.grouped",
    reference=grouped,
    cases=grouped_cases,
    wrong={
        "with one mean over the whole vector": lambda x, weight, groups, eps: (
            F.rms_norm(x, x.shape[-1:], weight, eps)
        ),
        "whose groups take every G-th channel instead of neighbours": grouped_strided,
        "with groups of G channels; G is how many groups there are": (
            lambda x, weight, groups, eps: grouped(
                x, weight, x.shape[-1] // groups, eps
            )
        ),
        "whose groups reach over several vectors of x": grouped_mixed,
        "that divides by the root of the sum of squares, not of their mean": (
            grouped_sum
        ),
        "with eps added after the root; it belongs under it": grouped_eps_outside,
        "that multiplies by the weight first, so that it counts in the mean": (
            lambda x, weight, groups, eps: grouped(
                x * weight, torch.ones_like(weight), groups, eps
            )
        ),
        "without the weight": lambda x, weight, groups, eps: grouped(
            x, torch.ones_like(weight), groups, eps
        ),
    },
)

EXERCISES = (FOLD, GROUPED, LEAN, BACKWARD, HUNT)
