"""Many requests at once: what each gets is what it would get alone."""

from __future__ import annotations

import gc
import warnings
import weakref
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_course.config import GenerationConfig
from llm_course.engine import (
    Engine,
    Request,
    cache_bytes,
    generate,
    prepare_for_inference,
)
from llm_course.engine.request import StopStrings, Usage
from llm_course.models import DecoderOnlyModel
from tests.batch_tools import alone, check_scheduler, watched
from tests.helpers import CPU, random_ids, small_model

GREEDY = GenerationConfig(max_new_tokens=6, do_sample=False)
DRAWN = GenerationConfig(max_new_tokens=8, temperature=1.2, top_k=20, seed=7)
derandomized = settings(max_examples=30, deadline=None, derandomize=True)


@lru_cache
def model_of(kind: str) -> DecoderOnlyModel:
    model = small_model()
    return prepare_for_inference(model) if kind == "compiled" else model


each_kind = pytest.mark.parametrize("kind", ["as built", "compiled"])


def engine_of(
    model: DecoderOnlyModel, pages: int = 40, size: int = 4, **options: object
) -> Engine:
    budget = pages * cache_bytes(model.config, size)
    return watched(Engine(model, budget=budget, page_size=size, **options))


def prompt(length: int, seed: int = 1) -> list[int]:
    return random_ids(length, seed=seed).tolist()


class Letters:
    """A tokenizer of one letter an id; an id that is a multiple of 3 has two."""

    vocab_size = 96

    def text_decoder(self, skip_special_tokens: bool = False) -> Letters:
        return self

    def push(self, token_id: int) -> str:
        return chr(97 + token_id % 26) * (1 + (token_id % 3 == 0))

    def finish(self) -> str:
        return ""

    def text(self, ids: list[int]) -> str:
        return "".join(map(self.push, ids))


@dataclass(frozen=True)
class Arrival:
    """A request of a trace: when it comes, and after how many steps it is aborted."""

    step: int
    prompt: list[int]
    new: int
    n: int
    abort: int | None


@st.composite
def arrivals(draw: st.DrawFn) -> Arrival:
    beginning = prompt(draw(st.integers(0, 12)), seed=draw(st.integers(1, 2)))
    return Arrival(
        draw(st.integers(0, 12)),
        beginning + draw(st.lists(st.integers(0, 95), min_size=1, max_size=8)),
        draw(st.integers(1, 8)),
        draw(st.sampled_from([1, 1, 1, 2, 3])),
        draw(st.sampled_from([None, None, None, 0, 1, 3, 6])),
    )


