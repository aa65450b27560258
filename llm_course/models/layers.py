# Exported from notebooks/01_rmsnorm.ipynb; edit there, then run its last cell.
"""The parts of a layer that treat each position alone: RMSNorm and the SwiGLU MLP."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from llm_course.arguments import at_least, checked, shaped
from llm_course.types import HiddenStates

__all__ = ["RMSNorm", "MLP"]


class RMSNorm(nn.Module):
    """Divide each vector by its root mean square, then scale each channel by a learned
    weight.

    `x * weight / sqrt(mean(x²) + eps)`, over the last dimension. The mean square is
    taken in float32 (or wider) whatever the dtype of `x`; the result has the dtype of
    `x` if the weight has it too.

    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", section 4.
    """

    @checked
    def __init__(self, hidden_dim: int, eps: float = 1e-5) -> None:
        at_least(1, hidden_dim=hidden_dim)
        at_least(0, eps=eps)
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_dim))
        self.eps = eps

    @checked
    def forward(self, x: HiddenStates) -> HiddenStates:
        """x [..., hidden_dim] -> the same shape and dtype."""
        shaped((..., self.weight.shape[0]), x=x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean_square = wide.pow(2).mean(dim=-1, keepdim=True)  # [..., 1]
        normed = wide * torch.rsqrt(mean_square + self.eps)  # [..., hidden_dim]
        # Llama's order: round to x's dtype first, then scale.
        return self.weight * normed.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class MLP(nn.Module):
    """The SwiGLU feed-forward part: `W_down(SiLU(W_gate x) * W_up x)`, without biases.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", section 2 (FFN_SwiGLU).
    """

    @checked
    def __init__(self, hidden_dim: int, intermediate_dim: int) -> None:
        at_least(1, hidden_dim=hidden_dim, intermediate_dim=intermediate_dim)
        super().__init__()
        self.gate_proj = nn.Linear(hidden_dim, intermediate_dim, bias=False)
        self.up_proj = nn.Linear(hidden_dim, intermediate_dim, bias=False)
        self.down_proj = nn.Linear(intermediate_dim, hidden_dim, bias=False)

    @checked
    def forward(self, x: HiddenStates) -> HiddenStates:
        """x [..., hidden_dim] -> [..., hidden_dim]; each position is treated alone."""
        shaped((..., self.gate_proj.in_features), x=x)
        gated = F.silu(self.gate_proj(x)) * self.up_proj(x)  # [..., intermediate_dim]
        return self.down_proj(gated)  # [..., hidden_dim]
