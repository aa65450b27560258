"""The bug hunt of 04_decoder: padding recognised by its id."""

import torch
from torch import Tensor

from llm_course.exercises import BugHunt, Function
from llm_course.exercises.ch04.models import small_model
from llm_course.exercises.edits import edited
from llm_course.models.transformer import DecoderOnlyModel


def right(model: DecoderOnlyModel, rows: list[list[int]], pad_id: int) -> Tensor:
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return model(ids, mask, last_only=True)[:, -1]


# A token of the prompt that has the padding's id is masked as well.
mask_by_id = edited(right, "(ids, mask -> (ids, ids != pad_id")


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


KIND = "it is right for plain text, and wrong for a chat"
OTHERS = """
no mask: padding is read as text
    (ids, mask -> (ids
padding on the right, and the last column read
    [pad_id] * (width - len(row)) + row -> row + [pad_id] * (width - len(row))
    [0] * (width - len(row)) + [1] * len(row) ->
        [1] * len(row) + [0] * (width - len(row))
the last token's position counted by the column, the others by the mask
    return model(ids, mask -> places = (mask.cumsum(-1) - 1).clamp(min=0)
        places[:, -1] = width - 1
        return model(ids, mask, position_ids=places
the first token of each row masked too
    len(row)) + [1] * len(row) -> len(row) + 1) + [1] * (len(row) - 1)
    return -> mask[:, -1] = 1; return
the rows returned in the order of their lengths
    width = -> rows = sorted(rows, key=len); width =
"""
TOO_WEAK = plain_rows, only_shape
TOO_STRICT = (pads_dropped,)

CHECK = BugHunt("04.hunt", right, mask_by_id, KIND, OTHERS, TOO_WEAK, TOO_STRICT)