@each_kind
@derandomized
@given(
    st.lists(arrivals(), min_size=1, max_size=7),
    st.sampled_from([2, 3, 4]),
    st.integers(0, 8),
    st.integers(3, 5),
    st.integers(0, 6),
    st.sampled_from([(), (5, 17, 80, *range(30, 45))]),
)
def test_greedy_tokens_are_those_of_generate_alone(
    kind, trace, size, more_pages, rows, more_tokens, eos
):
    model = model_of(kind)
    pages = -(-28 // size) + more_pages  # the longest row fits, and little beside it
    engine = engine_of(
        model, pages, size, max_rows=rows, max_step_tokens=rows + more_tokens
    )
    handles = {}
    for now in range(400):
        for i, arrival in enumerate(trace):
            if arrival.step == now:
                config = replace(GREEDY, max_new_tokens=arrival.new)
                request = Request(arrival.prompt, config, eos, n=arrival.n)
                handles[i] = engine.add(request)
            if arrival.abort is not None and arrival.step + arrival.abort == now:
                engine.abort(handles[i].id)
        engine.step()
        check_scheduler(engine.scheduler)
        if engine.idle and now > 12:
            break
    assert engine.cache.used == 0
    assert not engine.scheduler.waiting
    for i, arrival in enumerate(trace):
        config = replace(GREEDY, max_new_tokens=arrival.new)
        wanted = alone(model, arrival.prompt, config, eos)
        for choice in handles[i].choices:
            if choice.finish_reason == "abort":
                assert choice.token_ids == wanted[: len(choice.token_ids)]
                assert arrival.abort is not None
            else:
                assert choice.token_ids == wanted
                ended = wanted[-1] in eos
                assert choice.finish_reason == ("stop" if ended else "length")


@each_kind
def test_settings_and_seeds_are_those_of_the_row(kind):
    model = model_of(kind)
    engine = engine_of(model, max_rows=5)
    configs = [
        DRAWN,
        GREEDY,
        replace(DRAWN, temperature=0.6, seed=3, top_p=0.8),
        replace(GREEDY, repetition_penalty=2.5),
        replace(DRAWN, min_p=0.05, top_k=None, repetition_penalty=1.3),
    ]
    prompts = [prompt(5 + 3 * i, seed=i) for i in range(5)]
    handles = [engine.add(Request(p, c)) for p, c in zip(prompts, configs, strict=True)]
    engine.run()
    for handle, ids, config in zip(handles, prompts, configs, strict=True):
        assert handle.choices[0].token_ids == alone(model, ids, config)


@each_kind
def test_several_continuations_share_the_pages_of_the_prompt(kind):
    engine = engine_of(model_of(kind), size=4)
    ids = prompt(10)
    handle = engine.add(Request(ids, DRAWN, n=3))
    deltas = engine.step()
    assert [delta.index for delta in deltas] == [0, 1, 2]
    assert engine.cache.used == 3  # once, for all
    engine.step()
    assert engine.cache.used == 5  # the third page is written in by each
    engine.run()
    assert handle.usage == Usage(10, 24, 0)
    for i, choice in enumerate(handle.choices):
        assert choice.token_ids == alone(
            engine.model, ids, replace(DRAWN, seed=DRAWN.seed + i)
        )
    assert len({tuple(choice.token_ids) for choice in handle.choices}) == 3


@each_kind
def test_a_beginning_that_is_known_is_not_computed_again(kind):
    engine = engine_of(model_of(kind), size=4)
    ids = prompt(10)
    engine.add(Request(ids, GREEDY))
    engine.run()
    second, third = (engine.add(Request(p, GREEDY)) for p in (ids, [*ids[:5], 9, 9]))
    engine.step()
    assert engine.cache.used == 3 + 1
    engine.run()
    assert second.usage.cached_tokens == 8
    assert third.usage.cached_tokens == 4
    assert second.choices[0].token_ids == alone(engine.model, ids, GREEDY)
    assert third.choices[0].token_ids == alone(engine.model, [*ids[:5], 9, 9], GREEDY)
    metrics = engine.metrics()
    assert metrics["prefix_cache_hits_total"] == 12
    assert metrics["prefix_cache_queries_total"] == metrics["prompt_tokens_total"] == 27


@each_kind
def test_rows_that_gave_up_their_pages_lose_nothing(kind):
    model = model_of(kind)
    engine = engine_of(model, pages=7, size=4, max_rows=4)
    config = replace(DRAWN, max_new_tokens=16)
    prompts = [prompt(7, seed=i) for i in range(4)]
    handles = [engine.add(Request(p, config)) for p in prompts]
    engine.run()
    assert engine.metrics()["num_preemptions_total"] > 0
    for handle, ids in zip(handles, prompts, strict=True):
        assert handle.choices[0].token_ids == alone(model, ids, config)


def test_a_long_prompt_lets_the_others_generate():
    engine = engine_of(model_of("as built"), max_rows=2, max_step_tokens=6)
    first = engine.add(Request(prompt(4), replace(GREEDY, max_new_tokens=20)))
    engine.step()
    second = engine.add(Request(prompt(30, seed=2), GREEDY))
    for _ in range(5):
        (delta,) = engine.step()
        assert delta.request_id == first.id
    assert [delta.request_id for delta in engine.step()] == [first.id, second.id]


def test_log_probabilities_are_those_of_the_model_before_the_filters():
    engine = engine_of(model_of("as built"))
    ids, config = prompt(6), replace(DRAWN, repetition_penalty=1.5)
    handle = engine.add(Request(ids, config, logprobs=3))
    chosen_only = engine.add(Request(ids, config, logprobs=0))
    deltas = list(engine.stream(handle.id))
    choice = handle.choices[0]
    whole = torch.tensor([ids + choice.token_ids])
    with torch.no_grad():
        wanted = engine.model(whole).log_softmax(-1)[0, len(ids) - 1 : -1]
    assert [d.logprobs for d in deltas] == [[x] for x in choice.logprobs]
    for line, token, found in zip(
        wanted, choice.token_ids, choice.logprobs, strict=True
    ):
        assert found.token_id == token
        assert found.logprob == pytest.approx(float(line[token]), abs=1e-4)
        values, top = line.topk(3)
        assert [i for i, _ in found.top] == top.tolist()
        assert [p for _, p in found.top] == pytest.approx(values.tolist(), abs=1e-4)
    engine.run()
    assert [x.top for x in chosen_only.choices[0].logprobs] == [()] * 8


@derandomized
@given(
    st.lists(st.text("ab", max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
@example(["a", "a"], ["ab"])  # held back, and not needed
@example(["abb"], ["bb", "ab"])  # two at once
def test_text_ends_before_the_first_stop_string(pieces, stop):
    stops, shown, sent = StopStrings(stop), "", ""
    for piece in pieces:
        shown += stops.push(piece)
        sent += piece
        places = [sent.find(s) for s in stop if s in sent]
        assert stops.found == bool(places)
        if places:
            assert shown == sent[: min(places)]
            return
        # what is held back may be the beginning of a stop string, and the rest is not
        assert shown + stops.held == sent
        tails = [k for s in stop for k in range(1, len(s)) if sent.endswith(s[:k])]
        assert len(stops.held) == max(tails, default=0)


def test_a_stop_string_may_begin_in_one_token_and_end_in_another():
    model, text = model_of("as built"), Letters()
    ids, config = prompt(5), replace(GREEDY, max_new_tokens=12)
    tokens = alone(model, ids, config)
    whole = text.text(tokens)
    at = len(text.text(tokens[:6])) - 1
    stop = whole[at : at + 3]  # the last letter of token 5, and what follows
    engine = Engine(model, text, budget=2**20)
    stopped = engine.add(Request(ids, config, stop=["~", stop]))
    free = engine.add(Request(ids, config, stop=["~", whole[-1] + "~"]))
    deltas = [*engine.stream(stopped.id)]
    assert stopped.choices[0].text == whole[: whole.find(stop)]
    assert stopped.choices[0].finish_reason == "stop"
    assert "".join(d.text for d in deltas) == stopped.choices[0].text
    engine.run()
    assert free.choices[0].text == whole  # what was held back is given at the end
    assert free.choices[0].token_ids == tokens


def test_the_id_that_ends_a_text_is_no_part_of_it():
    model, text = model_of("as built"), Letters()
    tokens = alone(model, prompt(5), GREEDY)
    engine = Engine(model, text, budget=2**20)
    last = next(i for i in range(6) if tokens[i] not in tokens[:i] and i > 0)
    handle = engine.add(Request(prompt(5), GREEDY, eos_ids=[tokens[last]]))
    engine.run()
    assert handle.choices[0].token_ids == tokens[: last + 1]
    assert handle.choices[0].text == text.text(tokens[:last])
    assert handle.choices[0].finish_reason == "stop"
    assert handle.usage.completion_tokens == last + 1


def test_an_aborted_request_gives_its_pages_back_at_once():
    engine = engine_of(model_of("as built"))
    stays = engine.add(Request(prompt(9, seed=2), GREEDY))
    goes = engine.add(Request(prompt(9), GREEDY, n=3))
    for _ in range(2):
        engine.step()
    engine.abort(goes.id)
    check_scheduler(engine.scheduler)
    assert [row.order[0] for row in engine.scheduler.running] == [stays.id]
    assert {choice.finish_reason for choice in goes.choices} == {"abort"}
    assert goes.finished
    engine.abort(goes.id)  # nothing is left to abort
    engine.run()
    assert stays.choices[0].token_ids == alone(engine.model, prompt(9, seed=2), GREEDY)
    assert engine.ended == {"abort": 1, "length": 1}
    assert engine.cache.used == 0


def test_streams_of_two_requests_and_one_that_is_left():
    engine = engine_of(model_of("as built"))
    first, second = (engine.add(Request(prompt(5, seed=i), GREEDY)) for i in (1, 2))
    for delta in engine.stream(first.id):
        assert delta.token_ids == first.choices[0].token_ids[:1]
        break
    assert first.choices[0].finish_reason == "abort"
    tokens = [i for delta in engine.stream(second.id) for i in delta.token_ids]
    assert tokens == alone(engine.model, prompt(5, seed=2), GREEDY)
    assert [d.token_ids for d in engine.stream(second.id)] == [tokens]  # afterwards too
    with pytest.raises(KeyError):
        next(engine.stream(99))


def test_an_engine_keeps_nothing_of_what_has_ended():
    engine = engine_of(model_of("as built"))
    handle = engine.add(Request(prompt(5), GREEDY))
    engine.run()
    gone = weakref.ref(handle)
    del handle
    gc.collect()
    assert gone() is None
    assert len(engine.handles) == 0


def test_times_are_those_of_the_clock():
    times = iter(range(100))
    engine = Engine(model_of("as built"), budget=2**20, clock=lambda: next(times))
    handle = engine.add(Request(prompt(5), GREEDY))
    assert handle.started is handle.first_token is handle.ended is None
    engine.run()
    assert handle.arrived < handle.started < handle.first_token < handle.ended


def test_the_gauges_of_a_moment():
    engine = engine_of(model_of("as built"), max_rows=2, pages=40)
    for seed in range(3):
        engine.add(Request(prompt(9, seed=seed), GREEDY))
    assert engine.metrics()["num_requests_waiting"] == 3
    engine.step()
    found = engine.metrics()
    assert (found["num_requests_running"], found["num_requests_waiting"]) == (2, 1)
    assert found["kv_cache_usage_perc"] == 6 / 40
    assert found["generation_tokens_total"] == 2
    engine.run()
    found = engine.metrics()
    assert found["generation_tokens_total"] == 18
    assert found["request_success_total"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": []}, "empty prompt"),
        ({"prompt": [96]}, "prompt = 96: ids are whole numbers from 0 to 95"),
        ({"prompt": [-1]}, "prompt = -1: ids are"),
        ({"prompt": [1.5]}, "prompt = 1.5: ids are"),
        ({"n": 0}, "n = 0: must be from 1 to 16"),
        ({"n": 17}, "n = 17"),
        ({"stop": ["x"]}, "stop strings need a tokenizer"),
        ({"eos_ids": [96]}, "eos_ids = .*96"),
        ({"logprobs": -1}, "logprobs = -1: must be None, or from 0 to 96"),
        ({"logprobs": 97}, "logprobs = 97"),
        ({"config": GenerationConfig(max_new_tokens=57)}, "61 tokens .* for 60"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(changes, message):
    engine = engine_of(model_of("as built"), pages=15)
    with pytest.raises(ValueError, match=message):
        engine.add(replace(Request(prompt(5), GREEDY), **changes))
    assert engine.idle
    engine.add(Request(prompt(5), GenerationConfig(max_new_tokens=56)))


@each_kind
def test_more_tokens_than_the_model_was_trained_for_are_warned_of(kind):
    engine = engine_of(model_of(kind), pages=40)  # the model has 64 positions
    with pytest.warns(UserWarning, match="more than the 64 positions"):
        engine.add(Request(prompt(59), GREEDY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.add(Request(prompt(58), GREEDY))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_end_their_own_request_alone(bad):
    engine = engine_of(model_of("as built"), size=4)
    prompts = [prompt(9, seed=i) for i in range(3)]
    found = [
        engine.add(Request(ids, config, n=n))
        for ids, config, n in zip(
            prompts, (GREEDY, DRAWN, DRAWN), (1, 3, 1), strict=True
        )
    ]
    logits = engine.logits

    def damaged(model, cache, plan):
        right = logits(model, cache, plan)
        for i, (row, _) in enumerate(plan):
            if row.order == (1, 2) and len(row.choice.token_ids) == 3:
                right[i] = bad
        return right

    engine.logits = damaged
    while len(found[1].choices[2].token_ids) < 3:
        engine.step()
    deltas = engine.step()
    check_scheduler(engine.scheduler)
    ends = {(d.request_id, d.index) for d in deltas if d.finish_reason == "error"}
    assert ends == {(1, 0), (1, 1), (1, 2)}
    assert {(d.request_id, d.index) for d in deltas} - ends == {(0, 0), (2, 0)}
    assert not any(d.token_ids or d.text for d in deltas if d.finish_reason)
    engine.run()
    for i in (0, 2):
        config = found[i].request.config
        assert found[i].choices[0].token_ids == alone(engine.model, prompts[i], config)
    assert engine.ended == {"error": 1, "length": 2}
    assert engine.cache.used == 0


def test_a_penalty_that_overflows_ends_its_own_request_alone():
    engine = engine_of(model_of("as built"))
    tiny = replace(DRAWN, repetition_penalty=1e-45)
    bad, good = (engine.add(Request(prompt(9), config)) for config in (tiny, DRAWN))
    engine.run()
    assert bad.choices[0].finish_reason == "error"
    assert good.choices[0].token_ids == alone(engine.model, prompt(9), DRAWN)


def test_ids_beyond_the_tokenizers_are_chosen_by_nobody():
    model, text = model_of("as built"), Letters()
    text.vocab_size = 7
    configs = (GREEDY, replace(GREEDY, repetition_penalty=1.5), DRAWN)
    engine = Engine(model, text, budget=2**20)
    found = [engine.add(Request(prompt(9), config)) for config in configs]
    engine.run()
    for handle, config in zip(found, configs, strict=True):
        ids, model_config = torch.tensor([prompt(9)]), model.config
        wanted = generate(model, ids, model_config, CPU, config, vocab_size=7)
        assert handle.choices[0].token_ids == wanted[0, 9:].tolist()


def test_an_empty_stop_string_and_a_budget_below_a_page_are_refused():
    engine = Engine(model_of("as built"), Letters(), budget=2**20)
    with pytest.raises(ValueError, match="at least one character"):
        engine.add(Request([1], stop=["a", ""]))
    with pytest.raises(ValueError, match=r"budget = 100: a page of 16 tokens"):
        Engine(model_of("as built"), budget=100)


@pytest.mark.slow
def test_a_thousand_requests_leave_nothing_behind():
    engine = engine_of(model_of("compiled"), pages=30, max_rows=6, max_step_tokens=24)
    draw = torch.Generator().manual_seed(0)
    waiting = []
    for i in range(1000):
        length, new, fate = torch.randint(1, 25, (3,), generator=draw).tolist()
        config = GenerationConfig(max_new_tokens=new, seed=i)
        handle = engine.add(Request(prompt(length, seed=i % 7), config, n=1 + i % 3))
        waiting.append((handle, fate))
        for _ in range(2):
            engine.step()
        for handle, fate in waiting:
            if fate < 8 and len(handle.choices[0].token_ids) >= fate:
                engine.abort(handle.id)
        waiting = [(h, fate) for h, fate in waiting if not h.finished]
    engine.run()
    check_scheduler(engine.scheduler)
    assert engine.cache.used == 0
    assert engine.metrics()["num_preemptions_total"] > 0
    assert engine.ended["abort"] > 100
    assert sum(engine.ended.values()) == 1000
    waiting.clear()
    del handle
    gc.collect()
    assert len(engine.handles) == 0
