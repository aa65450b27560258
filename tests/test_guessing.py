"""Guessing ahead: what is generated, and drawn, is what it would be without guesses."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.config import GenerationConfig
from llm_course.engine import (
    Conversation,
    FusedModel,
    generate,
    generate_stream,
    guessing,
    make_cache,
    prepare_for_inference,
)
from llm_course.engine.guessing import CLOSE, SAME, Guesser, Lookup, close
from llm_course.engine.kv_cache import KVCache
from llm_course.models import DecoderOnlyModel
from tests.helpers import CPU, ListCache, random_ids, small_config, small_model

derandomized = settings(max_examples=40, deadline=None, derandomize=True)
GREEDY = GenerationConfig(max_new_tokens=40, do_sample=False, guess_ahead=7)
SAMPLED = GenerationConfig(max_new_tokens=40, temperature=0.5, seed=3, guess_ahead=7)
PASSAGE = (
    "The lighthouse stood at the end of a long stone pier. Every evening the keeper "
    "climbed its narrow stairs, lit the lamp, and wrote the weather into a book."
)
KINDS = ("as built", "fused", "float32", "int8", "q4_1")


class Pairs(DecoderOnlyModel):
    """A model that knows which token follows which: logits [V, V] by the last token."""

    def __init__(self, logits: torch.Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.logits, self.rows = logits, []
        self.config = small_config(vocab_size=len(logits), num_layers=1)
        self.embed_tokens = torch.nn.Embedding(1, 1)

    def __call__(self, ids, attention_mask=None, kv_cache=None, last_only=False):
        if attention_mask is not None:
            assert attention_mask.shape[1] == kv_cache.length + ids.shape[1]
        self.rows.append(ids.shape[1])
        for layer in range(len(kv_cache.layers)):
            kv_cache.room(layer, ids.shape[1])
        kv_cache.advance(ids.shape[1])
        out = self.logits[ids]
        return out[:, -1:] if last_only else out


def circle(n: int = 6) -> Pairs:
    """0 1 2 … and again from 0, for certain."""
    return Pairs(20.0 * torch.eye(n).roll(1, dims=1))


def new(model, ids, config, **more) -> list[int]:
    return [t.item() for t in generate_stream(model, ids, config, **more)]


def of_kind(kind: str, seed: int):
    model = small_model(seed)
    if kind == "as built":
        return model
    if kind == "fused":
        return FusedModel(model).eval()
    return prepare_for_inference(model, kind)


@pytest.fixture
def always(monkeypatch) -> None:
    """Guesses at every step, whatever they cost, after a single token."""
    monkeypatch.setattr(guessing, "START", 1e9)
    monkeypatch.setattr(guessing, "MOST", 1e9)
    monkeypatch.setattr(guessing, "SAME", 1)


# --- what is guessed
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4], [5, 6, 7]),
        ([9, 1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 8, 1, 2, 3, 4], [6, 8, 1]),  # the latest
        ([1, 2, 1, 2, 1, 2], [1, 2, 1]),  # runs on into what it copies
        ([7, 7, 7, 7, 7], [7, 7, 7]),
        ([1, 2, 3, 4], []),  # it stands there, but not before
        ([0, 2, 3, 4, 5, 1, 2, 3, 4], []),  # three of four
        ([1, 2], []),
        ([], []),
    ],
)
def test_what_followed_the_last_tokens_before(text, guess):
    assert Lookup().guess(text, 3) == guess


@derandomized
@given(text=st.lists(st.integers(0, 1), max_size=40), cuts=st.lists(st.integers(0, 40)))
def test_a_text_may_be_read_piece_by_piece(text, cuts):
    lookup = Lookup()
    for cut in sorted(cuts):
        lookup.guess(text[:cut], 3)
    assert lookup.guess(text, 3) == Lookup().guess(text, 3)
    places = [i for i in range(SAME, len(text)) if text[i - SAME : i] == text[-SAME:]]
    assert lookup.guess(text, 1) == [text[i] for i in places[-1:]]


# --- the same tokens
# --------------------------------------------------------------------------------------


@pytest.mark.slow
@derandomized
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 9),
    k=st.integers(1, 20),
    same=st.integers(1, 3),
    config=st.sampled_from(
        [
            GREEDY,
            SAMPLED,
            replace(GREEDY, repetition_penalty=1.3),
            replace(SAMPLED, repetition_penalty=1.3, top_p=0.9, min_p=0.05),
            replace(GREEDY, temperature=0.0, do_sample=True),
        ]
    ),
    eos=st.lists(st.integers(0, 95), max_size=4),
)
def test_every_setting_gives_the_tokens_it_gives_without_guesses(
    kind, seed, k, same, config, eos
):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("START", 1e9), ("MOST", 1e9), ("SAME", same)):
            patch.setattr(guessing, name, value)
        model, ids = of_kind(kind, seed), random_ids(1, 6, seed=seed)
        ours = new(model, ids, replace(config, guess_ahead=k), eos_token_id=eos)
        assert ours == new(model, ids, replace(config, guess_ahead=0), eos_token_id=eos)


def test_a_loop_takes_few_passes_and_the_cache_never_counts_a_guess(always):
    model, ids = circle(), torch.tensor([[0, 1, 2, 3, 4, 5, 0]])
    cache = make_cache(model)
    steps = generate_stream(model, ids, GREEDY, kv_cache=cache)
    for i in range(40):
        assert next(steps).item() == (i + 1) % 6
        assert cache.length == 7 + i  # the latest token is not fed yet
    assert model.rows == [7, 8, 8, 8, 8, 7]  # 1 + 4 * 8 + 7 = 40 tokens


def test_a_row_with_padding_is_guessed_as_well(always):
    model, ids = small_model(), random_ids(1, 6)
    mask, config = (
        torch.tensor([[0, 0, 1, 1, 1, 1]]),
        replace(GREEDY, max_new_tokens=30),
    )
    rows, forward = [], model.forward

    def counted(ids, *args, **kwargs):
        rows.append(ids.shape[1])
        return forward(ids, *args, **kwargs)

    model.forward = counted
    ours = new(model, ids, config, attention_mask=mask)
    assert max(rows[1:]) > 1
    assert ours == new(model, ids, replace(config, guess_ahead=0), attention_mask=mask)


def test_real_keys_stand_in_the_cache_after_each_token(always):
    model, ids = small_model(), random_ids(1, 6)
    cache, config = make_cache(model), replace(GREEDY, max_new_tokens=30)
    text = ids[0].tolist()
    for token in generate_stream(model, ids, config, kv_cache=cache):
        plain = make_cache(model)
        with torch.inference_mode():
            model(torch.tensor([text]), kv_cache=plain)
        assert cache.length == plain.length
        for ours, wanted in zip(cache.layers, plain.layers, strict=True):
            n = cache.length
            assert torch.allclose(ours[..., :n, :], wanted[..., :n, :], atol=1e-4)
        text.append(token.item())


def test_wrong_guesses_cost_passes_but_change_nothing(always):
    logits = torch.zeros(4, 4)
    logits[0, 1] = logits[1, 2] = logits[2, 3] = logits[3, 0] = 9.0
    model, ids = Pairs(logits), torch.tensor([[0, 2, 0]])  # after 0 once came 2
    assert new(model, ids, replace(GREEDY, max_new_tokens=5)) == [1, 2, 3, 0, 1]
    assert model.rows == [3, 1, 3, 1, 1]  # 2 was followed by 0, and now is by 3


def test_near_ties_are_left_to_a_pass_over_one_row(always):
    """A model whose numbers depend, in the last digits, on how many rows it is fed."""
    model = circle()
    rows, forward = [], Pairs.__call__

    class Rounds(Pairs):
        def __call__(self, ids, *args, **kwargs):
            out = forward(self, ids, *args, **kwargs).clone()
            out[..., 0, 2] = 20.0 + (1e-5 if ids.shape[1] > 1 else -1e-5)
            rows.append(ids.shape[1])
            return out

    unsure = Rounds(model.logits)
    ids = torch.tensor([[0, 1, 2, 3, 4, 5, 0]])
    ours = new(unsure, ids, GREEDY)
    assert max(rows) == 8
    assert ours[1:] == new(unsure, ids, replace(GREEDY, guess_ahead=0))[1:]


def test_near_ties_are_as_wide_as_the_rounding_of_the_model():
    model, apart = circle(), torch.tensor([[3.0, 30.0, 29.99, -30.0]])
    assert not close(model, apart)
    model.rounding = 2.0**-15  # that of products in integers
    assert close(model, apart)
    assert not close(model, torch.tensor([[3.0, 30.0, 29.9, -30.0]]))


@pytest.mark.parametrize("weights", ["float32", "int8", "q4_1"])
def test_a_near_tie_is_wider_than_what_several_rows_change(weights):
    model = prepare_for_inference(small_model(), weights)
    ids = random_ids(1, 60)
    cache = make_cache(model, 1, 60)
    together = model(ids)
    alone = torch.cat([model(token[:, None], kv_cache=cache) for token in ids.T], 1)
    changed, largest = (together - alone).abs().max(), alone.abs().max()
    assert 0 < changed < CLOSE * model.rounding * largest / 4


# --- the same distribution
# --------------------------------------------------------------------------------------


def test_draws_follow_the_probabilities_whether_a_guess_was_right_or_not(always):
    """Chi-square over which token follows which, at a fixed seed: 12 free cells."""
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    model, ids = Pairs(logits), torch.tensor([[0, 1, 2, 3, 0, 2, 1, 3]])
    config = GenerationConfig(3000, temperature=0.8, seed=1, guess_ahead=3)
    drawn = new(model, ids, config)
    passes = len(model.rows)
    assert 1200 < passes < 2800  # some guesses were right, some wrong
    counts = torch.zeros(4, 4)
    for before, after in pairwise(drawn):
        counts[before, after] += 1
    expected = counts.sum(1, keepdim=True) * (logits / 0.8).softmax(-1)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 32.9  # passed by one seed in a thousand


# --- what guesses may cost
# --------------------------------------------------------------------------------------


def test_guesses_stop_when_they_do_not_pay_and_come_back_sparingly():
    """Guesses of 3 that are always wrong: a pass over 4 rows costs one more."""
    guesser = Guesser(replace(GREEDY, max_new_tokens=1000, guess_ahead=3))
    guesser.lookup.guess = lambda text, k: [0] * k  # never drawn
    model, ids = Pairs(torch.zeros(4, 4)), torch.tensor([[1]])
    guesser.config = replace(guesser.config, do_sample=True)  # zeros are all ties
    cache = make_cache(model)
    for _ in range(500):
        guesser(model, ids, torch.ones_like(ids), cache)
        ids = torch.cat([ids, torch.tensor([[1]])], dim=-1)
    guessed = [i for i, rows in enumerate(model.rows) if rows == 4]
    assert guessed[:3] == [0, 1, 2]  # the account holds 3
    assert len(guessed) <= 3 + 0.05 * 500 + 1
    assert 20 <= guessed[-1] - guessed[-2] <= 21


def test_guesses_go_on_while_they_pay():
    model, ids = circle(), torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3]])
    new(model, ids, replace(GREEDY, max_new_tokens=801))
    assert model.rows == [10] + [8] * 100


def test_long_luck_is_soon_used_up():
    """However long guesses were right, a few wrong ones end them."""
    guesser = Guesser(replace(SAMPLED, max_new_tokens=1000, guess_ahead=3))
    model, ids = Pairs(torch.zeros(4, 4)), torch.tensor([[1]])
    cache = make_cache(model)
    for i in range(300):
        right = i < 200
        guesser.lookup.guess = lambda text, k, right=right: [int(right)] * k
        guesser(model, ids, torch.ones_like(ids), cache)
        ids = torch.cat([ids, torch.tensor([[1]])], dim=-1)
    assert model.rows[:50] == [4] * 50
    assert model.rows[50:].count(4) <= 4 + 0.05 * 100 + 1


@pytest.mark.parametrize("count", [1, 2, 5, 9, 17])
def test_no_pass_looks_past_the_last_token(always, count):
    model, ids = circle(), torch.tensor([[0, 1, 2, 3, 4, 5, 0]])
    cache = make_cache(model, 1, 7 + count - 1)
    config = replace(GREEDY, max_new_tokens=count)
    assert len(new(model, ids, config, kv_cache=cache)) == count
    assert cache.capacity == 7 + count - 1  # it did not grow


def test_a_full_cache_fails_at_the_token_at_which_it_fails_without_guesses(always):
    model, ids, given = circle(), torch.tensor([[0, 1, 2, 3, 4, 5, 0]]), []
    for k in (0, 7):
        tokens, config = [], replace(GREEDY, guess_ahead=k)
        cache = make_cache(model, 1, 10, 10)
        steps = generate_stream(model, ids, config, kv_cache=cache)
        with pytest.raises(ValueError, match="the cache is full"):
            deque(map(tokens.append, (token.item() for token in steps)))
        given.append(tokens)
    assert given[0] == given[1]
    assert given[0] == [1, 2, 3, 4]


# --- where it is used
# --------------------------------------------------------------------------------------


def test_generate_the_logger_and_padding_work_as_without(always, caplog):
    model, records = small_model(), []
    ids = torch.tensor([[0, 0, 5, 6, 5, 6, 5]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    logger = logging.getLogger("guessing")
    for k in (0, 7):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "guessing"):
            out = generate(
                model, ids, model.config, CPU, replace(GREEDY, guess_ahead=k), [7],
                logger, attention_mask=mask,
            )  # fmt: skip
        records.append((out.tolist(), caplog.messages))
    assert records[0] == records[1]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_and_other_caches_are_decoded_token_by_token(always, rows):
    model, fed = small_model(), []
    model.embed_tokens.register_forward_pre_hook(
        lambda _, args: fed.append(args[0].shape[1])
    )
    ids = torch.tensor([[1, 2] * 4] * rows)
    if rows == 2:
        new_ids = list(generate_stream(model, ids, GREEDY))
    else:
        new_ids = list(generate_stream(model, ids, GREEDY, kv_cache=ListCache()))
    assert len(new_ids) == 40
    assert fed == [8] + [1] * 39
    fed.clear()
    list(generate_stream(model, ids, replace(GREEDY, use_cache=False)))
    assert fed == [8 + i for i in range(40)]


def test_a_conversation_left_in_the_middle_goes_on_as_without(always):
    model, replies = small_model(), []
    for k in (0, 7):
        talk, config = Conversation(model), replace(GREEDY, guess_ahead=k)
        ids = [1, 2, 3, 1, 2, 3, 1, 2]
        for _ in range(4):
            for count, token in enumerate(talk.stream(ids, config)):
                ids.append(token)
                if count == 6:
                    break
            ids += [1, 2, 3]
        replies.append((ids, talk.reused))
    assert replies[0] == replies[1]


def test_an_interrupted_pass_leaves_the_cache_as_it_was(always, monkeypatch):
    model = circle()
    cache = make_cache(model)
    steps = generate_stream(
        model, torch.tensor([[0, 1, 2, 3, 4, 5, 0]]), GREEDY, kv_cache=cache
    )
    next(steps)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(KVCache, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert cache.length == 7


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["as built", "float32", "int8"])
def test_the_real_model_repeats_a_text_in_fewer_passes(smollm2, weights):
    model, tokenizer = smollm2
    if weights != "as built":
        model = prepare_for_inference(model, weights)
    request = "Repeat this text word for word:\n\n" + PASSAGE
    prompt = tokenizer.encode_chat([{"role": "user", "content": request}])
    ids, passes = torch.tensor([prompt]), []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    ours = new(model, ids, GREEDY)
    hook.remove()
    assert len(passes) <= 20
    assert ours == new(model, ids, replace(GREEDY, guess_ahead=0))
