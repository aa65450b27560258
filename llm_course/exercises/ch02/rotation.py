"""What the references of 02_rope share."""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(dim: int, theta: float) -> Tensor:
    """[dim / 2] radians per position, in float64."""
    return theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
