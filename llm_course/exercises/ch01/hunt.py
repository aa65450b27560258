"""The bug hunt of 01_rmsnorm: a norm that is right, and changes its input."""

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises import BugHunt, Function, normal

EPS = 1e-5


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The notebook's own class."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def values_only(implementation: Function) -> None:
    """Ordinary and small vectors: the result is right."""
    for size in (1.0, 1e-3):
        x, weight = size * (normal(2, 4, 16) + 0.5), normal(16, seed=1)
        expected = F.rms_norm(x, (16,), weight, EPS)
        assert torch.allclose(implementation(x, weight, EPS), expected, rtol=1e-3)


def bfloat16_only(implementation: Function) -> None:
    """Looks at the input, but `.to` copies a bfloat16 one."""
    x, weight = normal(4, 16).bfloat16(), normal(16, seed=1).bfloat16()
    kept = x.clone()
    assert torch.equal(implementation(x, weight, EPS), norm(kept, weight, EPS))
    assert torch.equal(x, kept)


def size_one(implementation: Function) -> None:
    """With eps the size of a small vector is below 1."""
    out = implementation(1e-3 * normal(4, 16), torch.ones(16), EPS)
    assert torch.allclose(out.pow(2).mean(-1), torch.ones(4), atol=1e-3)


def default_eps(implementation: Function) -> None:
    x = 1e-3 * normal(4, 16)
    assert torch.allclose(implementation(x, torch.ones(16), EPS), F.rms_norm(x, (16,)))


def torch_order(implementation: Function) -> None:
    x, weight = normal(4, 16).bfloat16(), normal(16, seed=1).bfloat16()
    expected = F.rms_norm(x, (16,), weight, EPS)
    assert torch.equal(implementation(x, weight, EPS), expected)


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
TOO_WEAK = values_only, bfloat16_only
TOO_STRICT = size_one, default_eps, torch_order

CHECK = BugHunt("01.hunt", norm, PLANTED, KIND, OTHERS, TOO_WEAK, TOO_STRICT)
