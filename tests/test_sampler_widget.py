"""The sampler: sliders, streaming, Stop, and errors that are shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from llm_course.config import GenerationConfig
from llm_course.engine import NativeModel, generate_stream, sample_next_token
from llm_course.widgets import Sampler
from llm_course.widgets.sampler import distribution
from tests.helpers import small_model

EOS = 95


class Letters:
    """A tokenizer of one character a token: enough for a widget, and instant."""

    eos_token_ids = (EOS,)
    vocab_size = 96

    def encode(self, text: str) -> list[int]:
        if "☃" in text:
            raise ValueError(
                "This vocabulary has no token for U+2603: remove it from the text."
            )
        return [ord(c) % EOS for c in text]

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        return [1, *self.encode(messages[0]["content"]), 2]

    def tokens(self, ids: list[int]) -> list[str]:
        return ["$<" if i % 2 else f"t{i}" for i in ids]

    def decode_stream(
        self, ids: Iterator[int], skip_special_tokens: bool = False
    ) -> Iterator[str]:
        for i in ids:
            if not (skip_special_tokens and i == EOS):
                yield f"<{i}>"


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    made = Sampler(small_model(), Letters(), prompt="hello")
    made.max_tokens.value = 6
    made.conversation.model(torch.tensor([[1]]))  # compiles the kernels
    yield made
    made.stop()
    made.wait(10)


def ids_of(sampler: Sampler, config: GenerationConfig) -> list[int]:
    prompt = torch.tensor([sampler.prompt_ids()])
    steps = generate_stream(sampler.model, prompt, config, Letters.eos_token_ids)
    return [token.item() for token in steps]


def shown(ids: list[int]) -> str:
    return "".join(f"&lt;{i}&gt;" for i in ids if i != EOS)


def test_sliders_redraw_without_running_the_model(sampler: Sampler) -> None:
    passes = []
    sampler.model.register_forward_hook(lambda *_: passes.append(1))
    pictures = [bytes(sampler.picture.value)]
    assert pictures[0].startswith(b"\x89PNG")
    for slider, value in (
        (sampler.temperature, 1.5),
        (sampler.top_k, 3),
        (sampler.min_p, 0.9),
    ):
        slider.value = value
        pictures.append(bytes(sampler.picture.value))
    assert len(set(pictures)) == 4
    assert passes == []
    sampler.prompt.value = "another"
    assert passes == [1]


def test_the_repr_is_short_and_no_figure_stays_open(sampler: Sampler) -> None:
    import matplotlib.pyplot as plt

    assert repr(sampler) == "Sampler('hello')"
    assert plt.get_fignums() == []


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 0.7, 2.0])
def test_the_picture_shows_what_is_drawn_from(temperature: float) -> None:
    config = GenerationConfig(temperature=temperature, top_k=4, top_p=0.9, min_p=0.1)
    logits = torch.randn(20, generator=torch.Generator().manual_seed(1))
    probs = distribution(logits, config)
    drawn = sample_next_token(
        logits.expand(2000, -1),
        temperature,
        4,
        0.9,
        min_p=0.1,
        generator=torch.Generator().manual_seed(0),
    )
    frequencies = torch.bincount(drawn.flatten(), minlength=20) / 2000
    assert (frequencies - probs).abs().max() < 0.06
    assert torch.equal(frequencies > 0, probs > 0)


def test_generate_streams_the_text_of_the_engine(sampler: Sampler) -> None:
    expected = ids_of(sampler, sampler.config)
    updates: list[str] = []
    sampler.output.observe(lambda change: updates.append(change["new"]), "value")
    sampler.generate_button.click()
    sampler.wait(10)
    assert shown(expected) in sampler.output.value
    assert len(updates) >= len(expected)  # it grew token by token
    assert not sampler.running
    assert sampler.stop_button.disabled


def test_the_seed_decides(sampler: Sampler) -> None:
    texts = []
    for seed in (3, 3, 4):
        sampler.seed.value = seed
        sampler.generate()
        sampler.wait(10)
        texts.append(sampler.output.value)
    assert texts[0] == texts[1] != texts[2]


class Gate:
    """Lets a model run only so many forward passes, then waits."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.steps = threading.Semaphore(0)
        self.hook = model.register_forward_hook(self)

    def __call__(self, *_: Any) -> None:
        assert self.steps.acquire(timeout=10)


def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_stop_ends_the_run_and_a_second_click_is_ignored(sampler: Sampler) -> None:
    sampler.max_tokens.value = 200
    gate = Gate(sampler.conversation.model)
    sampler.generate_button.click()
    thread = sampler.thread
    gate.steps.release(2)
    until(lambda: sampler.output.value.count("&lt;") == 2)
    assert sampler.generate_button.disabled
    sampler.generate_button.click()
    assert sampler.thread is thread
    sampler.stop_button.click()
    gate.steps.release(1)  # the token it is working on
    sampler.wait(10)
    gate.hook.remove()
    assert not sampler.running
    assert "stopped after 3 tokens" in sampler.message.value
    sampler.max_tokens.value = 2
    sampler.generate()  # and it starts again
    sampler.wait(10)
    assert sampler.output.value.count("&lt;") == 2


