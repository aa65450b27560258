"""The check of 01.backward: the gradients of RMSNorm, without automatic
differentiation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch01.inputs import EPS, normal
from llm_course.exercises.records import Case, Exercise, case

Pair = tuple[Tensor, Tensor]
Backward = Callable[[Tensor, Tensor, Tensor, float], Pair]


def backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    F.rms_norm(x, x.shape[-1:], weight, eps).backward(grad)
    return x.grad, weight.grad


def total(values: Tensor) -> Tensor:
    """[hidden]: all positions added up."""
    return values.flatten(0, -2).sum(0)


def mean(values: Tensor) -> Tensor:
    return values.mean(-1, keepdim=True)


def minus(second: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Backward:
    """The formula with `second(grad, weight, x, scale)` for its second term."""

    def version(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
        scale = torch.rsqrt(mean(x.pow(2)) + eps)
        return grad * weight * scale - second(grad, weight, x, scale), total(
            grad * x * scale
        )

    return version


def raw_weight(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
    return backward(grad, x, weight, eps)[0], total(grad * x)


def cases() -> Iterator[Case]:
    """The first has mean square 25, so s = 1/5."""
    wide = torch.float64
    yield case(
        torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=wide),
        torch.tensor([[1.0, -7.0, 5.0, 5.0]], dtype=wide),
        torch.ones(4, dtype=wide),
        0.0,
    )
    for shape, eps in (((4, 6), EPS), ((2, 3, 8), 0.5)):
        grad, x = normal(*shape, dtype=wide), normal(*shape, seed=1, dtype=wide)
        yield case(grad, x, normal(shape[-1], seed=2, dtype=wide), eps)


def by_hand(function: Backward) -> str | None:
    """In inference mode nothing can be differentiated."""
    try:
        with torch.inference_mode():
            function(*list(cases())[1].args)
    except RuntimeError:
        return "it raises in inference mode: it seems to use automatic differentiation."
    return None


BACKWARD = Exercise(
    "01.backward",
    reference=backward,
    cases=cases,
    wrong={
        "that treats the root mean square as a constant: it depends on every entry of x": minus(
            lambda g, w, x, s: torch.zeros_like(x)
        ),
        "with a plus before the second term": minus(
            lambda g, w, x, s: -mean(g * w * x) * x * s**3
        ),
        "whose second term has s squared, not cubed": minus(
            lambda g, w, x, s: mean(g * w * x) * x * s**2
        ),
        "whose second term is twice too large: the 2 of the square cancels the half of the root": minus(
            lambda g, w, x, s: 2 * mean(g * w * x) * x * s**3
        ),
        "whose second term forgets the weight": minus(
            lambda g, w, x, s: mean(g * x) * x * s**3
        ),
        "with a sum over the channels where the mean belongs": minus(
            lambda g, w, x, s: (g * w * x).sum(-1, keepdim=True) * x * s**3
        ),
        "whose sum runs over all vectors of the batch": minus(
            lambda g, w, x, s: (g * w * x).sum() / x.shape[-1] * x * s**3
        ),
        "whose sum has the term j = i alone": minus(
            lambda g, w, x, s: g * w * x**2 * s**3 / x.shape[-1]
        ),
        "whose weight gradient uses x, not the normed x": raw_weight,
        "that returns the two gradients in the wrong order": (
            lambda grad, x, weight, eps: backward(grad, x, weight, eps)[::-1]
        ),
    },
    rtol=1e-6,
    atol=1e-9,
    properties=(by_hand,),
)
