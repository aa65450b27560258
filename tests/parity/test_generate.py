"""Greedy `generate` against the reference's own, token for token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from llm_course.config import GenerationConfig
from llm_course.engine import generate
from tests.helpers import CPU
from tests.parity.configs import Case, build_pair, cases
from tests.parity.harness import EQUAL, compared, unequal

NEW_TOKENS = 64
# Where the two largest logits are closer than this, relative to the largest, rounding
# decides: such a case is drawn again. It is a hundred times the error of the logits.
NEAR_TIE = 1e-4


@dataclass(frozen=True)
class Request:
    case: Case
    eos: tuple[int, ...]
    penalty: float


@st.composite
def requests(draw: st.DrawFn) -> Request:
    case = draw(cases(max_length=8))
    ids = st.integers(0, case.config.vocab_size - 1)
    eos = draw(
        st.just(()) | st.lists(ids, min_size=1, max_size=2, unique=True).map(tuple)
    )
    return Request(case, eos, draw(st.sampled_from([1.0, 1.3])))


@compared(
    f"greedy tokens, {NEW_TOKENS} new ones",
    "left-padded batches against each row alone; no, one or two EOS ids; repetition"
    " penalty 1 or 1.3",
    requests(),
    {"float32": EQUAL},
    cases=15,
)
@torch.inference_mode()
def test_greedy(request: Request, dtype: str) -> float:
    case, pad = request.case, 0
    # texts that wander, where a smaller scale repeats
    pair = build_pair(case, dtype, scale=1.5)
    expected = [their_tokens(pair.theirs, request, row) for row in range(case.batch)]
    longest = max(len(tokens) for tokens in expected)
    padded = torch.tensor(
        [tokens + [pad] * (longest - len(tokens)) for tokens in expected]
    )
    ours = generate(
        pair.ours,
        case.ids,
        case.config,
        CPU,
        GenerationConfig(
            NEW_TOKENS, do_sample=False, repetition_penalty=request.penalty
        ),
        eos_token_id=request.eos or None,
        attention_mask=case.mask,
        pad_token_id=pad,
    )
    assert torch.equal(ours[:, : case.length], case.ids)
    return unequal(ours[:, case.length :], padded)


def their_tokens(model: torch.nn.Module, request: Request, row: int) -> list[int]:
    """The new tokens of one row alone, by `transformers`' own loop and cache."""
    prompt = request.case.ids[row : row + 1, request.case.padding[row] :]
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        repetition_penalty=request.penalty,
        eos_token_id=list(request.eos) or None,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    assume(not any(near_tie(scores) for scores in out.scores))
    return out.sequences[0, prompt.shape[1] :].tolist()


def near_tie(scores: Tensor) -> bool:
    first, second = scores[0].topk(2).values
    return bool(first - second < NEAR_TIE * scores.abs().max())
