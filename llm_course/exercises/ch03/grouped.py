"""The check of exercise 03.grouped: shared keys and values without a copy for each
query head."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch03.steps import (
    NEVER,
    causal,
    distances,
    normal,
    scores_of,
    weighted,
)
from llm_course.exercises.records import Case, Exercise, case
from llm_course.exercises.watch import largest_tensor

Attention = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def capped(scores: Tensor, cap: float) -> Tensor:
    return cap * torch.tanh(scores / cap)


def shared(q: Tensor, *tensors: Tensor) -> list[Tensor]:
    """The tensors [B, Hkv, K, D] with a copy for each query head: [B, H, K, D]."""
    return [t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in tensors]


def grouped(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    k, v = shared(q, k, v)
    return weighted(capped(scores_of(q, k), cap), causal(q.shape[2], k.shape[2]), v)


def grouped_spread(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    group = q.shape[1] // k.shape[1]
    return grouped(q, k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1), cap)


def folded(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cap: float,
    mask: Tensor,
    order: str = "heads first",
) -> Tensor:
    """The heads of a group as further queries of their K/V head; mask [group * Q,
    K]."""
    group = q.shape[1] // k.shape[1]
    rows = q.unflatten(1, (-1, group))  # [B, Hkv, group, Q, D]
    rows = rows if order == "heads first" else rows.transpose(2, 3)
    return weighted(capped(scores_of(rows.flatten(2, 3), k), cap), mask, v).reshape(
        q.shape
    )


def grouped_long_triangle(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    return folded(
        q, k, v, cap, causal(q.shape[2] * q.shape[1] // k.shape[1], k.shape[2])
    )


def grouped_mask_rows(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    mask = causal(q.shape[2], k.shape[2]).repeat_interleave(
        q.shape[1] // k.shape[1], dim=0
    )
    return folded(q, k, v, cap, mask)


def grouped_not_unfolded(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    mask = causal(q.shape[2], k.shape[2]).repeat_interleave(
        q.shape[1] // k.shape[1], dim=0
    )
    return folded(q, k, v, cap, mask, order="queries first")


def grouped_top_left(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    k, v = shared(q, k, v)
    mask = distances(q.shape[2], k.shape[2], first=0) >= 0
    return weighted(capped(scores_of(q, k), cap), mask, v)


def grouped_all(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    k, v = shared(q, k, v)
    return capped(scores_of(q, k), cap).softmax(-1) @ v


def grouped_cap_last(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    k, v = shared(q, k, v)
    scores = scores_of(q, k).masked_fill(~causal(q.shape[2], k.shape[2]), NEVER)
    return capped(scores, cap).softmax(-1) @ v


def grouped_cap_first(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    scale = q.shape[-1] ** 0.5
    k, v = shared(q, k, v)
    scores = capped(scores_of(q, k) * scale, cap) / scale
    return weighted(scores, causal(q.shape[2], k.shape[2]), v)


def grouped_clamped(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    k, v = shared(q, k, v)
    return weighted(scores_of(q, k).clamp(-cap, cap), causal(q.shape[2], k.shape[2]), v)


def grouped_cases() -> Iterator[Case]:
    """The fourth has as many keys as a group has queries: masks of both kinds fit
    there."""
    ones = torch.ones(1, 2, 1, 1)
    keys, values = torch.tensor([0.0, 4.0]), torch.tensor([0.0, 1.0])
    yield case(ones, keys.view(1, 1, 2, 1), values.view(1, 1, 2, 1), 1.0)
    for b, h, kv, q, k, d, cap in (
        (1, 4, 2, 3, 3, 4, 2.0),
        (2, 6, 2, 3, 5, 4, 1.0),
        (1, 4, 2, 3, 6, 4, 50.0),
        (1, 9, 3, 2, 10, 64, 1.5),
        (2, 3, 3, 4, 4, 8, 2.0),
        (1, 4, 1, 1, 7, 8, 2.0),
    ):
        shapes = (b, h, q, d), (b, kv, k, d), (b, kv, k, d)
        yield case(*(2 * normal(*shape, seed=i) for i, shape in enumerate(shapes)), cap)


def grouped_memory(function: Attention) -> str | None:
    q, k, v = (
        normal(1, 8, 2, 16),
        normal(1, 2, 32, 16, seed=1),
        normal(1, 2, 32, 16, seed=2),
    )
    most, copies = largest_tensor(function, q, k, v, 50.0), 8 * 32 * 16
    if most >= copies:
        return (
            f"for q {list(q.shape)} and k {list(k.shape)} it makes a tensor of {most}"
            " numbers. That is k, copied for each of the 8 query heads. `expand` makes"
            " no copy, but `@` and `reshape` copy what they get expanded."
        )
    return None


GROUPED = Exercise(
    "03.grouped",
    reference=grouped,
    cases=grouped_cases,
    wrong={
        "in which query head h reads K/V head h % Hkv": grouped_spread,
        "with one long triangle over the queries of all heads of a group": (
            grouped_long_triangle
        ),
        "whose mask repeats each row; the queries of a head stand side by side": (
            grouped_mask_rows
        ),
        "that mixes heads and queries when it takes the groups apart": (
            grouped_not_unfolded
        ),
        "with the triangle at the top left": grouped_top_left,
        "without a mask": grouped_all,
        "that caps after the mask: the cap makes -inf finite, and the future is read": (
            grouped_cap_last
        ),
        "that caps before the division by sqrt(D)": grouped_cap_first,
        "without the cap": lambda q, k, v, cap: grouped(q, k, v, 1e4),
        "that cuts scores off at the cap": grouped_clamped,
        "without 1 / sqrt(D)": lambda q, k, v, cap: grouped(
            q * q.shape[-1] ** 0.5, k, v, cap
        ),
    },
    rtol=1e-3,
    properties=(grouped_memory,),
)
