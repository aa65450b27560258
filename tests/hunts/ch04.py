"""Readers' tests for 04.hunt: padding recognised by its id."""

from __future__ import annotations

import torch

from llm_course.exercises import Function
from llm_course.exercises.ch04.hunt import mask_by_id
from llm_course.exercises.ch04.models import small_model


def plain_rows(implementation: Function) -> None:
    """Rows of different lengths, but none holds the padding's id."""
    model, rows = small_model(), [[5, 6, 7, 8], [9, 4], [3]]
    out = implementation(model, rows, 0)
    for row, got in zip(rows, out, strict=True):
        assert torch.allclose(got, model(torch.tensor([row]))[0, -1], atol=1e-4)


def only_shape(implementation: Function) -> None:
    out = implementation(small_model(), [[5, 0, 7], [9]], 0)
    assert out.shape == (2, 24)
    assert out.isfinite().all()


def pads_dropped(implementation: Function) -> None:
    """Takes the padding's id in a prompt for padding: what the planted bug does."""
    model, rows = small_model(), [[5, 0, 7], [9]]
    out = implementation(model, rows, 0)
    assert torch.allclose(out, mask_by_id(model, rows, 0), atol=1e-4)


TOO_WEAK = plain_rows, only_shape
TOO_STRICT = (pads_dropped,)
