"""The bug hunt of 01_rmsnorm: a norm that is right, and changes its input."""

import torch
from torch import Tensor

from llm_course.exercises import BugHunt


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The notebook's own class."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


# `.to` returns x itself where x has the dtype already
PLANTED = "normed = wide * -> wide *= ;; normed.to -> wide.to"
KIND = "every number that it returns is right"
OTHERS = """
epsilon outside the root
    torch.rsqrt(wide -> 1 / (wide ;; True) -> True).sqrt()
epsilon left out
    + eps ->
the mean subtracted first, as in LayerNorm
    wide = x.to -> wide = (x - x.mean(-1, keepdim=True)).to
one mean over all vectors together
    (-1, keepdim=True) -> ()
the sum of squares instead of the mean
    mean -> sum
the weight left out
    return weight * -> return
squares and mean in the dtype of x
    x.to(torch.promote_types(x.dtype, torch.float32)) -> x
the weight before the rounding
    weight * normed -> (weight * normed)
"""

CHECK = BugHunt("01.hunt", norm, PLANTED, KIND, OTHERS)
