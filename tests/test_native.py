"""The compiled forward pass, against models as built with the same weights."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.config import GenerationConfig, ModelConfig
from llm_course.engine import (
    FusedModel,
    NativeModel,
    generate,
    make_cache,
    native,
    pack,
    prefill,
    prepare_for_inference,
    step,
)
from llm_course.engine.quantize import WEIGHTS
from llm_course.models import DecoderOnlyModel, build_decoder_only_model
from tests.helpers import CPU, random_ids, small_model
from tests.parity.configs import Case, rope_scalings

KINDS = tuple(WEIGHTS)
GREEDY = GenerationConfig(max_new_tokens=12, do_sample=False)


@st.composite
def cases(draw: st.DrawFn, lengths: st.SearchStrategy[int]) -> Case:
    """A shape that no group, tile or page divides, and a batch padded on the left."""
    num_kv_heads = draw(st.integers(1, 3))
    config = ModelConfig(
        vocab_size=draw(st.integers(20, 200)),
        hidden_dim=draw(st.integers(9, 130)),
        intermediate_dim=draw(st.integers(3, 200)),
        num_layers=draw(st.integers(1, 3)),
        num_heads=num_kv_heads * draw(st.integers(1, 4)),
        num_kv_heads=num_kv_heads,
        head_dim=draw(st.sampled_from([2, 4, 6, 16, 64, 80]) | st.integers(1, 40)) * 2,
        max_position_embeddings=64,
        rope_scaling=draw(rope_scalings(64)),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-3])),
        tie_word_embeddings=draw(st.booleans()),
        qkv_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
    )
    length = draw(lengths)
    pads = st.just(0) | st.integers(0, length - 1)
    padding = tuple(draw(pads) for _ in range(draw(st.integers(1, 3))))
    return Case(config, padding, length, draw(st.integers(0, 2**32 - 1)))


short = st.integers(1, 20)
# around a block of 96 queries, and a chunk of 256 keys
long = st.sampled_from([15, 16, 96, 97, 255, 257, 300])
any_case = cases(short | long)
derandomized = settings(max_examples=50, deadline=None, derandomize=True)


def built(case: Case) -> DecoderOnlyModel:
    """A model in which every part matters to the logits."""
    model = build_decoder_only_model(case.config, CPU).requires_grad_(False)
    for name, parameter in model.named_parameters():
        drawn = case.normal(*parameter.shape)
        if parameter.ndim == 1:
            drawn = 1 + 0.3 * drawn
        elif name != "embed_tokens.weight":
            drawn = 0.6 * drawn / parameter.shape[1] ** 0.5
        parameter.copy_(drawn)
    return model


def rounded(model: DecoderOnlyModel, weights: str) -> DecoderOnlyModel:
    """A model as built, with the numbers that packed matrices stand for."""
    copy = build_decoder_only_model(model.config, CPU).requires_grad_(False)
    copy.load_state_dict(model.state_dict())
    for name, parameter in copy.named_parameters():  # a tied head once
        if parameter.ndim == 2:
            layer_kind, head_kind = WEIGHTS[weights]
            kind = layer_kind if name.startswith("layers.") else head_kind
            packed = pack(parameter.numpy(), kind)
            parameter.copy_(torch.from_numpy(packed.rows(np.arange(len(parameter)))))
    return copy


def check(out: torch.Tensor, wanted: torch.Tensor, real: torch.Tensor) -> None:
    """Logits of real tokens agree, to rounding; those of padding are finite."""
    assert out.shape == wanted.shape
    assert out.isfinite().all()
    assert (out - wanted)[real].abs().max() <= 1e-4 * wanted.abs().max()


def tables(model: NativeModel) -> list[np.ndarray]:
    return [part for m in model.matrices.values() for part in (m.data, m.scales)]


@derandomized
@given(case=any_case, weights=st.sampled_from(KINDS), last=st.booleans())
def test_logits_are_those_of_a_model_with_the_same_weights(case, weights, last):
    plain = built(case)
    fast = prepare_for_inference(plain, weights)
    assert isinstance(fast, NativeModel)
    with torch.inference_mode():
        wanted = rounded(plain, weights)(case.ids, case.mask, last_only=last)
        out = fast(case.ids, case.mask, last_only=last)
    check(out, wanted, case.mask[:, -1:] if last else case.mask)


@derandomized
@given(case=any_case, last=st.booleans())
def test_fused_layers_give_the_logits_of_the_model_as_built(case, last):
    plain = built(case)
    with torch.inference_mode():
        wanted = plain(case.ids, case.mask, last_only=last)
        out = FusedModel(plain)(case.ids, case.mask, last_only=last)
    check(out, wanted, case.mask[:, -1:] if last else case.mask)


@derandomized
@given(case=any_case, weights=st.sampled_from(KINDS), data=st.data())
def test_every_split_of_a_prompt_gives_the_logits_of_the_whole(case, weights, data):
    plain = built(case)
    fast = prepare_for_inference(plain, weights)
    with torch.inference_mode():
        wanted = rounded(plain, weights)(case.ids, case.mask)
    cache = make_cache(fast, case.batch, capacity=data.draw(st.integers(1, 4)))
    parts, seen = [], 0
    while seen < case.length:
        size = data.draw(st.integers(1, case.length - seen) | st.just(1))
        size = case.length - seen if len(parts) > 9 else min(size, case.length - seen)
        ids, seen = case.ids[:, seen : seen + size], seen + size
        parts.append(fast(ids, case.mask[:, :seen], kv_cache=cache))
        assert cache.length == seen
    check(torch.cat(parts, dim=1), wanted, case.mask)


@pytest.mark.parametrize("length", [5, 40])
def test_positions_can_be_given(length):
    plain, ids = small_model(), random_ids(2, length)
    fast = prepare_for_inference(plain)
    for positions in (
        torch.arange(7, 7 + length)[None],
        torch.stack([torch.arange(length), 3 * torch.arange(length)]),
    ):
        with torch.inference_mode():
            wanted = plain(ids, position_ids=positions)
            torch.testing.assert_close(fast(ids, position_ids=positions), wanted)


@pytest.mark.parametrize("weights", KINDS)
def test_one_two_and_three_threads_give_the_same_logits(weights):
    """To the last bit: which thread takes a ticket does not change its work."""
    plain = small_model()
    models = [prepare_for_inference(plain, weights, threads=n) for n in (1, 2, 3)]
    mask = torch.arange(110) >= torch.tensor([0, 50])[:, None]
    for ids, seen in ((random_ids(1, 1), None), (random_ids(2, 110), mask)):
        first, *others = (model(ids, seen) for model in models)
        for other in others:
            assert torch.equal(other, first)


def test_work_is_finished_when_the_other_threads_never_come():
    class Alone:
        threads = 3

        def run(self, weights: step.Weights, p: step.Pass, held: object) -> None:
            signature = numba.typeof(weights), numba.typeof(p), numba.int64
            native.compiled_work(signature)(weights, p, 1)  # the second of three

    plain = small_model()
    fast = prepare_for_inference(plain)
    fast.workers = Alone()
    for length in (1, 5, 40):
        ids = random_ids(2, length)
        with torch.inference_mode():
            torch.testing.assert_close(fast(ids), plain(ids))


def test_two_threads_of_python_can_generate_at_once():
    models = [prepare_for_inference(small_model(seed), threads=2) for seed in (0, 1)]
    settings = replace(GREEDY, max_new_tokens=40)

    def tokens(i: int) -> torch.Tensor:
        ids = random_ids(1 + i, 9, seed=i)
        return generate(models[i % 2], ids, models[0].config, CPU, settings)

    wanted, found = [tokens(i) for i in range(4)], {}
    for _ in range(5):
        at_once = [
            threading.Thread(target=lambda i=i: found.update({i: tokens(i)}))
            for i in range(4)
        ]
        for thread in at_once:
            thread.start()
        for thread in at_once:
            thread.join()
        assert all(torch.equal(found.pop(i), wanted[i]) for i in range(4))


@pytest.mark.slow
def test_the_real_model_gives_the_same_tokens_in_each_way(smollm2):
    model, tokenizer = smollm2
    ids = torch.tensor([tokenizer.encode("The first thing a kernel does is")])
    ways = (model, FusedModel(model).eval(), prepare_for_inference(model))
    plain, fused, fast = (generate(m, ids, m.config, CPU, GREEDY) for m in ways)
    assert torch.equal(fused, plain)
    assert torch.equal(fast, plain)


def test_what_is_given_stays_as_it_is():
    plain = small_model()
    fast, ids = prepare_for_inference(plain, "q4_1"), random_ids(2, 5)
    before = [table.copy() for table in tables(fast)]
    cache, kept = make_cache(fast, 2, capacity=9), ids.clone()
    fast(ids, kv_cache=cache)
    held = [layer[:, :, :, :5].clone() for layer in cache.layers]
    first, again = (fast(ids, kv_cache=cache) for _ in range(2))  # grows on the way
    assert torch.equal(ids, kept)
    assert all(map(np.array_equal, tables(fast), before))
    assert all(
        torch.equal(a[:, :, :, :5], b) for a, b in zip(cache.layers, held, strict=True)
    )
    assert not torch.equal(first, again)  # the second has seen more


@pytest.mark.parametrize(
    ("mask", "taken"),
    [
        ([1, 1, 1, 1], True),
        ([0, 0, 1, 1], True),
        ([0, 1, 1, 0], True),  # a row that has ended, in a batch that goes on
        ([0, 0, 0, 0], True),  # a chunk of a prompt that is padding
        ([1, 0, 1, 1], False),
        ([0, 1, 0, 1], False),
    ],
)
def test_the_real_tokens_of_a_mask_are_in_one_piece(mask, taken):
    plain, ids, mask = small_model(), random_ids(2, 4), torch.tensor([[1] * 4, mask])
    fast = prepare_for_inference(plain)
    if not taken:
        with pytest.raises(ValueError, match=r"attention_mask hides .* as built"):
            fast(ids, mask)
        return
    with torch.inference_mode():
        check(fast(ids, mask), plain(ids, mask), mask.bool())


def test_an_interrupted_pass_leaves_no_trace():
    class Broken:
        threads = 1

        def run(self, weights: step.Weights, p: step.Pass, held: object) -> None:
            raise KeyboardInterrupt

    plain, ids = small_model(), random_ids(1, 9)
    fast = prepare_for_inference(plain, threads=1)
    cache, workers = make_cache(fast, capacity=4), fast.workers
    prefill(fast, ids[:, :4], cache)
    fast.workers = Broken()
    with pytest.raises(KeyboardInterrupt):
        prefill(fast, random_ids(1, 3, seed=9), cache)
    fast.workers = workers
    assert cache.length == 4
    with torch.inference_mode():
        torch.testing.assert_close(prefill(fast, ids[:, 4:], cache), plain(ids)[:, -1])


STILL_AT_WORK = """
import time, torch
from llm_course.engine.native import Workers
def free(me):
    for _ in range(200_000):
        torch.empty(4)
Workers(2).queues[0].put(free)
time.sleep(0.05)
"""


@pytest.mark.slow
def test_a_worker_that_frees_tensors_at_exit_does_not_abort_the_process():
    done = subprocess.run(
        [sys.executable, "-c", STILL_AT_WORK], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
