"""The bug hunt of 02_rope: a rotation whose frequencies take the dtype of its input."""

import torch
from torch import Tensor

from llm_course.exercises import BugHunt
from llm_course.models.rope import apply_rotary


def at_positions(x: Tensor, position_ids: Tensor, theta: float) -> Tensor:
    powers = torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1]
    angles = position_ids[..., None] * theta**-powers  # [B, S, D/2]
    return apply_rotary(x, angles.cos().float(), angles.sin().float())


# `.to(x)` moves the frequencies to the device of x, and to its dtype
PLANTED = "theta**-powers -> (theta**-powers).to(x).float()"
KIND = "it is right for every float32 x"
OTHERS = """
the place in the row taken for the position
    position_ids[..., None] -> torch.arange(x.shape[2])[None, :, None]
the positions of the first prompt used for all prompts
    position_ids[..., None] -> position_ids[:1, :, None]
pairs (i, i + D/2) instead of (2i, 2i + 1)
    angles = -> order = torch.arange(x.shape[-1]).view(2, -1).T.flatten(); angles =
    rotary(x -> rotary(x[..., order]
    sin().float()) -> sin().float())[..., order.argsort()]
frequencies theta^(-i/D) instead of theta^(-2i/D)
    / x.shape[-1] -> / x.shape[-1] / 2
theta = 10,000 whatever is asked for
    theta** -> 10_000.0**
"""

CHECK = BugHunt("02.hunt", at_positions, PLANTED, KIND, OTHERS)
