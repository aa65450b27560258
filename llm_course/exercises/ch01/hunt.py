"""The bug hunt of 01_rmsnorm: a norm that returns the right numbers and changes its
input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch01.inputs import EPS, normal
from llm_course.exercises.hunts import BugHunt

Norm = Callable[[Tensor, Tensor, float], Tensor]


def widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The notebook's own class."""
    wide = widened(x)
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def in_place(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`.to` returns x itself where x has the dtype already."""
    wide = widened(x)
    wide *= torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def with_size(size: Callable[[Tensor, float], Tensor]) -> Norm:
    """Right but for what it divides by."""

    def version(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = widened(x)
        return weight * (wide / size(wide, eps)).to(x.dtype)

    return version


def centred(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return norm(x - x.mean(-1, keepdim=True), weight, eps)


def narrow(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def weight_first(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return norm(widened(x), weight.to(widened(x).dtype), eps).to(x.dtype)


def values_only(implementation: Norm) -> None:
    """Ordinary and small vectors: the result is right."""
    for size in (1.0, 1e-3):
        x, weight = size * (normal(2, 4, 16) + 0.5), normal(16, seed=1)
        expected = F.rms_norm(x, (16,), weight, EPS)
        assert torch.allclose(implementation(x, weight, EPS), expected, rtol=1e-3)


def bfloat16_only(implementation: Norm) -> None:
    """Looks at the input, but `.to` copies a bfloat16 one."""
    x, weight = normal(4, 16).bfloat16(), normal(16, seed=1).bfloat16()
    kept = x.clone()
    assert torch.equal(implementation(x, weight, EPS), norm(kept, weight, EPS))
    assert torch.equal(x, kept)


def size_one(implementation: Norm) -> None:
    """With eps the size of a small vector is below 1."""
    out = implementation(1e-3 * normal(4, 16), torch.ones(16), EPS)
    assert torch.allclose(out.pow(2).mean(-1), torch.ones(4), atol=1e-3)


def default_eps(implementation: Norm) -> None:
    x = 1e-3 * normal(4, 16)
    assert torch.allclose(implementation(x, torch.ones(16), EPS), F.rms_norm(x, (16,)))


def torch_order(implementation: Norm) -> None:
    x, weight = normal(4, 16).bfloat16(), normal(16, seed=1).bfloat16()
    assert torch.equal(
        implementation(x, weight, EPS), F.rms_norm(x, (16,), weight, EPS)
    )


HUNT = BugHunt(
    "01.hunt",
    right=norm,
    planted=in_place,
    kind="every number that it returns is right",
    others={
        "epsilon outside the root": with_size(
            lambda x, eps: x.pow(2).mean(-1, keepdim=True).sqrt() + eps
        ),
        "epsilon left out": with_size(
            lambda x, eps: x.pow(2).mean(-1, keepdim=True).sqrt()
        ),
        "the mean subtracted first, as in LayerNorm": centred,
        "one mean over all vectors together": with_size(
            lambda x, eps: (x.pow(2).mean() + eps) ** 0.5
        ),
        "the sum of squares instead of the mean": with_size(
            lambda x, eps: (x.pow(2).sum(-1, keepdim=True) + eps).sqrt()
        ),
        "the weight left out": lambda x, weight, eps: norm(
            x, torch.ones_like(weight), eps
        ),
        "squares and mean in the dtype of x": narrow,
        "the weight before the rounding": weight_first,
    },
    wrong={
        "Your test accepts the planted bug": values_only,
        "Your test accepts the planted bug.": bfloat16_only,
        "Your test rejects the right implementation": size_one,
        "Your test rejects the right implementation.": default_eps,
        "It raised AssertionError": torch_order,
    },
)
