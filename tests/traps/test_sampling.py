"""The traps of sampling: what the filters keep, and how a token is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llm_course.config import GenerationConfig
from llm_course.engine import (
    apply_repetition_penalty,
    generate,
    min_p_filtering,
    sample_next_token,
    top_k_filtering,
    top_p_filtering,
)
from llm_course.engine.sampling import filtered_logits
from tests.helpers import CPU, random_ids, small_config, small_model


def kept(logits: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def log(*probs: float) -> Tensor:
    return torch.tensor([probs]).log()


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_top_p_always_leaves_a_token(dtype):
    logits = noise(4, 1000).to(dtype)
    for p in (0.0, 1e-9, 1e-3, 0.5, 0.999):
        assert all(kept(top_p_filtering(logits, p)))
    flat = torch.zeros(2, 50000, dtype=dtype)  # every token equally probable
    assert all(kept(top_p_filtering(flat, 0.0)))


def test_top_p_boundaries():
    assert kept(top_p_filtering(log(0.5, 0.41, 0.09), 0.9)) == [[0, 1]]
    assert kept(top_p_filtering(log(0.3, 0.1, 0.1, 0.5), 0.8)) == [[0, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_top_p_counts_a_long_tail_exactly(dtype):
    """Also where the logits are coarse: their probabilities are not, and must not be
    rounded."""
    ramp = torch.linspace(0, 2, 50000)[None].to(dtype)
    probs = ramp.double().softmax(dim=-1).flip(-1)[0]
    wanted = int((probs.cumsum(0) < 0.7).sum()) + 1
    assert len(kept(top_p_filtering(ramp, 0.7))[0]) == wanted


def test_top_p_of_one_drops_nothing():
    tail = noise(1, 50000) * 8
    assert torch.equal(top_p_filtering(tail, 1.0), tail)


def test_top_k_edges():
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0]])
    assert kept(top_k_filtering(logits, 1)) == [[1, 3]]  # a tie with the k-th stays
    for off in (None, 0, 4, 99):
        assert torch.equal(top_k_filtering(logits, off), logits)


def test_temperature_zero_and_tiny():
    logits = torch.tensor([[1.0, 5.0, 4.9], [7.0, 1.0, 2.0]])
    for temperature in (0.0, 1e-5, 1e-30, 1e-300):
        assert sample_next_token(logits, temperature).tolist() == [[1], [0]]
    assert sample_next_token(logits * 1e4, 1e-5).tolist() == [[1], [0]]
    with pytest.raises(ValueError, match="temperature = -1"):
        sample_next_token(logits, -1.0)


FILTERS = {
    "top_k": lambda x: top_k_filtering(x, 3),
    "top_p": lambda x: top_p_filtering(x, 0.6),
    "top_p_tiny": lambda x: top_p_filtering(x, 1e-9),
    "min_p": lambda x: min_p_filtering(x, 0.2),
    "repetition": lambda x: apply_repetition_penalty(
        x, torch.tensor([[1, 2]]).expand(len(x), 2), 1.3
    ),
    "all": lambda x: filtered_logits(x, 0.7, 9, 0.8, min_p=0.1),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_batch_is_filtered_row_by_row(name):
    logits = noise(3, 20) * 2
    batched = FILTERS[name](logits)
    assert torch.equal(batched, torch.cat([FILTERS[name](row[None]) for row in logits]))
    assert not torch.equal(batched, logits)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_leave_their_input(name):
    logits = noise(3, 20) * 2
    before = logits.clone()
    FILTERS[name](logits)
    sample_next_token(logits, 0.5, top_k=3, top_p=0.9, min_p=0.1)
    assert torch.equal(logits, before)


def test_rows_draw_independently_and_the_global_seed_is_untouched():
    config, model = small_config(), small_model()
    same = random_ids(1, 4).expand(8, 4)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    hot = GenerationConfig(max_new_tokens=4, temperature=3.0, seed=1)
    out = generate(model, same, config, CPU, hot)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(out[:, 4].unique()) > 1
    assert torch.equal(out, generate(model, same, config, CPU, hot))
    assert not torch.equal(
        out,
        generate(
            model, same, config, CPU, GenerationConfig(4, temperature=3.0, seed=2)
        ),
    )
    unseeded = [
        generate(model, same, config, CPU, GenerationConfig(4, temperature=3.0))
        for _ in range(2)
    ]
    assert not torch.equal(*unseeded)


@pytest.mark.parametrize(
    ("probs", "settings", "right", "swapped"),
    [
        # At temperature 1 the first token alone reaches p; at 4 it takes three.
        ((0.6, 0.2, 0.11, 0.09), {"temperature": 4.0, "top_p": 0.6}, [0, 1, 2], [0]),
        # Among the two best the first holds 0.4 / 0.7; among all four, 0.4.
        ((0.4, 0.3, 0.2, 0.1), {"top_k": 2, "top_p": 0.5}, [0], [0, 1]),
        # min-p leaves the two best as well, of which the first would hold more than p.
        ((0.4, 0.3, 0.2, 0.1), {"top_p": 0.5, "min_p": 0.6}, [0, 1], [0]),
        # The second token is 0.67 times as probable as the first at temperature 1, 0.44
        # times at 0.5.
        ((0.42, 0.28, 0.2, 0.1), {"temperature": 0.5, "min_p": 0.6}, [0], [0, 1]),
    ],
    ids=["temperature-top_p", "top_k-top_p", "top_p-min_p", "temperature-min_p"],
)
def test_the_filters_apply_in_the_documented_order(probs, settings, right, swapped):
    """Each case tells two filters apart by what the other order would keep."""
    off = {"temperature": 1.0, "top_k": None, "top_p": 1.0}
    assert (
        kept(filtered_logits(log(*probs), **(off | settings))) == [right] != [swapped]
    )
    order = "repetition penalty, temperature, top-k, top-p, min-p"
    assert order in " ".join(GenerationConfig.__doc__.split())


def test_the_penalty_comes_before_the_temperature():
    """It looks at the sign of a logit, which the temperature's shift of the row would
    change."""
    logits, seen = torch.tensor([[3.0, 2.0, -1.0]]), torch.tensor([[0, 2]])
    penalised = apply_repetition_penalty(logits, seen, 2.0)
    assert penalised.tolist() == [[1.5, 2.0, -2.0]]
    # In the loop, at a temperature so low that the best penalised token is drawn for
    # certain:
    model, ids = small_model(), random_ids(2, 5)
    config = GenerationConfig(1, temperature=1e-9, repetition_penalty=1.8, seed=0)
    out = generate(model, ids, small_config(), CPU, config)[:, 5]
    with torch.inference_mode():
        raw = model(ids)[:, -1]
    assert torch.equal(out, apply_repetition_penalty(raw, ids, 1.8).argmax(-1))
