"""The check of 01.backward: gradients of RMSNorm without automatic differentiation."""

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, normal

Gradients = tuple[Tensor, ...]


def automatic(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Gradients:
    """The reference: another way to the same gradients."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = F.rms_norm(x, x.shape[-1:], weight, eps)
    return torch.autograd.grad(out, (x, weight), grad)


def backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Gradients:
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    inner = (grad * weight * x).mean(-1, keepdim=True)
    dx = grad * weight * scale - inner * x * scale**3
    dweight = (grad * x * scale).flatten(0, -2).sum(0)
    return dx, dweight


def cases() -> Cases:
    """The first has mean square 25, so s = 1/5."""
    wide = torch.float64
    x = torch.tensor([[1.0, -7.0, 5.0, 5.0]], dtype=wide)
    yield Case(torch.eye(4, dtype=wide)[:1], x, torch.ones(4, dtype=wide), 0.0)
    for shape, eps in (((4, 6), 1e-5), ((2, 3, 8), 0.5)):
        grad, x = normal(*shape, dtype=wide), normal(*shape, seed=1, dtype=wide)
        yield Case(grad, x, normal(shape[-1], seed=2, dtype=wide), eps)


def by_hand(function: Function) -> Complaints:
    """In inference mode nothing can be differentiated."""
    try:
        with torch.inference_mode():
            function(*list(cases())[1].args)
    except RuntimeError:
        yield "it raises in inference mode: it seems to use automatic differentiation."


WRONG = """
that treats the root mean square as a constant: it depends on every entry of x
    - inner * x * scale**3 ->
with a plus before the second term
    - inner -> + inner
whose second term has s squared, not cubed
    scale**3 -> scale**2
whose second term is twice too large: the 2 of the square cancels the half of the root
    - inner -> - 2 * inner
whose second term forgets the weight
    grad * weight * x -> grad * x
with a sum over the channels where the mean belongs
    x).mean -> x).sum
whose sum runs over all vectors of the batch
    x).mean(-1, keepdim=True) -> x).sum() / x.shape[-1]
whose sum has the term j = i alone
    x).mean(-1, keepdim=True) -> x) / x.shape[-1]
whose weight gradient uses x, not the normed x
    grad * x * scale -> grad * x
that returns the two gradients in the wrong order
    return dx, dweight -> return dweight, dx
"""

CHECK = Exercise(
    "01.backward", automatic, cases, WRONG, backward, rtol=1e-6, atol=1e-9, rule=by_hand
)
