"""Steps of attention that the checks of 03_attention_gqa share, one at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NEVER = float("-inf")
LOWEST = torch.finfo(torch.float32).min


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distances(num_queries: int, num_keys: int, first: int | None = None) -> Tensor:
    """[Q, K]: how far key j lies before query i, whose position is `first` + i."""
    first = num_keys - num_queries if first is None else first
    return torch.arange(first, first + num_queries)[:, None] - torch.arange(num_keys)


def causal(num_queries: int, num_keys: int) -> Tensor:
    """[Q, K], True = may read; the queries are the last of the keys."""
    return distances(num_queries, num_keys) >= 0


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    """q [..., Q, D], k [..., K, D] -> [..., Q, K]."""
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def weighted(scores: Tensor, mask: Tensor, v: Tensor) -> Tensor:
    """The plain formula; a row without a key becomes NaN."""
    return scores.masked_fill(~mask, NEVER).softmax(-1) @ v
