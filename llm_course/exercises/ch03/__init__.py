"""Checks of the exercises of 03_attention_gqa."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch03.grouped import GROUPED
from llm_course.exercises.ch03.hunt import HUNT
from llm_course.exercises.ch03.online import ONLINE
from llm_course.exercises.ch03.packed import PACKED
from llm_course.exercises.ch03.steps import distances, normal
from llm_course.exercises.records import Case, Exercise, case

# --- 03.pool


def pool(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    heads = weight.unflatten(0, (num_kv_heads, num_heads // num_kv_heads, -1))
    return heads.mean(dim=1).flatten(0, 1)


def pool_spread(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    heads = weight.unflatten(0, (num_heads // num_kv_heads, num_kv_heads, -1))
    return heads.mean(dim=0).flatten(0, 1)


def pool_rows(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    return weight.unflatten(0, (-1, num_heads // num_kv_heads)).mean(dim=1)


def pool_first(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    heads = weight.unflatten(0, (num_kv_heads, num_heads // num_kv_heads, -1))
    return heads[:, 0].flatten(0, 1)


def pool_columns(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    group = num_heads // num_kv_heads
    return (
        weight.unflatten(1, (-1, group)).mean(dim=2)
        if not weight.shape[1] % group
        else weight
    )


def pool_cases() -> Iterator[Case]:
    yield case(torch.tensor([[1.0], [3.0], [10.0], [20.0]]), 4, 2)
    yield case(normal(24, 6), 6, 2)
    yield case(normal(24, 5), 6, 1)
    yield case(normal(16, 4), 4, 4, name="every query head keeps its own")


POOL = Exercise(
    "03.pool",
    reference=pool,
    cases=pool_cases,
    wrong={
        "whose groups take every Hkv-th head; the heads of a group are neighbours": (
            pool_spread
        ),
        "that takes the mean of neighbouring rows, which belong to the same head": (
            pool_rows
        ),
        "that takes the sum of the heads": lambda weight, num_heads, num_kv_heads: (
            pool(weight, num_heads, num_kv_heads) * (num_heads // num_kv_heads)
        ),
        "that keeps the first head of each group": pool_first,
        "that pools columns: the heads lie below one another, in the rows": (
            pool_columns
        ),
    },
)

# --- 03.window


def window_mask(num_queries: int, num_keys: int, window: int, sinks: int) -> Tensor:
    before = distances(num_queries, num_keys)
    return (before >= 0) & ((before < window) | (torch.arange(num_keys) < sinks))


def window_top_left(num_queries: int, num_keys: int, window: int, sinks: int) -> Tensor:
    before = distances(num_queries, num_keys, first=0)
    return (before >= 0) & ((before < window) | (torch.arange(num_keys) < sinks))


def window_far_edge(num_queries: int, num_keys: int, window: int, sinks: int) -> Tensor:
    near = distances(num_queries, num_keys, first=0) < window
    return (distances(num_queries, num_keys) >= 0) & (
        near | (torch.arange(num_keys) < sinks)
    )


def window_early_sinks(
    num_queries: int, num_keys: int, window: int, sinks: int
) -> Tensor:
    mask = window_mask(num_queries, num_keys, window, 0)
    mask[:, :sinks] = True
    return mask


def window_wide_sinks(
    num_queries: int, num_keys: int, window: int, sinks: int
) -> Tensor:
    """One sink too many, and one where there should be none."""
    return window_mask(num_queries, num_keys, window, sinks + 1)


def window_chunk_sinks(
    num_queries: int, num_keys: int, window: int, sinks: int
) -> Tensor:
    number = torch.arange(num_keys) - (num_keys - num_queries)  # among the last Q keys
    before = distances(num_queries, num_keys)
    return (before >= 0) & ((before < window) | ((number >= 0) & (number < sinks)))


def window_future(num_queries: int, num_keys: int, window: int, sinks: int) -> Tensor:
    return (distances(num_queries, num_keys) < window) | (
        torch.arange(num_keys) < sinks
    )


def window_both_sides(
    num_queries: int, num_keys: int, window: int, sinks: int
) -> Tensor:
    near = distances(num_queries, num_keys).abs() < window
    return near | (torch.arange(num_keys) < sinks)


def window_cases() -> Iterator[Case]:
    yield case(3, 3, 2, 0)
    yield case(2, 5, 2, 0)
    yield case(1, 8, 3, 2)
    yield case(4, 4, 1, 2, name="sinks that some queries have not reached")
    yield case(3, 4, 10, 1, name="a window larger than the text")
    yield case(5, 9, 4, 3)


WINDOW = Exercise(
    "03.window",
    reference=window_mask,
    cases=window_cases,
    wrong={
        "whose window is one key too wide; the query's own position counts as one": (
            lambda num_queries, num_keys, window, sinks: window_mask(
                num_queries, num_keys, window + 1, sinks
            )
        ),
        "whose window is one key too narrow": (
            lambda num_queries, num_keys, window, sinks: window_mask(
                num_queries, num_keys, window - 1, sinks
            )
        ),
        "that puts query i at position i: the queries are the last of the keys": (
            window_top_left
        ),
        "whose far edge is not moved by K - Q: only the near edge is": window_far_edge,
        "that shows a sink to queries before it": window_early_sinks,
        "that never cuts off the future": window_future,
        "whose window reaches as far into the future as into the past": (
            window_both_sides
        ),
        "without sinks": lambda num_queries, num_keys, window, sinks: window_mask(
            num_queries, num_keys, window, 0
        ),
        "with one sink too many: the first `sinks` keys are 0 to sinks - 1": (
            window_wide_sinks
        ),
        "that counts the sinks among the last Q keys, not from the start of the text": (
            window_chunk_sinks
        ),
        "whose window grows by the number of sinks": (
            lambda num_queries, num_keys, window, sinks: window_mask(
                num_queries, num_keys, window + sinks, sinks
            )
        ),
        "that takes the sinks out of the window": (
            lambda num_queries, num_keys, window, sinks: window_mask(
                num_queries, num_keys, window - sinks, sinks
            )
        ),
        "with True and False exchanged": lambda num_queries, num_keys, window, sinks: (
            ~window_mask(num_queries, num_keys, window, sinks)
        ),
    },
)

EXERCISES = (POOL, WINDOW, PACKED, GROUPED, ONLINE, HUNT)
