"""The whole model: logits of left-padded batches, and of positions given from
outside."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from tests.parity.configs import Case, build_pair, cases
from tests.parity.harness import compared, relative_error


@compared(
    "logits of a batch, row by row",
    "1 to 3 layers, tied or not; our left-padded batch against each of its rows alone",
    cases(),
    cases=120,
)
@torch.inference_mode()
def test_rows_of_a_batch(case: Case, dtype: str) -> float:
    pair = build_pair(case, dtype)
    batched = pair.ours(case.ids, case.mask.long())
    errors = []
    for row, pads in enumerate(case.padding):
        alone = pair.theirs(case.ids[row : row + 1, pads:], use_cache=False).logits[0]
        errors.append(relative_error(batched[row, pads:], alone, dtype))
    return max(errors)


@compared(
    "logits of a batch", "the same batch, masked and positioned alike in both", cases()
)
@torch.inference_mode()
def test_batch(case: Case, dtype: str) -> float:
    pair = build_pair(case, dtype)
    ours = pair.ours(case.ids, case.mask)
    theirs = pair.theirs(
        case.ids,
        attention_mask=case.mask.long(),
        position_ids=case.positions,
        use_cache=False,
    )
    return relative_error(case.rows(ours), case.rows(theirs.logits), dtype)


@compared(
    "logits at given positions",
    "positions with gaps, up to 4,000",
    st.tuples(cases(), st.integers(1, 300)),
)
@torch.inference_mode()
def test_positions(drawn: tuple[Case, int], dtype: str) -> float:
    case, stride = drawn
    pair = build_pair(case, dtype)
    positions = torch.arange(case.length)[None].expand(case.batch, -1) * stride
    ours = pair.ours(case.ids, position_ids=positions)
    # Without a mask `transformers` takes a gap in the positions for the start of
    # another text.
    mask = torch.ones_like(case.ids)
    theirs = pair.theirs(
        case.ids, attention_mask=mask, position_ids=positions, use_cache=False
    )
    return relative_error(ours, theirs.logits, dtype)
