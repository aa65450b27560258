"""The check of 02.complex: half-split pairs turned as complex numbers."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, normal
from llm_course.exercises.watch import watched
from llm_course.models.rope import apply_rotary


def real(x: Tensor, angles: Tensor) -> Tensor:
    """The reference: the channels in adjacent order, turned, and back."""
    order = torch.arange(x.shape[-1]).view(2, -1).T.flatten()
    turned = apply_rotary(x[..., order], angles.cos(), angles.sin())
    return turned[..., order.argsort()]


def multiplied(x: Tensor, angles: Tensor) -> Tensor:
    pairs = torch.complex(*x.float().chunk(2, dim=-1))  # [B, H, S, D/2]
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


def cases() -> Cases:
    """The third has as many prompts as heads: no head axis, and nothing fails there."""
    x = torch.tensor([[[[1.0, 0.0, 0.0, 2.0]]]])
    yield Case(x, torch.tensor([[[torch.pi / 2, torch.pi]]]))
    yield Case(normal(1, 5, 3, 8).transpose(1, 2), normal(1, 5, 4, seed=1))
    yield Case(normal(3, 3, 4, 6), normal(3, 4, 3, seed=1))
    yield Case(normal(2, 3, 4, 8).bfloat16(), normal(2, 4, 4, seed=1))


def is_used(function: Function) -> Complaints:
    args = normal(1, 2, 3, 8), normal(1, 3, 4)
    dtypes = torch.complex32, torch.complex64, torch.complex128
    if not watched(function, *args, dtypes=dtypes).largest:
        yield "it makes no complex tensor; the exercise is to multiply complex numbers."


NEAR_IN = "chunk(2, dim=-1) -> unflatten(-1, (-1, 2)).unbind(-1)"
NEAR_OUT = "cat((turned.real, turned.imag), dim=-1) -> view_as_real(turned).flatten(-2)"
WRONG = f"""
that turns the other way
    , angles)[ -> , -angles)[
that pairs channels (2i, 2i + 1); half-split pairs are (i, i + D/2)
    {NEAR_IN} ;; {NEAR_OUT}
that takes channels (i, i + D/2) for pair i and puts them back as neighbours
    {NEAR_OUT}
whose angles are rounded to the dtype of x
    pairs = -> angles = angles.to(x.dtype).float(); pairs =
that takes the angles as lengths: `torch.polar` takes the lengths first
    torch.ones_like(angles), angles -> angles, torch.ones_like(angles)
without a head axis in the angles, so that B meets H
    [:, None] ->
that takes neighbours for a pair and puts all real parts first
    {NEAR_IN}
"""

# rtol: above the distance between neighbours in bfloat16
CHECK = Exercise("02.complex", real, cases, WRONG, multiplied, rtol=1e-2, rule=is_used)
