"""The bug hunt of 04_decoder: padding recognised by its id."""

import torch
from torch import Tensor

from llm_course.exercises import BugHunt
from llm_course.exercises.edits import edited
from llm_course.models.transformer import DecoderOnlyModel


def right(model: DecoderOnlyModel, rows: list[list[int]], pad_id: int) -> Tensor:
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return model(ids, mask, last_only=True)[:, -1]


# A token of the prompt that has the padding's id is masked as well.
mask_by_id = edited(right, "(ids, mask -> (ids, ids != pad_id")
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

CHECK = BugHunt("04.hunt", right, mask_by_id, KIND, OTHERS)
