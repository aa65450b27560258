"""Filters, draws and the loop, on small exact cases. What went wrong elsewhere is in
tests/traps/."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from llm_course.config import EngineConfig, GenerationConfig
from llm_course.engine import (
    apply_repetition_penalty,
    generate,
    generate_stream,
    generation,
    min_p_filtering,
    sample_next_token,
)
from tests.helpers import CPU, ListCache, random_ids, small_config, small_model

GREEDY = GenerationConfig(max_new_tokens=6, do_sample=False)


def kept(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def log(*probs: float) -> torch.Tensor:
    return torch.tensor([probs]).log()


# --- filters
# --------------------------------------------------------------------------------------


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


# --- the draw
# -------------------------------------------------------------------------------------


def test_draws_follow_the_filtered_probabilities():
    logits = log(0.4, 0.3, 0.2, 0.1).expand(20000, 4)
    draw = torch.Generator().manual_seed(0)
    ids = sample_next_token(logits, temperature=0.5, top_k=3, generator=draw).flatten()
    # temperature 1/2 squares probabilities
    squares = torch.tensor([0.4, 0.3, 0.2, 0.0]) ** 2
    expected = squares / squares.sum()
    share = torch.bincount(ids, minlength=4) / 20000
    bound = 5 * (expected * (1 - expected) / 20000).sqrt()
    assert ((share - expected).abs() <= bound).all()


# --- the loop
# -------------------------------------------------------------------------------------


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
    hook = model.embed_tokens.register_forward_hook(
        lambda m, args, out: sizes.append(out.shape[1])
    )
    cached = generate(
        model, ids, config, CPU, GREEDY, attention_mask=mask, kv_cache=ListCache()
    )
    assert sizes == [7, 1, 1, 1, 1, 1]  # one prefill, n - 1 decode steps
    sizes.clear()
    uncached = replace(GREEDY, use_cache=False)
    assert torch.equal(
        generate(model, ids, config, CPU, uncached, attention_mask=mask), cached
    )
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
        generate(
            model, ids, config, CPU, GREEDY, eos_token_id=int(out[0, 5]), logger=logger
        )
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


def test_a_choice_wakes_no_other_threads(monkeypatch):
    """PyTorch's threads, once awake, take time from the next pass."""
    model, before, seen = small_model(), torch.get_num_threads(), []
    choose = generation.choose_token

    def spy(*args, **options):
        seen.append(torch.get_num_threads())
        return choose(*args, **options)

    monkeypatch.setattr(generation, "choose_token", spy)
    torch.set_num_threads(3)
    try:
        for _ in generate_stream(model, random_ids(1, 4), GenerationConfig(2)):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1]
