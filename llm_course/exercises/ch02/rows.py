"""The check of 02.inverse: rows of q and k back to half-split order."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise


def inverse(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> tuple[Tensor, Tensor]:
    dim = len(weight) // (num_heads + 2 * num_kv_heads)
    ends = num_heads * dim, (num_heads + num_kv_heads) * dim
    q, k, v = torch.arange(len(weight)).tensor_split(ends)
    q, k = (x.view(-1, dim // 2, 2).transpose(1, 2).flatten() for x in (q, k))
    order = torch.cat((q, k, v))
    return weight[order], bias[order]


def cases() -> Cases:
    """Entries number the rows; the second matrix is square: columns can pass for rows.

    In the last one D = 6 can be taken for 4 (rows / 3H), for 8 (rows / (H + Hkv)) and
    for 2 (hidden / H). In heads of 4 channels the ways back and forth would be one.
    """
    yield Case(torch.arange(18.0)[:, None], torch.arange(18.0), 1, 1)
    sizes = ((32, 8, 2, 1), (5, 6, 3, 3), (7, 16, 8, 2), (8, 6, 4, 2))
    for hidden, dim, heads, kv_heads in sizes:
        rows = (heads + 2 * kv_heads) * dim
        weight = torch.arange(float(rows))[:, None] + torch.arange(hidden) / 100
        yield Case(weight, torch.arange(float(rows)), heads, kv_heads)


WRONG = """
that takes each row from where the loader takes it: here it has to go back
    (-1, dim // 2, 2) -> (-1, 2, dim // 2)
that takes all rows of q (and of k) for one head
    (-1, dim // 2, 2) -> (1, -1, 2)
that cuts the rows of k into as many heads as q has
    (-1, dim // 2, 2) -> (num_heads, -1, 2)
that reorders q alone
    q, k = -> q, _ =
that reorders v as well
    q, k = -> q, k, v = ;; (q, k)) -> (q, k, v))
that leaves the bias as it is
    bias[order] -> bias.clone()
with D = rows / (3 H): k and v have fewer heads than q
    (num_heads + 2 * num_kv_heads) -> (3 * num_heads)
with D = rows / (H + Hkv): the rows of v count too
    + 2 * num_kv -> + num_kv
with D = hidden / H: a head need not be that wide
    len(weight) // (num_heads + 2 * num_kv_heads) -> weight.shape[1] // num_heads
that reorders the columns of the matrix: a channel of q is a row
    weight[order] -> weight[:, order]
"""

CHECK = Exercise("02.inverse", inverse, cases, WRONG, rtol=1e-6)
