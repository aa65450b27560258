"""Steps of attention that the checks of 03_attention_gqa share, one at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NEVER = float("-inf")
LOWEST = torch.finfo(torch.float32).min


def causal(num_queries: int, num_keys: int) -> Tensor:
    """[Q, K], True = may read; the queries are the last of the keys."""
    return torch.ones(num_queries, num_keys).tril(num_keys - num_queries).bool()


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    """q [..., Q, D], k [..., K, D] -> [..., Q, K]."""
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def weighted(scores: Tensor, mask: Tensor, v: Tensor) -> Tensor:
    """The plain formula; a row without a key becomes NaN."""
    return scores.masked_fill(~mask, NEVER).softmax(-1) @ v
