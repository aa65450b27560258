"""The bug hunt of 05_generate: the second filter of two measures the wrong mass."""

import torch
from torch import Tensor

from llm_course.exercises import BugHunt
from llm_course.exercises.edits import edited


def right(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Probabilities [..., V] after top-k, then top-p; their sum is 1 again."""
    probs = (logits.double() / temperature).softmax(-1)
    ordered, order = probs.sort(dim=-1, descending=True)
    ordered[..., top_k:] = 0.0
    ordered = ordered / ordered.sum(-1, keepdim=True)
    drop = ordered.cumsum(-1) - ordered >= top_p - 1e-7
    drop &= top_p < 1.0  # 1 keeps all
    drop[..., 0] = False
    left = ordered.masked_fill(drop, 0.0)
    left = left / left.sum(-1, keepdim=True)
    kept = torch.zeros_like(left).scatter(-1, order, left)
    return kept.float()


# The mass is that among all tokens, not among the k that are left.
mass_of_all = edited(right, "ordered / ordered.sum(-1, keepdim=True) -> ordered")
KIND = "what the second of two filters makes of what the first has left"
OTHERS = """
the token that crosses top_p dropped
    - ordered >= top_p - 1e-7 -> > top_p + 1e-7
the temperature applied after the filters
    (logits.double() / temperature) -> logits.double()
    (drop, 0.0) -> (drop, 0.0) ** (1 / temperature)
probabilities whose sum is not 1 again
    return kept -> return probs.masked_fill(kept == 0.0, 0.0)
the tokens that the first row keeps, kept in all rows
    return kept -> probs = probs * (kept.flatten(0, -2)[:1] > 0)
        return (probs / probs.sum(-1, keepdim=True))
the result left in sorted order
    return kept -> return kept.sort(dim=-1, descending=True).values
"""

CHECK = BugHunt("05.hunt", right, mass_of_all, KIND, OTHERS)
