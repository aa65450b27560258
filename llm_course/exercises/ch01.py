"""Checks of the exercises of 01_rmsnorm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.records import BugHunt, Case, Exercise, case
from llm_course.exercises.watch import largest_tensor

EPS = 1e-5


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# --- 01.fold


def fold_cases() -> Iterator[Case]:
    yield case(torch.tensor([2.0, 10.0]), torch.tensor([[1.0, 1.0], [1.0, 3.0]]))
    yield case(normal(6), normal(4, 6, seed=1))
    yield case(torch.tensor([1.0, 0.0, -1.0]), normal(3, 3))


FOLD = Exercise(
    "01.fold",
    reference=lambda weight, matrix: matrix @ torch.diag(weight),
    cases=fold_cases,
    wrong={
        "that scales the rows: a row belongs to an output channel": lambda weight, matrix: (
            matrix * weight[:, None] if len(weight) == len(matrix) else matrix
        ),
        "that divides by the weight": lambda weight, matrix: matrix / weight,
        "that leaves the matrix as it is": lambda weight, matrix: matrix.clone(),
    },
)

# --- 01.grouped


def grouped(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.chunk(groups, dim=-1)
    size = (x.shape[-1] // groups,)
    return weight * torch.cat([F.rms_norm(part, size, eps=eps) for part in parts], dim=-1)


def grouped_interleaved(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.unflatten(-1, (-1, groups))
    scale = torch.rsqrt(parts.pow(2).mean(-2, keepdim=True) + eps)
    return weight * (parts * scale).flatten(-2)


def grouped_sum(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = x.unflatten(-1, (groups, -1))
    return weight * (parts * torch.rsqrt(parts.pow(2).sum(-1, keepdim=True) + eps)).flatten(-2)


def grouped_cases() -> Iterator[Case]:
    yield case(torch.tensor([1.0, 1.0, 10.0, 10.0]), torch.ones(4), 2, EPS)
    yield case(normal(2, 3, 12), normal(12, seed=1), 3, EPS)
    yield case(normal(5, 8), normal(8, seed=1), 1, 0.1)
    yield case(normal(5, 8), normal(8, seed=1), 8, 0.1)


GROUPED = Exercise(
    "01.grouped",
    reference=grouped,
    cases=grouped_cases,
    wrong={
        "with one mean over the whole vector": lambda x, weight, groups, eps: F.rms_norm(
            x, x.shape[-1:], weight, eps
        ),
        "whose groups take every G-th channel instead of neighbours": grouped_interleaved,
        "that divides by the sum of squares, not the mean": grouped_sum,
        "without the weight": lambda x, weight, groups, eps: grouped(
            x, torch.ones_like(weight), groups, eps
        ),
    },
)

# --- 01.lean

CHUNK = 64


def lean(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * F.rms_norm(x.double(), x.shape[-1:], eps=eps).to(x.dtype)


def lean_naive(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def lean_last_order(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = F.rms_norm(x.double(), x.shape[-1:], eps=eps)
    return (weight.double() * wide).to(x.dtype)


def lean_last_chunk(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The mean of the last chunk alone."""
    scale = torch.rsqrt(x[..., -CHUNK:].float().pow(2).mean(-1, keepdim=True) + eps)
    return weight * (x.float() * scale).to(x.dtype)


def lean_cases() -> Iterator[Case]:
    """Whole numbers: their squares add up exactly in float32, in any order."""
    for shape in [(192,), (3, 256), (2, 2, 100)]:
        x = (12 * normal(*shape)).round().to(torch.bfloat16)
        yield case(x, normal(shape[-1], seed=1, dtype=torch.bfloat16), EPS)


def lean_memory(function: Callable[..., Tensor]) -> str | None:
    x = normal(2, 1024, dtype=torch.bfloat16)
    wide = (torch.float32, torch.float64)
    most = largest_tensor(function, x, torch.ones(1024, dtype=torch.bfloat16), EPS, dtypes=wide)
    if most > 2 * CHUNK:
        return (
            f"for x of shape [2, 1024] it makes a float32 tensor of {most} numbers; "
            f"2 rows of {CHUNK} are {2 * CHUNK}."
        )
    return None


