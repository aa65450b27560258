"""The check of 01.grouped: a norm that takes the mean of each group of channels."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise, normal


def grouped(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.unflatten(-1, (groups, -1))  # [..., G, hidden / G]
    scale = torch.rsqrt(parts.pow(2).mean(-1, keepdim=True) + eps)
    return weight * (parts * scale).flatten(-2)


def cases() -> Cases:
    yield Case(torch.tensor([1.0, 1.0, 1.0, 10.0, 10.0, 10.0]), torch.ones(6), 2, 1e-5)
    yield Case(normal(2, 3, 12), normal(12, seed=1), 3, 1e-5)
    yield Case(normal(5, 8), normal(8, seed=1), 1, 0.1)
    yield Case(normal(5, 8), normal(8, seed=1), 8, 0.1)


WRONG = """
with one mean over the whole vector
    (groups, -1) -> (1, -1)
whose groups take every G-th channel instead of neighbours
    (groups, -1) -> (-1, groups) ;; mean(-1 -> mean(-2
with groups of G channels; G is how many groups there are
    (groups, -1) -> (-1, groups)
whose groups reach over several vectors of x
    unflatten(-1, (groups, -1)) -> reshape(groups, -1)
    flatten(-2) -> reshape(x.shape)
that divides by the root of the sum of squares, not of their mean
    mean -> sum
with eps added after the root; it belongs under it
    torch.rsqrt(parts -> 1 / (parts ;; True) -> True).sqrt()
that multiplies by the weight first, so that it counts in the mean
    x.unflatten -> (x * weight).unflatten ;; return weight * -> return
without the weight
    return weight * -> return
"""

CHECK = Exercise("01.grouped", grouped, cases, WRONG)
