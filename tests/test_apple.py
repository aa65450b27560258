"""Everything public runs on a device without float64, such as Apple's GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from llm_course.chat.session import Chat
from llm_course.config import EngineConfig, GenerationConfig
from llm_course.engine import (
    Conversation,
    FusedModel,
    generate,
    make_cache,
    prefill,
    prepare_for_inference,
    sample_next_token,
    top_p_filtering,
)
from llm_course.exercises import Exercise, judge, registry
from llm_course.exercises.compare import difference
from llm_course.models import build_decoder_only_model
from llm_course.models.attention import capture_attention
from llm_course.viz import sampling
from llm_course.viz.probe import record
from llm_course.widgets import AttentionExplorer, Playground
from tests.apple import OnApple, apple
from tests.helpers import random_ids, small_config, small_model
from tests.test_playground import Letters, say, write

SETTINGS = {
    "defaults": {},
    "greedy": {"do_sample": False},
    "cold": {"temperature": 1e-50},
    "every filter": {"top_k": 9, "top_p": 0.8, "min_p": 0.02, "temperature": 1.3},
    "penalty": {"repetition_penalty": 1.3, "top_p": 0.5},
    "no cache": {"use_cache": False},
}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with apple(monkeypatch):
        yield


def on_gpu() -> torch.nn.Module:
    """The model of `small_model`, on the GPU."""
    return small_model().to("mps")


def test_the_stand_in_refuses_what_the_device_refuses(gpu):
    x = torch.ones(3, device="mps")
    assert x.device.type == "mps"
    for refused in (
        x.double,
        lambda: torch.zeros(2, device="mps", dtype=torch.float64),
    ):
        with pytest.raises(TypeError, match="float64"):
            refused()
    with pytest.raises(RuntimeError, match="two devices"):
        x + torch.ones(3)
    with pytest.raises((RuntimeError, TypeError)):
        x.numpy()
    assert (2 * x).cpu().numpy().tolist() == [2, 2, 2]


def test_auto_takes_the_gpu(gpu):
    model = build_decoder_only_model(small_config(), EngineConfig())
    assert isinstance(model.embed_tokens.weight, OnApple)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_tokens_are_those_of_the_cpu(gpu, changes):
    ids, mask = random_ids(2, 6), torch.ones(2, 6, dtype=torch.long)
    mask[1, :2] = 0
    settings = GenerationConfig(max_new_tokens=6, seed=3, **changes)
    options = {"eos_token_id": [5, 9], "attention_mask": mask, "vocab_size": 90}
    on_cpu, model = small_model(), on_gpu()
    for prepared in (model, FusedModel(model).eval()):
        out = generate(prepared, ids, model.config, EngineConfig(), settings, **options)
        cpu = EngineConfig("cpu")
        wanted = generate(on_cpu, ids, on_cpu.config, cpu, settings, **options)
        assert out.device.type == "mps"
        assert torch.equal(out.cpu(), wanted)


def test_filters_and_draws_keep_the_device(gpu):
    logits = torch.randn(2, 96, device="mps")
    assert top_p_filtering(logits, 0.3).device.type == "mps"
    for settings in ({}, {"top_p": 0.4, "min_p": 0.1}, {"temperature": 0}):
        assert sample_next_token(logits, **settings).device.type == "mps"


def test_chunks_maps_and_records(gpu):
    model, ids = on_gpu(), random_ids(1, 9)
    whole = prefill(model, ids, make_cache(model))
    pieces = prefill(model, ids, make_cache(model), chunk_size=4)
    torch.testing.assert_close(whole.cpu(), pieces.cpu())
    looked = capture_attention(model), record(model, "layers.*.mlp")
    with torch.inference_mode(), looked[0] as maps, looked[1] as seen:
        model(ids)
    assert all(x.device.type == "mps" for x in maps.values())
    assert len(seen) == 2


def test_a_conversation_goes_on(gpu):
    talk, ids = Conversation(prepare_for_inference(on_gpu())), [1, 2, 3]
    settings = GenerationConfig(max_new_tokens=4, seed=0)
    reply = list(talk.stream(ids, settings))
    again = list(talk.stream([*ids, *reply, 7], settings))
    assert (len(again), talk.reused) == (4, 6)


class Words(Letters):
    """A tokenizer of one character a token, for the chat."""

    vocab_size = 96
    chat_template = "one message"


class AtOnce(threading.Thread):
    """A thread that does its work before `start` returns: the stand-in is in one."""

    def start(self) -> None:
        self.run()

    def join(self, timeout: float | None = None) -> None:
        """It has ended."""


def test_the_chat_answers(gpu):
    said: list[str] = []
    settings = GenerationConfig(max_new_tokens=5, top_p=0.9, seed=1)
    model = prepare_for_inference(on_gpu())
    chat = Chat(model, Words(), settings, write=said.append)
    assert chat.handle("Hi")
    assert "5 tokens" in "".join(said)
    assert chat.handle("/set seed 3")
    assert chat.handle("Hi")


def test_the_playground_draws_its_chart_and_writes(gpu, monkeypatch):
    monkeypatch.setattr("llm_course.widgets.runs.threading.Thread", AtOnce)
    playground = Playground(on_gpu(), Words(), prompt="hello")
    for name, value in {"top_p": 0.5, "min_p": 0.9, "temperature": 0.0}.items():
        before = playground.chart
        say(playground, "show", **{name: value})
        assert playground.error == ""
        assert playground.chart != before
    ids = write(playground, max_new_tokens=4)
    assert (playground.error, len(ids)) == ("", 4)


def test_the_attention_explorer_draws_its_map(gpu):
    explorer = AttentionExplorer(on_gpu(), Words(), "hello")
    say(explorer, "show", head=3, out=[[0, 1]])
    assert explorer.error == ""
    assert explorer.chart["head"] == [0, 3]
    assert explorer.figure()


def test_figures_take_numbers_from_the_device(gpu):
    probs = torch.rand(3, 96, device="mps").softmax(-1)
    named = {"a": probs[0], "b": probs[1]}
    sampling.next_token_bars(named, Words().tokens)
    sampling.filter_bars(probs[0], named, Words().tokens)
    sampling.cumulative_mass(named, top_p=0.9, top_k=5)


@pytest.mark.slow  # all exercises but the hunts
@pytest.mark.parametrize("chapter", range(1, 8))
def test_exercises_stay_on_the_cpu_where_auto_finds_another_device(
    monkeypatch, chapter
):
    exercises = {
        key: exercise.reference
        for key, exercise in registry(f"{chapter:02}").items()
        if isinstance(exercise, Exercise)
    }
    before = {key: judge(key, answer) for key, answer in exercises.items()}
    # without the stand-in, whatever went to this device would fail
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert {key: judge(key, answer) for key, answer in exercises.items()} == before


def test_an_answer_on_the_device_is_compared(gpu):
    expected, answer = torch.ones(3), torch.ones(3, device="mps")
    assert difference(expected, answer, 1e-5, 1e-5) is None
    assert "wrong" in difference(expected, 2 * answer, 1e-5, 1e-5)