LEAN = Exercise(
    "01.lean",
    reference=lean,
    cases=lean_cases,
    wrong={
        "that takes the mean in bfloat16": lean_naive,
        "that rounds once, after the weight; Llama rounds before it": lean_last_order,
        "whose mean is that of the last chunk alone": lean_last_chunk,
    },
    rtol=1e-3,  # below half of the distance between neighbours in bfloat16
    atol=1e-6,
    properties=(lean_memory,),
)

# --- 01.backward

Pair = tuple[Tensor, Tensor]


def backward(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    F.rms_norm(x, x.shape[-1:], weight, eps).backward(grad)
    return x.grad, weight.grad


def _sums(grad: Tensor, x: Tensor) -> Tensor:
    """[hidden]: all positions added up."""
    return (grad * x).flatten(0, -2).sum(0)


def backward_constant(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return grad * weight * scale, _sums(grad, x * scale)


def backward_unweighted(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    inner = (grad * x).mean(-1, keepdim=True)
    return grad * weight * scale - x * scale**3 * inner, _sums(grad, x * scale)


def backward_sum(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    inner = (grad * weight * x).sum(-1, keepdim=True)
    return grad * weight * scale - x * scale**3 * inner, _sums(grad, x * scale)


def backward_raw_weight(grad: Tensor, x: Tensor, weight: Tensor, eps: float) -> Pair:
    return backward(grad, x, weight, eps)[0], _sums(grad, x)


def backward_cases() -> Iterator[Case]:
    wide = torch.float64
    yield case(
        torch.tensor([[1.0, 0.0]], dtype=wide),
        torch.tensor([[3.0, 4.0]], dtype=wide),
        torch.ones(2, dtype=wide),
        0.0,
    )
    for shape, eps in (((4, 6), EPS), ((2, 3, 8), 0.5)):
        grad, x = normal(*shape, dtype=wide), normal(*shape, seed=1, dtype=wide)
        yield case(grad, x, normal(shape[-1], seed=2, dtype=wide), eps)


BACKWARD = Exercise(
    "01.backward",
    reference=backward,
    cases=backward_cases,
    wrong={
        "that treats the root mean square as a constant: it depends on every entry of x": (
            backward_constant
        ),
        "whose second term forgets the weight": backward_unweighted,
        "with a sum over the channels where the mean belongs": backward_sum,
        "whose weight gradient uses x, not the normed x": backward_raw_weight,
    },
    rtol=1e-6,
    atol=1e-9,
)

# --- 01.hunt


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def eps_outside(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True).sqrt() + eps)


def no_eps(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / x.pow(2).mean(-1, keepdim=True).sqrt()


def centred(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, eps=eps)


def wrong_axis(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x * torch.rsqrt(x.pow(2).mean(0, keepdim=True) + eps)


def summed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + eps)


def loose_test(implementation: Callable[..., Tensor]) -> None:
    """Ordinary vectors and a tolerance: eps does not show."""
    x = normal(4, 16)
    assert torch.allclose(
        implementation(x, torch.ones(16), EPS).pow(2).mean(-1).sqrt(), torch.ones(4), atol=1e-3
    )


def strict_test(implementation: Callable[..., Tensor]) -> None:
    """With eps the size is a little below 1, so this rejects the right one."""
    out = implementation(1e-3 * normal(4, 16), torch.ones(16), EPS)
    assert torch.allclose(out.pow(2).mean(-1), torch.ones(4), atol=1e-3)


HUNT = BugHunt(
    "01.hunt",
    right=norm,
    planted=eps_outside,
    kind="it differs from the definition only where the vector is small",
    others={
        "epsilon left out": no_eps,
        "the mean subtracted first, as in LayerNorm": centred,
        "the mean taken over the positions": wrong_axis,
        "the sum of squares instead of the mean": summed,
        "the weight left out": lambda x, weight, eps: norm(x, torch.ones_like(weight), eps),
    },
    wrong={
        "Your test accepts the planted bug": loose_test,
        "Your test rejects the right implementation": strict_test,
    },
)

EXERCISES = (FOLD, GROUPED, LEAN, BACKWARD, HUNT)
