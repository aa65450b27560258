"""Temperature, top-k, top-p, min-p and repetition penalty against the classes of
`transformers`.

The filters must keep the same tokens, with the same logits. Two things are not the
filters' to decide, and are drawn around:

- **Boundaries.** top-p is summed in float64 here and in float32 there. A p within 1e-5
  of a sum is drawn again; so is, in the chain, a k or a min-p whose last two candidates
  are that close.
- **Ties.** Where logits are equal (drawn on a coarse grid, half of the time), either
  may be the one that top-p keeps; the kept logits, sorted, must still be the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as theirs

from llm_course.engine import (
    apply_repetition_penalty,
    min_p_filtering,
    top_k_filtering,
    top_p_filtering,
)
from llm_course.engine.sampling import filtered_logits
from tests.parity.harness import EQUAL, TOLERANCES, compared, relative_error, unequal

FLOAT32 = {"float32": TOLERANCES["float32"]}
EXACT = {"float32": EQUAL}
ON = "1 to 4 rows of 2 to 3,000 logits, with and without ties"
CLEAR = 1e-5


@dataclass(frozen=True)
class Scores:
    """Logits [B, V] and a text before them, one draw."""

    seed: int
    rows: int
    vocab: int
    spread: float
    ties: bool

    @cached_property
    def logits(self) -> Tensor:
        random = torch.Generator().manual_seed(self.seed)
        logits = torch.randn(self.rows, self.vocab, generator=random) * self.spread
        return (logits * 4).round() / 4 if self.ties else logits

    @cached_property
    def ids(self) -> Tensor:
        random = torch.Generator().manual_seed(self.seed + 1)
        return torch.randint(0, self.vocab, (self.rows, 9), generator=random)


@st.composite
def scores(draw: st.DrawFn, ties: bool = True) -> Scores:
    return Scores(
        seed=draw(st.integers(0, 2**31)),
        rows=draw(st.integers(1, 4)),
        vocab=draw(st.integers(2, 60) | st.integers(2, 3000)),
        spread=draw(st.sampled_from([0.1, 1.0, 3.0, 10.0])),
        ties=ties and draw(st.booleans()),
    )


temperatures = st.floats(0.05, 5.0)
top_ks = st.integers(1, 20) | st.integers(1, 4000)
top_ps = st.floats(0.0, 0.99)
min_ps = st.floats(0.0, 1.0)
penalties = st.floats(0.5, 2.0)


@compared(
    "temperature",
    f"log-probabilities; {ON}",
    st.tuples(scores(), temperatures),
    FLOAT32,
)
def test_temperature(drawn: tuple[Scores, float], dtype: str) -> float:
    """Ours also shifts a row, which no probability notices."""
    s, temperature = drawn
    ours = filtered_logits(s.logits, temperature, None, 1.0)
    expected = theirs.TemperatureLogitsWarper(temperature)(s.ids, s.logits)
    return relative_error(ours.log_softmax(-1), expected.log_softmax(-1), dtype)


@compared(
    "top-k", f"{ON}; k also past the vocabulary", st.tuples(scores(), top_ks), EXACT
)
def test_top_k(drawn: tuple[Scores, int], dtype: str) -> float:
    s, k = drawn
    expected = theirs.TopKLogitsWarper(k)(s.ids, s.logits)
    return unequal(top_k_filtering(s.logits, k), expected)


@compared("top-p", ON, st.tuples(scores(), top_ps), EXACT)
def test_top_p(drawn: tuple[Scores, float], dtype: str) -> float:
    s, p = drawn
    assume(top_p_is_clear(s.logits, p))
    ours = top_p_filtering(s.logits, p)
    expected = theirs.TopPLogitsWarper(p)(s.ids, s.logits)
    if s.ties:
        assert ((ours == s.logits) | (ours == float("-inf"))).all()
        return unequal(ours.sort().values, expected.sort().values)
    return unequal(ours, expected)


@compared("min-p", ON, st.tuples(scores(), min_ps), EXACT)
def test_min_p(drawn: tuple[Scores, float], dtype: str) -> float:
    s, p = drawn
    return unequal(
        min_p_filtering(s.logits, p), theirs.MinPLogitsWarper(p)(s.ids, s.logits)
    )


@compared("repetition penalty", ON, st.tuples(scores(), penalties), EXACT)
def test_repetition_penalty(drawn: tuple[Scores, float], dtype: str) -> float:
    s, penalty = drawn
    ours = apply_repetition_penalty(s.logits, s.ids, penalty)
    expected = theirs.RepetitionPenaltyLogitsProcessor(penalty)(s.ids, s.logits.clone())
    return unequal(ours, expected)


@compared(
    "repetition penalty of padded rows",
    "rows of 9 ids with 0 to 8 pads on the left; theirs on each row's real tokens",
    st.tuples(scores(), penalties, st.lists(st.integers(0, 8), min_size=4, max_size=4)),
    EXACT,
)
def test_repetition_penalty_with_padding(
    drawn: tuple[Scores, float, list[int]], dtype: str
) -> float:
    s, penalty, pads = drawn
    mask = torch.arange(9) >= torch.tensor(pads[: s.rows])[:, None]
    ours = apply_repetition_penalty(s.logits, s.ids, penalty, mask)
    processor = theirs.RepetitionPenaltyLogitsProcessor(penalty)
    rows = [
        processor(s.ids[row : row + 1, start:], s.logits[row : row + 1].clone())
        for row, start in enumerate(pads[: s.rows])
    ]
    return unequal(ours, torch.cat(rows))


@compared(
    "all five in a row",
    "probabilities, and the same tokens kept; theirs in the order of its own"
    " `generate`",
    st.tuples(scores(ties=False), penalties, temperatures, top_ks, top_ps, min_ps),
    FLOAT32,
    cases=80,
)
def test_the_chain(
    drawn: tuple[Scores, float, float, int, float, float], dtype: str
) -> float:
    s, penalty, temperature, k, p, min_p = drawn
    expected = s.logits.clone()
    expected = theirs.RepetitionPenaltyLogitsProcessor(penalty)(s.ids, expected)
    expected = theirs.TemperatureLogitsWarper(temperature)(s.ids, expected)
    assume(top_k_is_clear(expected, k))
    expected = theirs.TopKLogitsWarper(k)(s.ids, expected)
    assume(top_p_is_clear(expected, p))
    expected = theirs.TopPLogitsWarper(p)(s.ids, expected)
    assume(min_p_is_clear(expected, min_p))
    expected = theirs.MinPLogitsWarper(min_p)(s.ids, expected)

    penalised = apply_repetition_penalty(s.logits, s.ids, penalty)
    ours = filtered_logits(penalised, temperature, k, p, min_p=min_p)
    assert torch.equal(ours.isfinite(), expected.isfinite())
    return relative_error(ours.softmax(-1), expected.softmax(-1), dtype)


def top_k_is_clear(logits: Tensor, k: int) -> bool:
    ranked = logits.sort(descending=True).values
    if k >= logits.shape[-1]:
        return True
    return bool((ranked[:, k - 1] - ranked[:, k]).min() > CLEAR * logits.abs().max())


def top_p_is_clear(logits: Tensor, p: float) -> bool:
    sums = logits.double().softmax(-1).sort(descending=True).values.cumsum(-1)
    return bool((sums - p).abs().min() > CLEAR)


def min_p_is_clear(logits: Tensor, min_p: float) -> bool:
    probs = logits.double().softmax(-1)
    ratios = probs / probs.amax(-1, keepdim=True)
    below_one = ratios[ratios < 1]
    return len(below_one) == 0 or bool((below_one - min_p).abs().min() > CLEAR)
