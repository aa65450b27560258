"""The bug hunt of 04_decoder: padding recognised by its id."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llm_course.exercises.ch04.models import small_model
from llm_course.exercises.hunts import BugHunt
from llm_course.models.transformer import DecoderOnlyModel

Rows = list[list[int]]
NextLogits = Callable[[DecoderOnlyModel, Rows, int], Tensor]


def padded(rows: Rows, pad_id: int, extra: int = 0) -> tuple[Tensor, Tensor]:
    """ids and mask [B, S], padding on the left; `extra` more places of each row count
    as padding."""
    width = max(map(len, rows))
    ids = [[pad_id] * (width - len(row)) + row for row in rows]
    mask = [[int(s >= width - len(row) + extra) for s in range(width)] for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def right(model: DecoderOnlyModel, rows: Rows, pad_id: int) -> Tensor:
    return model(*padded(rows, pad_id), last_only=True)[:, -1]


def mask_by_id(model: DecoderOnlyModel, rows: Rows, pad_id: int) -> Tensor:
    """A token of the prompt that has the padding's id is masked as well."""
    ids, _ = padded(rows, pad_id)
    return model(ids, ids != pad_id, last_only=True)[:, -1]


def no_mask(model: DecoderOnlyModel, rows: Rows, pad_id: int) -> Tensor:
    return model(padded(rows, pad_id)[0], last_only=True)[:, -1]


def pad_right(model: DecoderOnlyModel, rows: Rows, pad_id: int) -> Tensor:
    """Padding on the right, and the last column read."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    mask = torch.tensor([[int(s < len(row)) for s in range(width)] for row in rows])
    return model(ids, mask)[:, -1]


def torn_positions(model: DecoderOnlyModel, rows: Rows, pad_id: int) -> Tensor:
    ids, mask = padded(rows, pad_id)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    positions[:, -1] = ids.shape[1] - 1
    return model(ids, mask, position_ids=positions)[:, -1]


def first_token_lost(model: DecoderOnlyModel, rows: Rows, pad_id: int) -> Tensor:
    ids, mask = padded(rows, pad_id, extra=1)
    mask[:, -1] = 1
    return model(ids, mask)[:, -1]


def by_length(model: DecoderOnlyModel, rows: Rows, pad_id: int) -> Tensor:
    return right(model, sorted(rows, key=len), pad_id)


def plain_rows(implementation: NextLogits) -> None:
    """Rows of different lengths, but none holds the padding's id."""
    model, rows = small_model(), [[5, 6, 7, 8], [9, 4], [3]]
    out = implementation(model, rows, 0)
    for row, got in zip(rows, out, strict=True):
        assert torch.allclose(got, model(torch.tensor([row]))[0, -1], atol=1e-4)


def only_shape(implementation: NextLogits) -> None:
    out = implementation(small_model(), [[5, 0, 7], [9]], 0)
    assert out.shape == (2, 24)
    assert out.isfinite().all()


def pads_dropped(implementation: NextLogits) -> None:
    """Takes the padding's id in a prompt for padding: what the planted bug does."""
    model, rows = small_model(), [[5, 0, 7], [9]]
    assert torch.allclose(
        implementation(model, rows, 0), mask_by_id(model, rows, 0), atol=1e-4
    )


HUNT = BugHunt(
    "04.hunt",
    right=right,
    planted=mask_by_id,
    kind="it is right for plain text, and wrong for a chat",
    others={
        "no mask: padding is read as text": no_mask,
        "padding on the right, and the last column read": pad_right,
        "the last token's position counted by the column, the others by the mask": (
            torn_positions
        ),
        "the first token of each row masked too": first_token_lost,
        "the rows returned in the order of their lengths": by_length,
    },
    wrong={
        "Your test accepts the planted bug": plain_rows,
        "Your test accepts the planted bug.": only_shape,
        "Your test rejects the right implementation": pads_dropped,
    },
)
