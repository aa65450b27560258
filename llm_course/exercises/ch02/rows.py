"""The check of exercise 02.inverse: rows of q and k back to half-split order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.records import Case, Exercise, case

Pair = tuple[Tensor, Tensor]


def to_half_split(rows: Tensor, heads: int) -> Tensor:
    return rows.view(heads, -1, 2).transpose(1, 2).flatten()


def to_adjacent(rows: Tensor, heads: int) -> Tensor:
    return rows.view(heads, 2, -1).transpose(1, 2).flatten()


def parts(rows: int, num_heads: int, num_kv_heads: int) -> tuple[Tensor, ...]:
    """The numbers of the rows of q, of k and of v."""
    dim = rows // (num_heads + 2 * num_kv_heads)
    kv = num_kv_heads * dim
    return torch.arange(rows).split((num_heads * dim, kv, kv))


def order_of(bias: Tensor, heads: int, kv_heads: int) -> Tensor:
    q, k, v = parts(len(bias), heads, kv_heads)
    return torch.cat((to_half_split(q, heads), to_half_split(k, kv_heads), v))


def inverse(weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int) -> Pair:
    order = order_of(bias, num_heads, num_kv_heads)
    return weight[order], bias[order]


def inverse_again(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> Pair:
    q, k, v = parts(len(bias), num_heads, num_kv_heads)
    order = torch.cat((to_adjacent(q, num_heads), to_adjacent(k, num_kv_heads), v))
    return weight[order], bias[order]


def inverse_no_heads(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> Pair:
    q, k, v = parts(len(bias), num_heads, num_kv_heads)
    order = torch.cat((to_half_split(q, 1), to_half_split(k, 1), v))
    return weight[order], bias[order]


def inverse_q_heads(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> Pair:
    q, k, v = parts(len(bias), num_heads, num_kv_heads)
    order = torch.cat((to_half_split(q, num_heads), to_half_split(k, num_heads), v))
    return weight[order], bias[order]


def inverse_q_only(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> Pair:
    q, k, v = parts(len(bias), num_heads, num_kv_heads)
    order = torch.cat((to_half_split(q, num_heads), k, v))
    return weight[order], bias[order]


def inverse_v_too(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> Pair:
    order = to_half_split(torch.arange(len(bias)), num_heads + 2 * num_kv_heads)
    return weight[order], bias[order]


def inverse_no_bias(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> Pair:
    return inverse(weight, bias, num_heads, num_kv_heads)[0], bias.clone()


def inverse_columns(
    weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
) -> Pair:
    order = order_of(bias, num_heads, num_kv_heads)
    return weight[:, order], bias[order]


def sized(dim_of: Callable[[Tensor, int, int], int]) -> Callable[..., Pair]:
    """The version that takes dim_of(weight, H, Hkv) for the channels of a head."""

    def version(
        weight: Tensor, bias: Tensor, num_heads: int, num_kv_heads: int
    ) -> Pair:
        dim = dim_of(weight, num_heads, num_kv_heads)
        rows = torch.arange(len(bias))
        q, k = (
            rows[: num_heads * dim],
            rows[num_heads * dim : (num_heads + num_kv_heads) * dim],
        )
        order = [
            rows.view(-1, dim // 2, 2).transpose(1, 2).flatten() for rows in (q, k)
        ]
        order = torch.cat((*order, rows[(num_heads + num_kv_heads) * dim :]))
        return weight[order], bias[order]

    return version


def inverse_cases() -> Iterator[Case]:
    """Entries number the rows; the second matrix is square, so that columns can be
    taken for rows.

    In the last one D = 6 can be taken for 4 (rows / 3H), for 8 (rows / (H + Hkv)) and
    for 2 (hidden / H). In heads of 4 channels the way back and the way forth would be
    one.
    """
    yield case(torch.arange(18.0)[:, None], torch.arange(18.0), 1, 1)
    sizes = ((32, 8, 2, 1), (5, 6, 3, 3), (7, 16, 8, 2), (8, 6, 4, 2))
    for hidden, dim, heads, kv_heads in sizes:
        rows = (heads + 2 * kv_heads) * dim
        weight = torch.arange(float(rows))[:, None] + torch.arange(hidden) / 100
        yield case(weight, torch.arange(float(rows)), heads, kv_heads)


INVERSE = Exercise(
    "02.inverse",
    reference=inverse,
    cases=inverse_cases,
    wrong={
        "that takes each row from where the loader takes it: here it has to go back": (
            inverse_again
        ),
        "that takes all rows of q (and of k) for one head": inverse_no_heads,
        "that cuts the rows of k into as many heads as q has": inverse_q_heads,
        "that reorders q alone": inverse_q_only,
        "that reorders v as well": inverse_v_too,
        "that leaves the bias as it is": inverse_no_bias,
        "with D = rows / (3 H): k and v have fewer heads than q": sized(
            lambda weight, heads, kv_heads: len(weight) // (3 * heads)
        ),
        "with D = rows / (H + Hkv): the rows of v count too": sized(
            lambda weight, heads, kv_heads: len(weight) // (heads + kv_heads)
        ),
        "with D = hidden / H: a head need not be that wide": sized(
            lambda weight, heads, kv_heads: weight.shape[1] // heads
        ),
        "that reorders the columns of the matrix: a channel of q is a row": (
            inverse_columns
        ),
    },
    rtol=1e-6,
)
