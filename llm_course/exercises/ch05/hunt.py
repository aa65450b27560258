"""The bug hunt of 05_generate: the second filter of two measures the wrong mass."""

import torch
from torch import Tensor

from llm_course.exercises import BugHunt, Function
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
PROBS = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.5, 0.05, 0.3, 0.15]])


def one_at_a_time(implementation: Function) -> None:
    """Each setting alone, with the others off."""
    for settings in ((2.0, 4, 1.0), (1.0, 2, 1.0), (1.0, 4, 0.6), (0.5, 4, 0.6)):
        out = implementation(PROBS.log(), *settings)
        assert torch.allclose(out, right(PROBS.log(), *settings), atol=1e-5)


def only_sums(implementation: Function) -> None:
    out = implementation(PROBS.log(), 1.0, 2, 0.5)
    assert torch.allclose(out.sum(-1), torch.ones(2))
    assert (out > 0).any(-1).all()


def wrong_order(implementation: Function) -> None:
    """Top-p before top-k: what the planted bug does."""
    out = implementation(PROBS.log(), 1.0, 2, 0.5)
    assert torch.allclose(out, mass_of_all(PROBS.log(), 1.0, 2, 0.5), atol=1e-5)


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
TOO_WEAK = one_at_a_time, only_sums
TOO_STRICT = (wrong_order,)

CHECK = BugHunt("05.hunt", right, mass_of_all, KIND, OTHERS, TOO_WEAK, TOO_STRICT)
