"""What the engine refuses, or warns of, where it used to go wrong silently."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llm_course.config import GenerationConfig
from llm_course.engine import (
    Conversation,
    generate,
    generate_stream,
    make_cache,
    prefill,
    sample_next_token,
)
from llm_course.engine.generation import seeded_generator, token_ids
from tests.helpers import CPU, random_ids, small_model

GREEDY = GenerationConfig(max_new_tokens=4, do_sample=False)


def run(model, ids, config=GREEDY, **options):
    return generate(model, ids, model.config, CPU, config, **options)


# --- ids and seeds


@pytest.mark.parametrize("name", ["eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("given", [1.5, True, False, [2, 1.5], "2", -1, 96, [1, None]])
def test_what_is_no_id_is_refused_by_name(name, given):
    message = f"{name} = (.*0 to 95|.*give an int)"  # of a wrong type, or outside
    with pytest.raises((ValueError, TypeError), match=message):
        run(small_model(), random_ids(1, 3), **{name: given})


@pytest.mark.parametrize("given", [True, [2, False]])
def test_a_truth_value_is_no_id(given):
    with pytest.raises(ValueError, match=r"eos_token_id = .* from 0 to 95"):
        token_ids("eos_token_id", given, 96)


@pytest.mark.parametrize(
    ("given", "ids"),
    [(None, []), (2, [2]), ((2, 0), [2, 0]), (np.int64(3), [3]), ({4}, [4])],
)
def test_ids_may_come_in_several_forms(given, ids):
    assert token_ids("eos_token_id", given, 96).tolist() == ids
    assert token_ids("eos_token_id", torch.tensor([5, 6]), 96).tolist() == [5, 6]


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, True, "1"])
def test_a_seed_that_no_generator_takes_is_refused_where_it_is_given(seed):
    with pytest.raises(ValueError, match="seed"):
        GenerationConfig(seed=seed)
    with pytest.raises(ValueError, match="seed"):
        seeded_generator(seed, torch.device("cpu"))


def test_the_largest_and_smallest_seeds_draw():
    for seed in (2**64 - 1, -(2**63), 0):
        settings = GenerationConfig(max_new_tokens=2, seed=seed)
        assert run(small_model(), random_ids(1, 3), settings).shape == (1, 5)


# --- ids beyond the tokenizer


@pytest.mark.parametrize("sample", [True, False])
def test_ids_beyond_the_tokenizer_are_never_chosen(sample):
    model, ids = small_model(), random_ids(2, 5)
    settings = GenerationConfig(
        max_new_tokens=20, do_sample=sample, seed=0, repetition_penalty=1.2, top_k=0
    )
    settings = replace(settings, temperature=3.0)
    assert run(model, ids, settings)[:, 5:].max() >= 40
    assert run(model, ids, settings, vocab_size=40)[:, 5:].max() < 40
    assert torch.equal(
        run(model, ids, settings, vocab_size=96), run(model, ids, settings)
    )
    talk = Conversation(model).stream([95, 3], settings, vocab_size=40)
    assert max(talk) < 40


def test_a_vocabulary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="vocab_size = 0"):
        run(small_model(), random_ids(1, 3), vocab_size=0)


# --- logits that are not finite


@pytest.mark.parametrize("sample", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_one_clear_error(sample, bad):
    model = small_model()
    with torch.no_grad():
        model.norm.weight[3] = bad
    settings = replace(GREEDY, do_sample=sample)
    with pytest.raises(ValueError, match=r"row 0.*(nan|inf).*damaged"):
        run(model, random_ids(2, 5), settings)


def test_the_row_is_named_and_forbidden_tokens_are_fine():
    logits = torch.zeros(3, 5)
    logits[:, 1] = float("-inf")
    assert sample_next_token(logits, do_sample=False).shape == (3, 1)
    logits[2] = float("-inf")
    with pytest.raises(ValueError, match="row 2: its largest logit is -inf"):
        sample_next_token(logits)


# --- lengths


def test_more_tokens_than_the_model_was_trained_for_are_a_warning():
    model, ids = small_model(max_position_embeddings=16), random_ids(1, 10)
    with pytest.warns(UserWarning, match=r"10 tokens.*max_new_tokens = 7.*16 pos"):
        run(model, ids, replace(GREEDY, max_new_tokens=7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(model, ids, replace(GREEDY, max_new_tokens=6))


def test_a_limit_without_bounds_reserves_no_memory_for_it():
    model, ids = small_model(), random_ids(1, 3)
    settings = replace(GREEDY, max_new_tokens=10**12)
    with pytest.warns(UserWarning, match="1000000000000"):
        assert next(generate_stream(model, ids, settings)).shape == (1, 1)


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.bytes = max(self.bytes, x.nbytes)
        return out


@pytest.mark.parametrize("through", ["generate", "prefill"])
def test_memory_of_a_padded_prefill_grows_with_the_prompt(prepare, through):
    model = prepare(small_model(max_position_embeddings=8192))

    def largest(length: int) -> int:
        ids, mask = random_ids(2, length), torch.ones(2, length, dtype=torch.long)
        mask[1, : length // 2] = 0
        with Largest() as seen:
            if through == "generate":
                settings = replace(GREEDY, max_new_tokens=1)
                run(model, ids, settings, attention_mask=mask)
            else:
                prefill(model, ids, make_cache(model, 2), mask)
        return seen.bytes

    assert largest(2048) <= 2.2 * largest(1024)


def test_pieces_give_the_tokens_of_the_whole(prepare, monkeypatch):
    model, ids = prepare(small_model()), random_ids(2, 30)
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, :11] = 0
    whole = run(model, ids, attention_mask=mask)
    monkeypatch.setattr("llm_course.engine.generation.PIECE", 7)
    assert torch.equal(run(model, ids, attention_mask=mask), whole)


def test_a_mask_of_another_shape_is_refused(prepare):
    model, ids = prepare(small_model()), random_ids(1, 6)
    for mask in (torch.ones(1, 7), torch.ones(2, 6)):
        with pytest.raises(ValueError, match="shape"):
            run(model, ids, attention_mask=mask)
        with pytest.raises(ValueError, match="shape"):
            prefill(model, ids, make_cache(model), mask)
