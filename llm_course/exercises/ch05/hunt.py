"""The bug hunt of 05_generate: two filters in one sort, and the second measures the
wrong mass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llm_course.exercises.hunts import BugHunt


def kept(probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Probabilities [..., V] after top-k, then top-p; their sum is 1 again."""
    ordered, order = probs.sort(dim=-1, descending=True)
    ordered[..., top_k:] = 0.0
    ordered = ordered / ordered.sum(-1, keepdim=True)
    return nucleus(ordered, order, top_p)


def nucleus(
    ordered: Tensor, order: Tensor, top_p: float, crossing: bool = True
) -> Tensor:
    mass = ordered.cumsum(-1)
    drop = mass - ordered >= top_p - 1e-7 if crossing else mass > top_p + 1e-7
    drop &= top_p < 1.0  # 1 keeps all
    drop[..., 0] = False
    left = ordered.masked_fill(drop, 0.0)
    return torch.zeros_like(left).scatter(-1, order, left / left.sum(-1, keepdim=True))


def right(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    return kept((logits.double() / temperature).softmax(-1), top_k, top_p).float()


def mass_of_all(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """The mass is that among all tokens, not among the k that are left."""
    ordered, order = (
        (logits.double() / temperature).softmax(-1).sort(dim=-1, descending=True)
    )
    drop = (ordered.cumsum(-1) - ordered >= top_p - 1e-7) & (top_p < 1.0)
    drop[..., top_k:] = True
    drop[..., 0] = False
    left = ordered.masked_fill(drop, 0.0)
    left = left / left.sum(-1, keepdim=True)
    return torch.zeros_like(left).scatter(-1, order, left).float()


def crossing_dropped(
    logits: Tensor, temperature: float, top_k: int, top_p: float
) -> Tensor:
    ordered, order = (
        (logits.double() / temperature).softmax(-1).sort(dim=-1, descending=True)
    )
    ordered[..., top_k:] = 0.0
    ordered = ordered / ordered.sum(-1, keepdim=True)
    return nucleus(ordered, order, top_p, crossing=False).float()


def temperature_last(
    logits: Tensor, temperature: float, top_k: int, top_p: float
) -> Tensor:
    left = right(logits, 1.0, top_k, top_p) > 0
    return (logits / temperature).masked_fill(~left, float("-inf")).softmax(-1)


def not_scaled(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    left = right(logits, temperature, top_k, top_p) > 0
    return (logits / temperature).softmax(-1).masked_fill(~left, 0.0)


def first_row_for_all(
    logits: Tensor, temperature: float, top_k: int, top_p: float
) -> Tensor:
    left = (right(logits, temperature, top_k, top_p) > 0).flatten(0, -2)[:1]
    return (logits / temperature).masked_fill(~left, float("-inf")).softmax(-1)


def sorted_order(
    logits: Tensor, temperature: float, top_k: int, top_p: float
) -> Tensor:
    return right(logits, temperature, top_k, top_p).sort(dim=-1, descending=True).values


Filter = Callable[[Tensor, float, int, float], Tensor]
PROBS = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.5, 0.05, 0.3, 0.15]])


def one_at_a_time(implementation: Filter) -> None:
    """Each setting alone, with the others off."""
    for settings in ((2.0, 4, 1.0), (1.0, 2, 1.0), (1.0, 4, 0.6), (0.5, 4, 0.6)):
        out = implementation(PROBS.log(), *settings)
        assert torch.allclose(out, right(PROBS.log(), *settings), atol=1e-5)


def only_sums(implementation: Filter) -> None:
    out = implementation(PROBS.log(), 1.0, 2, 0.5)
    assert torch.allclose(out.sum(-1), torch.ones(2))
    assert (out > 0).any(-1).all()


def wrong_order(implementation: Filter) -> None:
    """Top-p before top-k: what the planted bug does."""
    out = implementation(PROBS.log(), 1.0, 2, 0.5)
    assert torch.allclose(out, mass_of_all(PROBS.log(), 1.0, 2, 0.5), atol=1e-5)


HUNT = BugHunt(
    "05.hunt",
    right=right,
    planted=mass_of_all,
    kind="what the second of two filters makes of what the first has left",
    others={
        "the token that crosses top_p dropped": crossing_dropped,
        "the temperature applied after the filters": temperature_last,
        "probabilities whose sum is not 1 again": not_scaled,
        "the tokens that the first row keeps, kept in all rows": first_row_for_all,
        "the result left in sorted order": sorted_order,
    },
    wrong={
        "Your test accepts the planted bug": one_at_a_time,
        "Your test accepts the planted bug.": only_sums,
        "Your test rejects the right implementation": wrong_order,
    },
)
