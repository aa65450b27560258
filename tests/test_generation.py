"""Filters, draws and the loop: each trap of sampling and generation, on small exact cases."""

from __future__ import annotations

import logging

import pytest
import torch

from llm_course.config import EngineConfig, GenerationConfig
from llm_course.engine import (
    apply_repetition_penalty,
    generate,
    generate_stream,
    min_p_filtering,
    sample_next_token,
    top_k_filtering,
    top_p_filtering,
)
from tests.helpers import CPU, ListCache, random_ids, small_config, small_model

GREEDY = GenerationConfig(max_new_tokens=6, do_sample=False)


def kept(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def log(*probs: float) -> torch.Tensor:
    return torch.tensor([probs]).log()


# --- filters --------------------------------------------------------------------------------------


def test_top_p_boundaries():
    assert kept(top_p_filtering(log(0.5, 0.41, 0.09), 0.9)) == [[0, 1]]
    assert kept(top_p_filtering(log(0.3, 0.1, 0.1, 0.5), 0.8)) == [[0, 3]]


def test_top_p_counts_a_long_tail_exactly():
    ramp = torch.linspace(0, 2, 50000)[None]
    probs = ramp.double().softmax(dim=-1).flip(-1)[0]
    wanted = int((probs.cumsum(0) < 0.7).sum()) + 1
    assert len(kept(top_p_filtering(ramp, 0.7))[0]) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_top_p_always_leaves_a_token(dtype):
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    for p in (0.0, 1e-9, 1e-3, 0.5, 0.999):
        assert all(kept(top_p_filtering(logits, p)))
    flat = torch.zeros(2, 50000, dtype=dtype)  # every token equally probable
    assert all(kept(top_p_filtering(flat, 0.0)))


def test_top_p_of_one_drops_nothing():
    tail = torch.randn(1, 50000, generator=torch.Generator().manual_seed(0)) * 8
    assert torch.equal(top_p_filtering(tail, 1.0), tail)


FILTERS = [
    lambda x: top_k_filtering(x, 3),
    lambda x: top_p_filtering(x, 0.6),
    lambda x: min_p_filtering(x, 0.2),
    lambda x: apply_repetition_penalty(x, torch.tensor([[1, 1], [2, 0], [3, 4]]), 1.3),
]


@pytest.mark.parametrize("apply", FILTERS, ids=["top_k", "top_p", "min_p", "repetition"])
def test_filters_treat_rows_alone_and_leave_their_input(apply):
    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(0)) * 2
    before = logits.clone()
    batched = apply(logits)
    assert torch.equal(logits, before)
    if apply is not FILTERS[3]:
        assert torch.equal(batched, torch.cat([apply(row[None]) for row in logits]))
    assert not torch.equal(batched, logits)


def test_top_k_edges():
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0]])
    assert kept(top_k_filtering(logits, 1)) == [[1, 3]]  # a tie with the k-th stays
    for off in (None, 0, 4, 99):
        assert torch.equal(top_k_filtering(logits, off), logits)


def test_min_p():
    assert kept(min_p_filtering(log(0.5, 0.3, 0.15, 0.05), 0.4)) == [[0, 1]]
    assert kept(min_p_filtering(log(0.5, 0.3, 0.2), 1.0)) == [[0]]
    logits = torch.randn(1, 9)
    assert torch.equal(min_p_filtering(logits, 0.0), logits)


def test_repetition_penalty_lowers_both_signs_and_skips_padding():
    logits = torch.tensor([[2.0, -2.0, 1.0, 4.0]])
    seen = torch.tensor([[3, 0, 1]])
    out = apply_repetition_penalty(logits, seen, 2.0)
    assert out.tolist() == [[1.0, -4.0, 1.0, 2.0]]
    unpadded = apply_repetition_penalty(logits, seen, 2.0, torch.tensor([[0, 1, 1]]))
    assert unpadded.tolist() == [[1.0, -4.0, 1.0, 4.0]]
    assert torch.equal(apply_repetition_penalty(logits, seen, 1.0), logits)


# --- the draw -------------------------------------------------------------------------------------


def test_temperature_zero_and_tiny():
    logits = torch.tensor([[1.0, 5.0, 4.9], [7.0, 1.0, 2.0]])
    for temperature in (0.0, 1e-5, 1e-30, 1e-300):
        assert sample_next_token(logits, temperature).tolist() == [[1], [0]]
    assert sample_next_token(logits * 1e4, 1e-5).tolist() == [[1], [0]]
    with pytest.raises(ValueError, match="temperature = -1"):
        sample_next_token(logits, -1.0)


def test_draws_follow_the_filtered_probabilities():
    logits = log(0.4, 0.3, 0.2, 0.1).expand(20000, 4)
    draw = torch.Generator().manual_seed(0)
    ids = sample_next_token(logits, temperature=0.5, top_k=3, generator=draw).flatten()
    squares = torch.tensor([0.4, 0.3, 0.2, 0.0]) ** 2  # temperature 1/2 squares probabilities
    expected = squares / squares.sum()
    share = torch.bincount(ids, minlength=4) / 20000
    bound = 5 * (expected * (1 - expected) / 20000).sqrt()
    assert ((share - expected).abs() <= bound).all()


