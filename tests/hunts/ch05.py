"""Readers' tests for 05.hunt: the mass that top-p measures after top-k."""

from __future__ import annotations

import torch

from llm_course.exercises import Function
from llm_course.exercises.ch05.hunt import mass_of_all, right

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


TOO_WEAK = one_at_a_time, only_sums
TOO_STRICT = (wrong_order,)
