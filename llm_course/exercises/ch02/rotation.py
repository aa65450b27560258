"""Rotations that the checks of 02_rope share."""

from __future__ import annotations

import torch
from torch import Tensor

from llm_course.models.rope import apply_rotary


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frequencies(dim: int, theta: float) -> Tensor:
    """[dim / 2] radians per position, in float64."""
    return theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """x [B, H, S, D], angles [B, S, D/2] -> [B, H, S, D]: adjacent pairs."""
    return apply_rotary(x, angles.cos().float(), angles.sin().float())


def rotate_half_split(x: Tensor, angles: Tensor) -> Tensor:
    """As `rotate`, but the pairs are (x[i], x[i + D/2])."""
    adjacent = torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)
    turned = rotate(adjacent, angles)
    return torch.cat((turned[..., 0::2], turned[..., 1::2]), dim=-1)
