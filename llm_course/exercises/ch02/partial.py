"""The check of 02.partial: only the first channels of each head are rotated."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise, normal
from llm_course.models.rope import apply_rotary


def partial(x: Tensor, position_ids: Tensor, rotary_dim: int, theta: float) -> Tensor:
    powers = torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim
    angles = position_ids[..., None] * theta**-powers  # [B, S, R/2]
    cos, sin = angles.cos().float(), angles.sin().float()
    turned = apply_rotary(x[..., :rotary_dim], cos, sin)
    return torch.cat((turned, x[..., rotary_dim:]), dim=-1)


def cases() -> Cases:
    """The last is in bfloat16, far out: there a rounded frequency is a wrong angle."""
    yield Case(torch.ones(1, 1, 1, 8), torch.tensor([[1]]), 4, 100.0)
    yield Case(normal(2, 3, 4, 12), torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]]), 8, 1e4)
    yield Case(normal(1, 2, 3, 16), torch.tensor([[7, 8, 9]]), 4, 1e5)
    yield Case(normal(1, 2, 2, 6), torch.tensor([[3, 20]]), 6, 1e4)
    yield Case(normal(1, 2, 2, 12).bfloat16(), torch.tensor([[1001, 3001]]), 8, 1e4)


WRONG = """
that rotates the whole head
    powers = -> rotary_dim = x.shape[-1]; powers =
with the frequencies of a whole head: the exponent is 2i / rotary_dim
    / rotary_dim -> / x.shape[-1]
with the frequencies theta^(-i / rotary_dim): the exponent is 2i / rotary_dim
    / rotary_dim -> / rotary_dim / 2
with theta = 10,000 whatever is asked for
    theta** -> 10_000.0**
that rotates the last channels of the head
    x[..., :rotary_dim] -> x[..., -rotary_dim:]
    (turned, x[..., rotary_dim:]) -> (x[..., :-rotary_dim], turned)
that puts the untouched channels first
    (turned, x[..., rotary_dim:]) -> (x[..., rotary_dim:], turned)
that drops the other channels
    , x[..., rotary_dim:]) -> ,)
that pairs channels (i, i + rotary_dim / 2)
    turned = -> order = torch.arange(rotary_dim).view(2, -1).T.flatten(); turned =
    x[..., :rotary_dim], cos, sin) -> x[..., order], cos, sin)[..., order.argsort()]
that counts positions from 0 in each row
    position_ids[..., None] -> torch.arange(x.shape[2])[None, :, None]
that uses the positions of the first prompt for all prompts
    position_ids[..., None] -> position_ids[:1, :, None]
whose frequencies are rounded to the dtype of x
    theta**-powers -> (theta**-powers).to(x.dtype).float()
whose angles are rounded to the dtype of x
    cos, sin = -> angles = angles.to(x.dtype).float(); cos, sin =
in which frequencies, angles, cos and sin all have the dtype of x
    theta**-powers -> (theta**-powers).to(x.dtype)
    .cos().float() -> .cos() ;; .sin().float() -> .sin()
"""

# rtol: above the distance between neighbours in bfloat16
CHECK = Exercise("02.partial", partial, cases, WRONG, rtol=1e-2, atol=1e-3)
