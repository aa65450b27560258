"""Prefill, decode, conversations and models prepared for inference, against the loop
that recomputes all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.config import EngineConfig, GenerationConfig
from llm_course.engine import (
    Conversation,
    FusedModel,
    KVCache,
    decode,
    generate,
    make_cache,
    prefill,
    prepare_for_inference,
)
from llm_course.engine.conversation import shared_prefix
from llm_course.models import build_decoder_only_model, capture_attention
from tests.conftest import WAYS
from tests.helpers import CPU, ListCache, random_ids, small_config, small_model
from tests.parity.configs import Case, cases

GREEDY = GenerationConfig(max_new_tokens=12, do_sample=False)
UNCACHED = replace(GREEDY, use_cache=False)


def models():
    """A model as built, and fused from it."""
    plain = small_model()
    return plain, FusedModel(plain).eval()


def counted(model) -> list[tuple[int, int]]:
    """The shape of the ids of each forward from now on."""
    fed: list[tuple[int, int]] = []
    model.register_forward_pre_hook(lambda _, args: fed.append(tuple(args[0].shape)))
    return fed


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=cases(), data=st.data())
def test_every_split_of_a_prompt_gives_the_logits_of_the_whole(case: Case, data):
    """Any shape of model, ragged batches, each way to run; chunks of any sizes."""
    torch.manual_seed(case.seed)
    plain = build_decoder_only_model(case.config, CPU)
    model = data.draw(st.sampled_from(list(WAYS.values())))(plain)
    mask = data.draw(
        st.sampled_from([case.mask, case.mask.long()] if any(case.padding) else [None])
    )
    cache = make_cache(model, case.batch, capacity=data.draw(st.integers(1, 4)))
    with torch.inference_mode():
        whole = plain(case.ids, mask)  # [B, S, V]
    scale, seen = whole.abs().max(), 0
    while seen < case.length:
        size = data.draw(st.integers(1, case.length - seen))
        chunk = data.draw(st.sampled_from([None, 1, 2, 5]))
        part = case.ids[:, seen : seen + size]
        seen += size
        covered = None if mask is None else mask[:, :seen]
        logits = prefill(model, part, cache, covered, chunk_size=chunk)
        assert cache.length == seen
        real = case.mask[:, seen - 1]
        wrong = (logits - whole[:, seen - 1])[real].abs() > 1e-5 * scale
        assert not wrong.any()


@pytest.mark.parametrize("padding", [(0,), (3,), (0, 3, 5)])
def test_cached_tokens_are_the_uncached_ones_in_ragged_batches(padding, prepare):
    plain = small_model()
    ids = random_ids(len(padding), 7)
    mask = torch.arange(7) >= torch.tensor(padding)[:, None]
    model = prepare(plain)
    wanted = generate(plain, ids, plain.config, CPU, UNCACHED, attention_mask=mask)
    assert torch.equal(
        generate(model, ids, plain.config, CPU, GREEDY, attention_mask=mask), wanted
    )
    # Rows that end early: the first row's third token ends a row.
    eos = int(wanted[0, 9])
    wanted = generate(plain, ids, plain.config, CPU, UNCACHED, eos, attention_mask=mask)
    assert torch.equal(
        generate(model, ids, plain.config, CPU, GREEDY, eos, attention_mask=mask),
        wanted,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [GREEDY, replace(GREEDY, do_sample=True, seed=3, top_k=0)]
)
def test_the_real_model_cached_and_prepared_gives_the_same_tokens(
    smollm2, settings, prepare
):
    model, tokenizer = smollm2
    ids = torch.tensor([tokenizer.encode("I opened the door and saw a")])
    wanted = generate(model, ids, model.config, CPU, replace(settings, use_cache=False))
    assert torch.equal(
        generate(prepare(model), ids, model.config, CPU, settings), wanted
    )


def test_n_tokens_cost_one_prefill_and_n_minus_1_steps(prepare):
    model = prepare(small_model())
    fed = counted(model)
    generate(model, random_ids(2, 7), model.config, CPU, GREEDY)
    assert fed == [(2, 7)] + [(2, 1)] * 11


def test_prefill_in_chunks_feeds_each_token_once(prepare):
    model = prepare(small_model())
    fed = counted(model)
    prefill(model, random_ids(1, 10), make_cache(model), chunk_size=4)
    assert fed == [(1, 4), (1, 4), (1, 2)]


def test_only_the_last_position_passes_through_the_head():
    for model in models():
        rows = []
        model.lm_head.register_forward_pre_hook(
            lambda _, args, rows=rows: rows.append(args[0].shape)
        )
        cache = make_cache(model)
        assert prefill(model, random_ids(1, 10), cache).shape == (1, 96)
        assert decode(model, random_ids(1, 1), cache).shape == (1, 96)
        assert [shape[1] for shape in rows] == [1, 1]


def test_bad_requests_are_refused_and_leave_the_cache_as_it_was(prepare):
    model = prepare(small_model())
    cache = make_cache(model)
    prefill(model, random_ids(1, 4), cache)
    with pytest.raises(ValueError, match="chunk_size = 0"):
        prefill(model, random_ids(1, 4), cache, chunk_size=0)
    with pytest.raises(ValueError, match=r"shape \[1, 2\]: must be \[B, 1\]"):
        decode(model, random_ids(1, 2), cache)
    with pytest.raises(ValueError, match="at least one token"):
        prefill(model, random_ids(1, 0), cache)
    with pytest.raises(ValueError, match=r"must be \[1, 5\]"):
        decode(model, random_ids(1, 1), cache, torch.ones(1, 4))
    with pytest.raises(ValueError, match="rows"):
        prefill(model, random_ids(2, 3), cache)
    assert cache.length == 4
    two_rows = make_cache(model, batch_size=2)
    with pytest.raises(ValueError, match="rows"):
        decode(model, random_ids(1, 1), two_rows)
    assert two_rows.length == 0


def test_a_cache_of_another_class_may_keep_what_it_is_given(prepare_modules):
    plain = small_model()
    model = prepare_modules(plain)
    ids, cache = random_ids(1, 6), ListCache()  # holds k and v themselves at first
    for i in range(6):
        logits = decode(model, ids[:, i : i + 1], cache)
    with torch.inference_mode():
        torch.testing.assert_close(logits, plain(ids)[:, -1])


def test_a_cache_with_an_update_of_its_own_is_updated(prepare_modules):
    class Counted(KVCache):
        updates = 0

        def update(self, layer_idx, k, v):
            self.updates += 1
            return super().update(layer_idx, k, v)

    model = prepare_modules(small_model())
    cache = Counted(model.config)
    decode(model, random_ids(1, 1), cache)
    assert cache.updates == 2


def test_a_cache_that_does_not_fit_one_row_is_refused(prepare):
    model, token = prepare(small_model()), random_ids(1, 1)
    wide = make_cache(model, batch_size=2)
    with pytest.raises(ValueError, match="the cache has 2 rows, the text 1"):
        decode(model, token, wide)
    wide.layers = []
    with pytest.raises(ValueError, match="was freed"):
        decode(model, token, wide)
    full = make_cache(model, capacity=1, max_length=1)
    decode(model, token, full)
    with pytest.raises(ValueError, match="the cache is full"):
        decode(model, token, full)
    assert full.length == 1


@pytest.mark.parametrize("pads", [0, 2])
def test_the_last_layer_works_on_the_last_position_where_no_other_is_wanted(pads):
    plain, fast = models()
    ids, mask = random_ids(3, 6), torch.ones(3, 6)
    mask[0, :pads] = 0
    with torch.inference_mode(), capture_attention(fast) as seen:
        last = fast(ids, mask, last_only=True)
        torch.testing.assert_close(last, plain(ids, mask)[:, -1:])
    assert [seen[i].shape[2] for i in (0, 1)] == [6, 1]
    with torch.inference_mode():
        torch.testing.assert_close(
            fast(ids, mask)[mask > 0], plain(ids, mask)[mask > 0]
        )


def test_a_model_prepared_in_bfloat16_is_in_step_too():
    torch.manual_seed(0)
    plain = build_decoder_only_model(
        small_config(), EngineConfig(device="cpu", dtype="bfloat16")
    )
    ids = random_ids(2, 9)
    with torch.inference_mode():
        fast = prepare_for_inference(plain)
        wanted, out = plain(ids), fast(ids)
    assert isinstance(fast, FusedModel)
    assert out.dtype == torch.bfloat16
    assert (out - wanted).abs().max() <= 2e-2 * wanted.abs().max()


def test_hidden_states_that_are_given_to_the_layers_stay_as_they_are(prepare_modules):
    model, x = prepare_modules(small_model()), torch.randn(1, 3, 64)
    kept = x.clone()
    with torch.inference_mode():
        model.run_layers(x, None, torch.arange(3)[None], None, False)
    assert torch.equal(x, kept)


def test_preparing_leaves_the_model_as_it_is(prepare):
    plain = small_model()
    state = {name: (p.data_ptr(), p.clone()) for name, p in plain.named_parameters()}
    fast = prepare(plain)
    fast(random_ids(1, 3))
    if isinstance(fast, FusedModel):
        fast.bfloat16()
    for name, parameter in plain.named_parameters():
        pointer, value = state[name]
        assert parameter.data_ptr() == pointer
        assert torch.equal(parameter, value)
        assert parameter.requires_grad


def test_preparing_shares_what_it_does_not_fuse():
    plain, fast = models()
    shared = {p.data_ptr() for p in plain.parameters()} & {
        p.data_ptr() for p in fast.parameters()
    }
    # embedding, head and last norm; in each of two layers o, down and two norms
    assert len(shared) == 3 + 2 * 4


def test_maps_of_a_fused_model_are_those_of_the_model():
    maps = []
    for model in models():
        with torch.inference_mode(), capture_attention(model) as seen:
            cache = make_cache(model)
            prefill(model, random_ids(1, 6), cache)
            decode(model, random_ids(1, 1), cache)
        maps.append(seen)
    assert maps[0][1].shape == (1, 8, 1, 7)
    for layer_idx in (0, 1):
        torch.testing.assert_close(maps[1][layer_idx], maps[0][layer_idx])


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        ([], [], 0),
        ([1, 2], [1, 2], 2),
        ([1, 2, 3], [1, 2], 2),
        ([1, 5, 3], [1, 2, 3], 1),
        ([1], [2], 0),
    ],
)
def test_shared_prefix(a, b, length):
    assert shared_prefix(a, b) == shared_prefix(b, a) == length


def test_the_next_turn_feeds_only_what_is_new(prepare):
    plain = small_model()
    fast = prepare(plain)
    talk, fed = Conversation(fast), counted(fast)
    prompt = random_ids(1, 6)[0].tolist()
    first = list(talk.stream(prompt, GREEDY))
    assert fed == [(1, 6)] + [(1, 1)] * 11
    fed.clear()
    turn = prompt + first + [3, 4, 5]
    second = list(talk.stream(turn, GREEDY))
    # The last token of a reply was never fed: nothing came after it.
    assert fed[0] == (1, 4)
    wanted = generate(plain, torch.tensor([turn]), plain.config, CPU, UNCACHED)
    assert second == wanted[0, len(turn) :].tolist()


@given(data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_sequence_of_turns_equals_starting_afresh(data):
    """Edited, shortened, repeated and interrupted turns."""
    plain = small_model()
    talk = Conversation(data.draw(st.sampled_from(list(WAYS.values())))(plain))
    few = replace(GREEDY, max_new_tokens=5)
    turn: list[int] = []
    for _ in range(data.draw(st.integers(1, 4))):
        keep = data.draw(st.integers(0, len(turn)))
        turn = turn[:keep] + data.draw(
            st.lists(st.integers(0, 95), min_size=1, max_size=6)
        )
        stop = data.draw(st.integers(1, 5))
        new = [
            token for token, _ in zip(talk.stream(turn, few), range(stop), strict=False)
        ]
        wanted = generate(
            plain,
            torch.tensor([turn]),
            plain.config,
            CPU,
            replace(few, use_cache=False),
        )
        assert new == wanted[0, len(turn) :].tolist()[:stop]
        turn = turn + new
