"""A cache knows whose tokens it holds, and refuses those of another."""

from __future__ import annotations

import threading

import pytest
import torch

from llm_course.config import GenerationConfig
from llm_course.engine import (
    Conversation,
    generate,
    generate_stream,
    make_cache,
    prefill,
)
from llm_course.engine.inference import decode
from tests.helpers import CPU, random_ids, small_model

GREEDY = GenerationConfig(max_new_tokens=4, do_sample=False)


def run(model, ids, **options):
    return generate(model, ids, model.config, CPU, GREEDY, **options)


def filled(model, ids, **options):
    cache = make_cache(model, len(ids))
    prefill(model, ids, cache, **options)
    return cache


def test_a_cache_of_another_text_is_refused(prepare):
    model, ids = prepare(small_model()), random_ids(2, 6)
    other = ids.clone()
    other[1, 2] = (other[1, 2] + 1) % 96
    longer = torch.cat([other, ids], dim=1)
    with pytest.raises(ValueError, match="another text"):
        run(model, longer, kv_cache=filled(model, ids))
    padded = torch.ones_like(longer)
    padded[0, :2] = 0
    same = torch.cat([ids, ids], dim=1)
    with pytest.raises(ValueError, match="another text"):  # pads were real tokens
        run(model, same, attention_mask=padded, kv_cache=filled(model, ids))
    right = run(model, same)
    assert torch.equal(run(model, same, kv_cache=filled(model, ids)), right)


def test_a_cache_with_nothing_left_to_feed_is_refused(prepare):
    model, ids = prepare(small_model()), random_ids(1, 6)
    with pytest.raises(ValueError, match="holds 6 tokens and the text has 6"):
        run(model, ids, kv_cache=filled(model, ids))


@pytest.mark.parametrize(
    "changes", [{"num_layers": 1}, {"num_layers": 3}, {"num_kv_heads": 4}]
)
def test_a_cache_of_another_shape_is_refused(prepare, changes):
    model, other = prepare(small_model()), small_model(**changes)
    ids = random_ids(1, 4)
    with pytest.raises(ValueError, match=f"{next(iter(changes))} = .*make_cache"):
        run(model, ids, kv_cache=make_cache(other))
    if changes == {"num_layers": 1}:
        with pytest.raises(ValueError, match="a cache of 1 layers"):
            small_model()(ids, kv_cache=make_cache(other))


def test_a_cache_of_another_model_of_the_same_shape_is_refused(prepare):
    model, other = prepare(small_model()), prepare(small_model(seed=1))
    ids = random_ids(1, 6)
    cache = filled(other, ids[:, :4])
    for use in (
        lambda: run(model, ids, kv_cache=cache),
        lambda: decode(model, ids[:, :1], cache),
    ):
        with pytest.raises(ValueError, match="another model"):
            use()
    cache.reset()
    assert torch.equal(run(model, ids, kv_cache=cache), run(model, ids))


def test_a_prepared_copy_may_go_on_where_the_model_stopped(prepare):
    model, ids = small_model(), random_ids(1, 6)
    cache = filled(model, ids[:, :5])
    assert torch.equal(run(prepare(model), ids, kv_cache=cache), run(model, ids))


def test_another_batch_is_refused(prepare):
    model = prepare(small_model())
    with pytest.raises(ValueError, match="the cache has 2 rows, the text 3"):
        run(model, random_ids(3, 4), kv_cache=make_cache(model, 2))


def test_tokens_fed_by_hand_are_unknown_and_allowed(prepare):
    model, ids = prepare(small_model()), random_ids(1, 8)
    cache = make_cache(model)
    with torch.inference_mode():
        model(ids[:, :3], kv_cache=cache)
    assert cache.contents.ids.shape == (1, 0)
    assert torch.equal(run(model, ids, kv_cache=cache), run(model, ids))


def test_two_streams_of_one_conversation_do_not_mix(prepare):
    talk = Conversation(prepare(small_model()))
    first = talk.stream([1, 2, 3], GREEDY)
    next(first)
    second = list(talk.stream([1, 2, 9], GREEDY))
    with pytest.raises(ValueError, match="another stream of this conversation"):
        next(first)
    assert second == list(Conversation(talk.model).stream([1, 2, 9], GREEDY))


def test_two_loops_over_one_cache_do_not_mix(prepare):
    model, cache = prepare(small_model()), None
    cache = make_cache(model)
    first = generate_stream(model, random_ids(1, 4), GREEDY, kv_cache=cache)
    next(first)
    cache.reset()
    second = generate_stream(model, random_ids(1, 4, seed=5), GREEDY, kv_cache=cache)
    next(second)
    with pytest.raises(ValueError, match=r"another text"):
        list(first)


def test_a_second_thread_in_the_middle_of_a_pass_is_refused():
    model, cache = small_model(), make_cache(small_model())
    inside, go_on, found = threading.Event(), threading.Event(), []

    def wait(*_args):
        inside.set()
        go_on.wait(10)

    hook = model.layers[1].register_forward_pre_hook(wait)
    thread = threading.Thread(
        target=lambda: found.append(run(model, random_ids(1, 4), kv_cache=cache))
    )
    thread.start()
    inside.wait(10)
    hook.remove()
    try:
        for use in (lambda: run(model, random_ids(1, 4), kv_cache=cache), cache.reset):
            with pytest.raises(ValueError, match="another thread"):
                use()
    finally:
        go_on.set()
        thread.join(10)
    assert torch.equal(found[0], run(model, random_ids(1, 4)))


def test_a_pass_that_breaks_off_frees_the_cache():
    model, ids = small_model(), random_ids(1, 6)
    cache = filled(model, ids[:, :3])

    def interrupt(*_args):
        raise KeyboardInterrupt

    hook = model.layers[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(model, ids, kv_cache=cache)
    hook.remove()
    assert (cache.length, cache.contents.ids.shape) == (3, (1, 3))
    assert torch.equal(run(model, ids, kv_cache=cache), run(model, ids))
