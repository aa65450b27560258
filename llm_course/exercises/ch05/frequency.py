"""The check of 05.frequency: a penalty for each time that a token came."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise, normal, random_ids


def frequency(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    size = logits.shape[-1]
    counts = torch.stack([row.bincount(minlength=size) for row in generated])  # [B, V]
    return logits - alpha * counts


def cases() -> Cases:
    yield Case(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), torch.tensor([[0, 3, 3]]), 0.5)
    yield Case(normal(2, 6), torch.tensor([[1, 1, 1, 4, 0], [2, 5, 2, 5, 5]]), 0.7)
    yield Case(normal(3, 20), random_ids(20, 3, 50), 0.1)
    nothing = torch.zeros(2, 0, dtype=torch.long)
    yield Case(normal(2, 4), nothing, 1.0, name="nothing is generated yet")


WRONG = """
that takes alpha off once for each id; an id that came three times loses 3 alpha
    alpha * counts -> alpha * (counts > 0)
that counts the ids of all rows together
    * counts -> * counts.sum(0)
that adds instead of subtracting
    logits - alpha -> logits + alpha
that divides the count by the number of generated tokens
    * counts -> * counts / max(1, generated.shape[-1])
that counts the last token only
    in generated -> in generated[:, -1:]
that calls bincount without minlength: its result ends at the row's largest id
    minlength=size ->
whose alpha is cut to a whole number; a tensor of int64 cannot hold 0.5
    alpha * -> int(alpha) *
"""

CHECK = Exercise("05.frequency", frequency, cases, WRONG)
