"""The check of 01.fold: the weight of a norm goes into the matrix after it."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise, normal


def fold(weight: Tensor, matrix: Tensor) -> Tensor:
    return matrix * weight


def cases() -> Cases:
    yield Case(torch.tensor([2.0, 10.0]), torch.tensor([[1.0, 1.0], [1.0, 3.0]]))
    yield Case(normal(6), normal(4, 6, seed=1))
    yield Case(torch.tensor([1.0, 0.0, -1.0]), normal(3, 3))


WRONG = """
that scales the rows: row i makes output i, column j reads channel j
    matrix * weight -> matrix * weight[:, None]
that divides by the weight
    * -> /
that leaves the matrix as it is
    matrix * weight -> matrix.clone()
"""

CHECK = Exercise("01.fold", fold, cases, WRONG)
