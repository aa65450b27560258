"""The check of 01.lean: RMSNorm of a bfloat16 vector without a float32 copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch01.inputs import EPS, normal
from llm_course.exercises.records import Case, Exercise, case
from llm_course.exercises.watch import largest_tensor, peak_entries

CHUNK = 64
WIDE = (torch.float32, torch.float64)


def lean(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * F.rms_norm(x.double(), x.shape[-1:], eps=eps).to(x.dtype)


def scaled(x: Tensor, weight: Tensor, eps: float, mean_square: Tensor) -> Tensor:
    """Right, if the mean is."""
    return weight * (x.float() * torch.rsqrt(mean_square + eps)).to(x.dtype)


def all_bfloat16(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def rounded_squares(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return scaled(x, weight, eps, x.pow(2).float().mean(-1, keepdim=True))


def rounded_scale(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)
    return weight * (x * scale.to(x.dtype))


def rounded_once(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = F.rms_norm(x.double(), x.shape[-1:], eps=eps)
    return (weight.double() * wide).to(x.dtype)


def last_piece(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    last = x.split(CHUNK, dim=-1)[-1]
    return scaled(x, weight, eps, last.float().pow(2).mean(-1, keepdim=True))


def no_tail(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    whole = x.shape[-1] // CHUNK * CHUNK
    total = x[..., :whole].float().pow(2).sum(-1, keepdim=True)
    return scaled(x, weight, eps, total / x.shape[-1])


def mean_of_means(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    pieces = x.float().pow(2).split(CHUNK, dim=-1)
    means = [piece.mean(-1, keepdim=True) for piece in pieces]
    return scaled(x, weight, eps, torch.stack(means).mean(0))


def each_alone(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    pieces = x.float().split(CHUNK, dim=-1)
    normed = [F.rms_norm(piece, piece.shape[-1:], eps=eps) for piece in pieces]
    return weight * torch.cat(normed, dim=-1).to(x.dtype)


def cases() -> Iterator[Case]:
    """Whole numbers: their squares add up exactly in float32, in any order."""
    for shape in [(192,), (3, 256), (2, 2, 100)]:
        x = (12 * normal(*shape)).round().to(torch.bfloat16)
        yield case(x, normal(shape[-1], seed=1, dtype=torch.bfloat16), EPS)


def memory(function: Callable[..., Tensor]) -> str | None:
    rows, hidden = 2, 1024
    args = (
        normal(rows, hidden, dtype=torch.bfloat16),
        torch.ones(hidden).bfloat16(),
        EPS,
    )
    for dtype in WIDE:
        channels = largest_tensor(function, *args, dtypes=[dtype]) // rows
        if channels > CHUNK:
            return (
                f"for x of shape [{rows}, {hidden}] it makes a {str(dtype)[6:]} tensor"
                f" of {channels} channels; {CHUNK} are allowed. (bfloat16 times float32"
                " is float32: even `x * scale` is such a tensor, where scale is"
                " float32.)"
            )
    channels = peak_entries(function, *args, dtypes=WIDE) // rows
    if channels > hidden // 2:
        return (
            f"for a vector of {hidden} channels it holds {channels} float32 numbers at"
            " the same time: in pieces, a copy of x. Round each piece before the next"
            " one is widened."
        )
    return None


LEAN = Exercise(
    "01.lean",
    reference=lean,
    cases=cases,
    wrong={
        "that takes the mean in bfloat16": all_bfloat16,
        "that squares in bfloat16 and adds in float32": rounded_squares,
        "whose scale is rounded to bfloat16 before it meets x": rounded_scale,
        "that rounds once, after the weight; Llama rounds before it": rounded_once,
        "whose mean is that of the last piece alone": last_piece,
        "whose sum leaves out the last piece, if it is shorter": no_tail,
        "with the mean of the pieces' means; a shorter piece then counts too much": (
            mean_of_means
        ),
        "that norms each piece by itself": each_alone,
    },
    rtol=1e-3,  # below half of the distance between neighbours in bfloat16
    atol=1e-6,
    properties=(memory,),
)
