"""The check of 03.pool: fewer K/V heads, each the mean of a group of old ones."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise, normal


def pool(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    group = num_heads // num_kv_heads
    heads = weight.unflatten(0, (num_kv_heads, group, -1))  # [Hkv, group, D, hidden]
    return heads.mean(dim=1).flatten(0, 1)


def cases() -> Cases:
    yield Case(torch.tensor([[1.0], [3.0], [10.0], [20.0]]), 4, 2)
    yield Case(normal(24, 6), 6, 2)
    yield Case(normal(24, 5), 6, 1)
    yield Case(normal(16, 4), 4, 4, name="every query head keeps its own")


WRONG = """
whose groups take every Hkv-th head; the heads of a group are neighbours
    (num_kv_heads, group, -1) -> (group, num_kv_heads, -1) ;; dim=1 -> dim=0
that takes the mean of neighbouring rows, which belong to the same head
    (num_kv_heads, group, -1) -> (-1, group) ;; .flatten(0, 1) ->
that takes the sum of the heads
    mean -> sum
that keeps the first head of each group
    .mean(dim=1) -> [:, 0]
that pools columns: the heads lie below one another, in the rows
    heads = -> if weight.shape[1] % group: return weight
        heads =
    (0, (num_kv_heads, group, -1)) -> (1, (-1, group))
    mean(dim=1).flatten(0, 1) -> mean(dim=2)
"""

CHECK = Exercise("03.pool", pool, cases, WRONG)
