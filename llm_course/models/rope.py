# Exported from notebooks/02_rope.ipynb; edit there, then run its last cell.
"""Rotary position embedding on adjacent pairs of channels: (x[0], x[1]), (x[2], x[3]),
…"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from llm_course.arguments import at_least, axes_agree, checked, shaped
from llm_course.config import check_rope_scaling

__all__ = ["apply_rotary", "scale_frequencies", "RotaryEmbedding"]


@checked
def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each adjacent pair (x[2i], x[2i+1]) by the angle of its position and its
    frequency.

    x [B, H, S, D]; cos and sin [B, S, D/2], float32. Returns [B, H, S, D] in the dtype
    of x; the rotation itself is computed in float32 (or wider).

    Source: Su et al. 2021, "RoFormer", section 3.2.2, equation 15.
    """
    axes_agree("B H S D, b S D/2, b S D/2", x=x, cos=cos, sin=sin)
    # [B, 1, S, D/2]: the same for every head
    cos, sin = (cos.unsqueeze(1), sin.unsqueeze(1))
    even, odd = x[..., 0::2], x[..., 1::2]  # [B, H, S, D/2] each
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)  # [B, H, S, D/2, 2] -> [B, H, S, D]


def scale_frequencies(inv_freq: Tensor, rope_scaling: dict[str, Any] | None) -> Tensor:
    """Slow the frequencies [D/2] down as a model's configuration asks; None leaves
    them as they are.

    `rope_scaling` is {"rope_type": "linear", "factor": …}, or {"rope_type": "llama3",
    "factor": …, "low_freq_factor": …, "high_freq_factor": …,
    "original_max_position_embeddings": …}. Raises ValueError for another kind.

    Source: Chen et al. 2023, "Extending Context Window of Large Language Models via
    Positional Interpolation" (linear); the reference code of Llama 3.1 (llama3).
    """
    kind = "default" if rope_scaling is None else rope_scaling.get("rope_type")
    if rope_scaling is None or kind == "default":
        return inv_freq
    if kind == "linear":
        return inv_freq / rope_scaling["factor"]
    if kind != "llama3":
        raise ValueError(
            f"rope_scaling of kind {kind!r}: must be default, linear or llama3"
        )
    low, high = rope_scaling["low_freq_factor"], rope_scaling["high_freq_factor"]
    # [D/2]
    turns = rope_scaling["original_max_position_embeddings"] * inv_freq / (2 * math.pi)
    # [D/2]: 1 keeps the frequency, 0 divides it by the factor
    keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return keep * inv_freq + (1.0 - keep) * inv_freq / rope_scaling["factor"]


class RotaryEmbedding(nn.Module):
    """Rotate queries and keys by position: pair i of position p turns by `p *
    theta^(-2i/d)` radians.

    The tables of cos and sin are float32 whatever the model's dtype, and grow on
    demand. They are plain attributes, not buffers: `model.to(torch.bfloat16)` would
    round a buffer, and a rounded frequency times a large position is a wrong angle.

    Source: Su et al. 2021, "RoFormer", section 3.2.2.
    """

    @checked
    def __init__(
        self,
        head_dim: int,
        max_position_embeddings: int = 4096,
        rope_theta: float = 10000.0,
        rope_scaling: dict[str, Any] | None = None,
    ) -> None:
        """`rope_scaling` as in `scale_frequencies`. Raises ValueError for an odd
        head_dim."""
        at_least(1, head_dim=head_dim, rope_theta=rope_theta)
        at_least(1, max_position_embeddings=max_position_embeddings)
        check_rope_scaling(rope_scaling)
        super().__init__()
        if head_dim % 2:
            raise ValueError(
                f"head_dim = {head_dim}: must be even, RoPE rotates pairs of channels"
            )
        # On the CPU by name: a model built on the meta device (shapes without storage,
        # to be filled from a checkpoint later) still needs real angles, and no
        # checkpoint holds them.
        exponent = (
            torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
        )
        inv_freq = 1.0 / rope_theta**exponent  # [D/2] radians per position
        self.inv_freq = scale_frequencies(inv_freq, rope_scaling)
        self._build_table(max_position_embeddings, torch.device("cpu"))

    def _build_table(self, length: int, device: torch.device) -> None:
        positions = torch.arange(length, dtype=torch.float32, device="cpu")
        angles = torch.outer(positions, self.inv_freq)  # [length, D/2]
        self._cos, self._sin = angles.cos().to(device), angles.sin().to(device)

    def cos_sin(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """position_ids [B, S], counted from 0 -> cos and sin [B, S, D/2], float32.

        Raises ValueError for a negative position, which would wrap to the end of the
        table.
        """
        if position_ids.is_floating_point():
            raise ValueError(f"position_ids are {position_ids.dtype}: give integers")
        low, high = (int(p) for p in position_ids.aminmax())
        if low < 0:
            raise ValueError(f"position_ids hold {low}: positions count from 0")
        length = len(self._cos)
        # at least doubled, or a long generation would build a table for every token
        if high >= length:
            length = max(high + 1, 2 * length)
        if length > len(self._cos) or self._cos.device != position_ids.device:
            self._build_table(length, position_ids.device)
        return self._cos[position_ids], self._sin[position_ids]

    @checked
    def forward(
        self, q: Tensor, k: Tensor, position_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """q [B, H, S, D], k [B, Hkv, S, D], position_ids [B, S] -> q and k, rotated."""
        shaped((None, q.shape[2]), position_ids=position_ids)
        cos, sin = self.cos_sin(position_ids)  # [B, S, D/2] each
        return apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