def test_temperature_comes_before_top_p():
    # At temperature 1 the first token alone reaches p = 0.6; at 4 it takes three.
    logits = log(0.6, 0.2, 0.1, 0.1).expand(4000, 4)
    draw = torch.Generator().manual_seed(0)
    ids = sample_next_token(logits, 4.0, top_k=None, top_p=0.6, generator=draw)
    assert len(ids.unique()) > 1


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
        out, generate(model, same, config, CPU, GenerationConfig(4, temperature=3.0, seed=2))
    )
    unseeded = [
        generate(model, same, config, CPU, GenerationConfig(4, temperature=3.0)) for _ in range(2)
    ]
    assert not torch.equal(*unseeded)


# --- the loop -------------------------------------------------------------------------------------


def test_several_eos_and_pads_after_each_row_ends():
    model, config, ids = small_model(), small_config(), random_ids(4, 5)
    free = generate(model, ids, config, CPU, GREEDY)[:, 5:]
    eos = [int(free[0, 1]), int(free[1, 3])]
    out = generate(model, ids, config, CPU, GREEDY, eos_token_id=eos, pad_token_id=95)[:, 5:]
    for row, wanted in zip(out.tolist(), free.tolist(), strict=True):
        end = next((i + 1 for i, token in enumerate(wanted) if token in eos), len(wanted))
        wanted[end:] = [95] * (len(wanted) - end)
        assert row == wanted[: len(row)]
    assert out.shape[1] <= 6


def test_pad_defaults_to_the_first_eos_and_a_row_after_eos_changes_no_other():
    model, config, ids = small_model(), small_config(), random_ids(2, 5)
    free = generate(model, ids, config, CPU, GREEDY)[:, 5:]
    eos = int(free[0, 0])
    out = generate(model, ids, config, CPU, GREEDY, eos_token_id=eos)[:, 5:]
    assert (out[0] == eos).all()
    alone = generate(model, ids[1:], config, CPU, GREEDY, eos_token_id=eos)[:, 5:]
    assert torch.equal(out[1:, : alone.shape[1]], alone)


def test_left_padded_batch_equals_one_by_one():
    model, config = small_model(), small_config()
    ids = random_ids(3, 8)
    mask = torch.ones_like(ids)
    mask[0, :5], mask[1, :2] = 0, 0
    out = generate(model, ids, config, CPU, GREEDY, attention_mask=mask)
    penalised = GenerationConfig(6, do_sample=False, repetition_penalty=1.5)
    out_penalised = generate(model, ids, config, CPU, penalised, attention_mask=mask)
    for row, start in enumerate((5, 2, 0)):
        for settings, batched in ((GREEDY, out), (penalised, out_penalised)):
            alone = generate(model, ids[row : row + 1, start:], config, CPU, settings)
            assert torch.equal(batched[row, start:], alone[0])


def test_a_cache_is_fed_only_what_it_has_not_seen():
    model, config, ids = small_model(), small_config(), random_ids(2, 7)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    sizes = []
    hook = model.embed_tokens.register_forward_hook(lambda m, args, out: sizes.append(out.shape[1]))
    cached = generate(model, ids, config, CPU, GREEDY, attention_mask=mask, kv_cache=ListCache())
    assert sizes == [7, 1, 1, 1, 1, 1]  # one prefill, n - 1 decode steps
    sizes.clear()
    assert torch.equal(generate(model, ids, config, CPU, GREEDY, attention_mask=mask), cached)
    assert sizes == [7, 8, 9, 10, 11, 12]
    hook.remove()


def test_stream_yields_what_generate_returns_and_can_be_left():
    model, config, ids = small_model(), small_config(), random_ids(2, 5)
    whole = generate(model, ids, config, CPU, GREEDY)
    streamed = torch.cat([ids, *generate_stream(model, ids, GREEDY)], dim=-1)
    assert torch.equal(streamed, whole)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    next(generate_stream(model, ids, GREEDY))
    assert len(calls) == 1
    hook.remove()


def test_the_logger_gets_steps_and_the_reason(caplog):
    model, config, ids = small_model(), small_config(), random_ids(1, 5)
    logger = logging.getLogger("test.generate")
    with caplog.at_level(logging.DEBUG, logger.name):
        out = generate(model, ids, config, CPU, GREEDY, logger=logger)
        generate(model, ids, config, CPU, GREEDY, eos_token_id=int(out[0, 5]), logger=logger)
    text = caplog.text
    assert f"step 1: tokens [{int(out[0, 5])}]" in text
    assert "stopped after 6 tokens: max_new_tokens" in text
    assert "stopped after 1 tokens: every row reached EOS" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, ["[1, 0]", "BOS"]),
        ({"input_ids": torch.tensor([[500]])}, ["500", "vocabulary"]),
        ({"attention_mask": torch.tensor([[1, 1, 0]])}, ["left"]),
        ({"attention_mask": torch.tensor([[1, 1]])}, ["[1, 2]", "[1, 3]"]),
        ({"engine_config": EngineConfig("meta")}, ["meta", "cpu"]),
        ({"model_config": small_config(num_layers=3)}, ["num_layers=3"]),
        ({"eos_token_id": 96}, ["96", "95"]),
    ],
)
def test_bad_requests_are_named(changes, words):
    request = {
        "input_ids": torch.tensor([[1, 2, 3]]),
        "model_config": small_config(),
        "engine_config": CPU,
        "gen_config": GREEDY,
    }
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        generate(small_model(), **(request | changes))
    assert all(word in str(error.value) for word in words), str(error.value)