@pytest.mark.parametrize(("prompt", "words"), [(" ", "empty"), ("a ☃", "U+2603")])
def test_bad_prompts_are_shown(sampler: Sampler, prompt: str, words: str) -> None:
    sampler.prompt.value = prompt
    assert words in sampler.message.value
    assert sampler.picture.layout.visibility == "hidden"  # it is of another prompt
    sampler.temperature.value = 0.5  # nothing to draw
    assert words in sampler.message.value
    sampler.generate_button.click()
    sampler.wait(10)
    assert words in sampler.message.value
    assert not sampler.running
    sampler.prompt.value = "fine"
    assert sampler.message.value == ""
    assert sampler.picture.layout.visibility == "visible"
    assert_generates(sampler)


def assert_generates(sampler: Sampler) -> None:
    expected = shown(ids_of(sampler, sampler.config))
    sampler.generate_button.click()
    sampler.wait(10)
    assert expected in sampler.output.value
    assert "token" in sampler.message.value
    assert not sampler.running


def fail(*_: Any) -> None:
    raise RuntimeError("out of <memory>")


def test_an_error_during_the_run_is_shown_and_the_next_run_works(
    sampler: Sampler,
) -> None:
    hook = sampler.conversation.model.register_forward_hook(fail)
    sampler.generate()
    sampler.wait(10)
    assert "out of &lt;memory&gt;" in sampler.message.value
    assert not sampler.running
    assert not sampler.generate_button.disabled
    hook.remove()
    assert_generates(sampler)


def test_after_a_failed_prompt_a_slider_draws_again(sampler: Sampler) -> None:
    hook = sampler.model.register_forward_hook(fail)
    sampler.prompt.value = "another"
    assert "out of &lt;memory&gt;" in sampler.message.value
    assert sampler.picture.layout.visibility == "hidden"
    sampler.top_k.value = 3  # tries again, and fails again
    assert "out of &lt;memory&gt;" in sampler.message.value
    hook.remove()
    sampler.top_k.value = 4
    assert sampler.message.value == ""
    assert sampler.picture.layout.visibility == "visible"
    assert_generates(sampler)


def test_runs_are_of_the_prepared_model(sampler: Sampler) -> None:
    native = sampler.conversation.model
    assert isinstance(native, NativeModel)
    assert {matrix.kind for matrix in native.matrices.values()} == {"float32"}
    assert Sampler(native, Letters(), prompt="a").conversation.model is native


def test_text_is_escaped(sampler: Sampler) -> None:
    sampler.prompt.value = "<script>alert(1)</script>"
    sampler.generate()
    sampler.wait(10)
    assert "<script>" not in sampler.output.value
    assert "&lt;script&gt;" in sampler.output.value


def test_chat_mode_wraps_the_prompt_and_eos_ends_the_run(sampler: Sampler) -> None:
    before = sampler.logits
    sampler.mode.value = "chat"
    assert sampler.prompt_ids() == [1, *Letters().encode("hello"), 2]
    assert not torch.equal(before, sampler.logits)
    ends = torch.zeros(1, 1, 96)
    ends[..., EOS] = 100.0
    # a model that ends at once
    sampler.conversation.model.register_forward_hook(lambda *_: ends)
    sampler.generate()
    sampler.wait(10)
    assert "1 token, the last one ends the text" in sampler.message.value
    assert "&lt;" not in sampler.output.value


def test_a_longer_prompt_reuses_what_it_begins_with(sampler: Sampler) -> None:
    def run(prompt: str, on: Sampler) -> str:
        on.prompt.value = prompt
        fed.clear()
        on.generate()
        on.wait(10)
        return on.output.value

    fed: list[int] = []
    sampler.conversation.model.register_forward_pre_hook(
        lambda _, args: fed.append(args[0].shape[1])
    )
    run("hello", sampler)
    second = run("hello there", sampler)
    assert fed[0] == len("hello there") - len("hello")
    fresh = Sampler(sampler.conversation.model, Letters(), prompt="hello there")
    fresh.max_tokens.value = sampler.max_tokens.value
    assert run("hello there", fresh) == second
    assert fed[0] == len("hello there")


def test_the_classes_that_a_browser_test_looks_for(sampler: Sampler) -> None:
    for widget, name in (
        (sampler.temperature, "sampler-temperature"),
        (sampler.generate_button, "sampler-generate"),
        (sampler.stop_button, "sampler-stop"),
        (sampler.output, "sampler-output"),
        (sampler.picture, "sampler-figure"),
    ):
        assert name in widget._dom_classes
