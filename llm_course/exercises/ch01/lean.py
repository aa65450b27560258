"""The check of 01.lean: RMSNorm of a bfloat16 vector without a float32 copy of it."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, normal
from llm_course.exercises.watch import watched

CHUNK = 64
WIDE = (torch.float32, torch.float64)


def lean(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The right numbers; the memory is what is left to the reader."""
    wide = x.double()
    mean_square = wide.pow(2).mean(-1, keepdim=True)
    return weight * (wide * torch.rsqrt(mean_square + eps)).to(x.dtype)


def cases() -> Cases:
    """Whole numbers, or such a number times a power of two: their squares add up
    exactly in float32, in any order."""
    for shape in [(192,), (3, 256), (2, 2, 100)]:
        x = (12 * normal(*shape)).round().to(torch.bfloat16)
        yield Case(x, normal(shape[-1], seed=1, dtype=torch.bfloat16), 1e-5)
    small = (12 * normal(3, 100)).round() * torch.tensor([[0.0], [2.0**-12], [2.0**-6]])
    weight = normal(100, seed=1, dtype=torch.bfloat16)
    yield Case(small.bfloat16(), weight, 1e-5, name="a vector of zeros, and small ones")


def memory(function: Function) -> Complaints:
    x = normal(2, 1024, dtype=torch.bfloat16)
    args = x, torch.ones(1024).bfloat16(), 1e-5
    for dtype in WIDE:
        channels = watched(function, *args, dtypes=(dtype,)).largest // 2
        if channels > CHUNK:
            yield (
                f"for x of shape [2, 1024] it makes a {str(dtype)[6:]} tensor of"
                f" {channels} channels; {CHUNK} are allowed. (bfloat16 times float32 is"
                " float32: even `x * scale` is such a tensor, where scale is float32.)"
            )
    channels = watched(function, *args, dtypes=WIDE).peak // 2
    if channels > 512:
        yield (
            f"for a vector of 1024 channels it holds {channels} float32 numbers at the"
            " same time: in pieces, a copy of x. Round each piece before the next one"
            " is widened."
        )


WRONG = """
without epsilon
    mean_square + eps -> mean_square
with epsilon outside the root
    torch.rsqrt(mean_square + eps) -> 1 / (mean_square.sqrt() + eps)
that keeps the mean square above epsilon and does not add it
    mean_square + eps -> mean_square.clamp(min=eps)
that takes the mean in bfloat16
    x.double() -> x
that squares in bfloat16 and adds in float32
    wide.pow(2) -> x.pow(2).float()
whose scale is rounded to bfloat16 before it meets x
    wide * torch -> x * torch ;; + eps) -> + eps).to(x.dtype)
that rounds once, after the weight; Llama rounds before it
    weight * (wide -> (weight * wide
whose mean is that of the last piece alone
    wide.pow -> wide.split(CHUNK, dim=-1)[-1].pow
whose sum leaves out the last piece, if it is shorter
    wide.pow(2).mean -> wide[..., : x.shape[-1] // CHUNK * CHUNK].pow(2).sum
    keepdim=True) -> keepdim=True) / x.shape[-1]
with the mean of the pieces' means; a shorter piece then counts too much
    wide.pow(2).mean(-1, keepdim=True) -> torch.stack([
        p.pow(2).mean(-1, keepdim=True) for p in wide.split(CHUNK, dim=-1)]).mean(0)
that norms each piece by itself
    wide.pow(2).mean(-1, keepdim=True) -> torch.cat([
        p.pow(2).mean(-1, True).expand_as(p) for p in wide.split(CHUNK, -1)], -1)
"""

# rtol: below half of the distance between neighbours in bfloat16
CHECK = Exercise("01.lean", lean, cases, WRONG, rtol=1e-3, atol=1e-6, rule=memory)
