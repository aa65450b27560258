"""The playground on Python's side: filters, streaming, Stop, branches, and errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from llm_course.config import GenerationConfig
from llm_course.engine import NativeModel, generate_stream, sample_next_token
from llm_course.engine.sampling import apply_repetition_penalty, filtered_logits
from llm_course.viz.sampling import filter_bars
from llm_course.widgets import Playground, runs
from llm_course.widgets.stages import chart, distribution, stages
from tests.helpers import small_model
from tests.notebook_tools import ROOT

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

    def tokens(self, ids: Iterable[int]) -> list[str]:
        return ["$<" if i % 2 else f"t{i}" for i in ids]

    def decode_stream(self, ids: Iterable[int], **_: bool) -> Iterator[str]:
        for i in ids:
            yield f"<{i}>"


def say(widget: Playground, action: str, more: Any = None, **changes: Any) -> None:
    """Send a message as the page does, with these settings changed."""
    settings = {**widget.settings, **changes}
    message = {"action": action, "settings": settings, "more": more or {}}
    widget._on_message(None, message | {"page": "p", "serial": 1}, [])


def write(widget: Playground, action: str = "generate", **changes: Any) -> list[int]:
    """Say it, wait for the end, and return the ids of the text."""
    say(widget, action, **changes)
    widget.wait(20)
    return widget.columns[widget.settings["column"]].ids


@pytest.fixture
def playground() -> Iterator[Playground]:
    made = Playground(small_model(), Letters(), prompt="hello")
    made.settings = {**made.settings, "max_new_tokens": 6}
    made.conversation.model(torch.tensor([[1]]))  # compiles the kernels
    yield made
    runs.end()


def ids_of(widget: Playground, config: GenerationConfig) -> list[int]:
    prompt = torch.tensor([widget._ids(widget.settings)])
    steps = generate_stream(widget.model, prompt, config, Letters.eos_token_ids)
    return [token.item() for token in steps]


LOGITS = torch.randn(96, generator=torch.Generator().manual_seed(1)) * 3
CONFIGS = [
    GenerationConfig(temperature=0.0),
    GenerationConfig(temperature=1e-6, top_k=4),
    GenerationConfig(temperature=0.7, top_k=20, top_p=0.9, min_p=0.1),
    GenerationConfig(temperature=2.0, top_k=None, repetition_penalty=1.4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_last_stage_is_what_is_drawn_from(config: GenerationConfig) -> None:
    seen = [3, 5, 8]
    found = stages(LOGITS, seen, config)
    penalised = apply_repetition_penalty(
        LOGITS[None], torch.tensor([seen]), config.repetition_penalty
    )[0]
    assert torch.equal(found[0].probs, torch.softmax(LOGITS, -1))
    assert torch.equal(found[1].probs, torch.softmax(penalised, -1))
    assert torch.equal(found[-1].probs, distribution(penalised, config))
    drawn = sample_next_token(
        penalised.expand(2000, -1),
        config.temperature,
        config.top_k,
        config.top_p,
        min_p=config.min_p,
        generator=torch.Generator().manual_seed(0),
    )
    frequencies = torch.bincount(drawn.flatten(), minlength=96) / 2000
    assert (frequencies - found[-1].probs).abs().max() < 0.06
    assert (found[-1].probs[frequencies > 0] > 0).all()


def test_each_filter_tells_what_it_keeps_of_the_one_before() -> None:
    config = GenerationConfig(temperature=0.7, top_k=20, top_p=0.9, min_p=0.1)
    found = stages(LOGITS, [], config)
    names = [stage.name for stage in found]
    assert names[1:] == ["repetition penalty", "temperature", "top-k", "top-p", "min-p"]
    assert [found[1].kept, found[2].kept] == [1.0, 1.0]
    for before, after in pairwise(found[2:]):
        kept = float(before.probs[after.probs > 0].sum())
        assert after.kept == pytest.approx(kept, abs=1e-6)
        assert after.left == int((after.probs > 0).sum()) < before.left
        assert torch.allclose(
            after.probs * after.kept, before.probs * (after.probs > 0)
        )
    assert found[3].left == 20
    assert (
        float(filtered_logits(LOGITS, 0.7, 20, 0.9).isfinite().sum()) == found[4].left
    )


def test_the_chart_holds_the_numbers_of_the_still_picture() -> None:
    config = GenerationConfig(temperature=0.7, top_k=8)
    found = stages(LOGITS, [], config)
    told = chart(found, Letters().tokens)
    figure = filter_bars(found[0].probs, {"T": found[-1].probs}, Letters().tokens)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    for row in told["rows"]:
        assert row["probs"][0] == pytest.approx(float(found[0].probs[row["id"]]))
        assert any(abs(row["probs"][-1] - w) < 1e-6 for w in widths)
    beside = sum(row["probs"][-1] for row in told["rows"])
    assert told["others"][-1] == pytest.approx(1 - beside, abs=1e-6)
    cut = [row["cut"] for row in told["rows"]]
    assert cut == [None] * 8 + [3] * (len(cut) - 8)


def test_a_chosen_token_is_in_the_chart_however_rare() -> None:
    rare = int(LOGITS.argmin())
    told = chart(stages(LOGITS, [], CONFIGS[2]), Letters().tokens, rare)
    assert told["rows"][-1]["id"] == told["chosen"] == rare


def test_moves_draw_without_running_the_model(playground: Playground) -> None:
    passes = []
    playground.model.register_forward_hook(lambda *_: passes.append(1))
    seen = [playground.chart]
    for changes in ({"temperature": 1.5}, {"top_k": 3}, {"min_p": 0.9}):
        say(playground, "show", **changes)
        seen.append(playground.chart)
    assert all(a != b for a, b in pairwise(seen))
    assert passes == []
    say(playground, "show", prompt="another")
    assert passes == [1]


def test_generate_streams_the_tokens_of_the_engine(playground: Playground) -> None:
    updates: list[int] = []
    playground.observe(
        lambda change: updates.append(len(change["new"]["A"]["tokens"])), "texts"
    )
    assert write(playground) == ids_of(playground, playground.config())
    assert sorted(set(updates)) == list(range(7))  # it grew token by token
    assert not playground.running


def test_each_token_has_the_models_odds_and_those_of_the_draw(
    playground: Playground,
) -> None:
    write(playground, repetition_penalty=1.3)
    column, config = playground.columns["A"], playground.config()
    for at, (token, told) in enumerate(
        zip(column.ids, playground.texts["A"]["tokens"], strict=True)
    ):
        seen = torch.tensor([column.all_ids(at)])
        logits = playground.model(seen)[0, -1].detach()
        found = stages(logits, seen[0].tolist(), config)
        expected = [float(found[i].probs[token]) for i in (0, -1)]
        assert told[1:] == pytest.approx(expected, abs=1e-4)
    assert len(column.logits) == len(column.ids) + 1


def test_the_seed_decides(playground: Playground) -> None:
    texts = [list(write(playground, seed=seed)) for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


def test_single_steps_write_what_generate_writes(playground: Playground) -> None:
    whole = list(write(playground, seed=5))
    say(playground, "show", column="B")
    for _ in whole:
        write(playground, "step", seed=5)
        assert playground.chart["at"] == len(playground.columns["B"].ids)
    assert playground.columns["B"].ids == whole
    assert playground.shared == len(whole)


def test_a_branch_goes_into_the_other_text(playground: Playground) -> None:
    first = list(write(playground))
    token = (first[2] + 1) % EOS
    say(playground, "branch", {"at": 2, "token": token})
    playground.wait(20)
    branch = playground.columns["B"].ids
    assert branch[:3] == [*first[:2], token]
    assert len(branch) == 6
    assert playground.columns["A"].ids == first
    assert playground.shared == 2
    assert playground.texts["B"]["settings"]["column"] == "B"


def test_a_click_on_a_token_shows_where_it_was_drawn(playground: Playground) -> None:
    first = write(playground)
    say(playground, "show", {"at": 3})
    told = playground.chart
    assert (told["column"], told["at"], told["chosen"]) == ("A", 3, first[3])
    logits = playground.columns["A"].logits[3]
    found = stages(logits, playground.columns["A"].all_ids(3), playground.config())
    assert told == {**told, **chart(found, Letters().tokens, first[3])}


class Gate:
    """Lets a model run only so many forward passes, then waits."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.steps = threading.Semaphore(0)
        self.hook = model.register_forward_hook(self)

    def __call__(self, *_: Any) -> None:
        assert self.steps.acquire(timeout=10)


def until(condition: Any) -> None:
    end = time.monotonic() + 90  # kernels may have to be compiled
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_stop_ends_the_run_at_its_next_token(playground: Playground) -> None:
    gate = Gate(playground.conversation.model)
    say(playground, "generate", max_new_tokens=200)
    gate.steps.release(2)
    until(lambda: len(playground.columns["A"].ids) == 2)
    assert playground.running
    say(playground, "stop")
    gate.steps.release(2)  # the token it is working on, and the logits after it
    playground.wait(10)
    gate.hook.remove()
    assert not playground.running
    assert "3 tokens" in playground.texts["A"]["note"]
    assert playground.texts["A"]["note"].endswith("stopped")


@pytest.mark.parametrize("how", ["second click", "new widget"])
def test_one_run_at_a_time(playground: Playground, how: str) -> None:
    gate = Gate(playground.conversation.model)
    say(playground, "generate", max_new_tokens=200)
    old = playground._run
    gate.steps.release(10**6)
    if how == "second click":
        say(playground, "generate", max_new_tokens=3)
        playground.wait(10)
        assert len(playground.columns["A"].ids) == 3
    else:
        Playground(playground.model, Letters(), prompt="a")
        assert not playground.running
    assert not old.alive
    gate.hook.remove()


@pytest.mark.parametrize(("prompt", "words"), [(" ", "empty"), ("a ☃", "U+2603")])
def test_bad_prompts_are_told(playground: Playground, prompt: str, words: str) -> None:
    say(playground, "show", prompt=prompt)
    assert words in playground.error
    assert playground.chart == {}  # none of another prompt
    say(playground, "generate")
    assert words in playground.error
    assert not playground.running
    say(playground, "show", prompt="fine")
    assert playground.error == ""
    assert playground.chart["rows"]


def test_bad_settings_are_told(playground: Playground) -> None:
    say(playground, "generate", top_p=2)
    assert "GenerationConfig.top_p = 2" in playground.error


def fail(*_: Any) -> None:
    raise RuntimeError("out of <memory>")


def test_an_error_during_a_run_is_told_and_the_next_run_works(
    playground: Playground,
) -> None:
    hook = playground.conversation.model.register_forward_hook(fail)
    write(playground)
    assert playground.error == "out of <memory>"
    assert not playground.running
    hook.remove()
    assert write(playground) == ids_of(playground, playground.config())
    assert playground.error == ""


def test_runs_are_of_the_prepared_model(playground: Playground) -> None:
    native = playground.conversation.model
    assert isinstance(native, NativeModel)
    assert {matrix.kind for matrix in native.matrices.values()} == {"float32"}
    assert Playground(native, Letters(), prompt="a").conversation.model is native


def test_a_chat_wraps_the_prompt_and_an_end_ends_the_run(
    playground: Playground,
) -> None:
    before = playground.chart
    say(playground, "show", mode="chat")
    assert playground._ids(playground.settings) == (1, *Letters().encode("hello"), 2)
    assert playground.chart["rows"] != before["rows"]
    ends = torch.zeros(1, 1, 96)
    ends[..., EOS] = 100.0
    playground.conversation.model.register_forward_hook(lambda *_: ends)
    assert write(playground) == [EOS]
    assert playground.texts["A"]["note"] == "1 token, the last one ends the text"


def test_a_longer_prompt_reuses_what_it_begins_with(playground: Playground) -> None:
    fed: list[int] = []
    playground.conversation.model.register_forward_pre_hook(
        lambda _, args: fed.append(args[0].shape[1])
    )
    write(playground, prompt="hello")
    fed.clear()
    write(playground, prompt="hello there")
    assert fed[0] == len("hello there") - len("hello")


def test_the_repr_is_short_and_no_figure_stays_open(playground: Playground) -> None:
    import matplotlib.pyplot as plt

    assert repr(playground) == "Sampling playground: run this cell to use it."
    plt.close(playground.figure())
    assert plt.get_fignums() == []


PROGRAM = """
from tests.test_playground import *
model = small_model(max_position_embeddings=4096)
widget = Playground(model, Letters(), prompt="a")
widget.conversation.model(torch.tensor([[1]]))  # compiles the kernels
say(widget, "generate", max_new_tokens=3000)
until(lambda: len(widget.columns["A"].ids) > 2)
print("running", widget.running)
"""


@pytest.mark.slow
def test_a_kernel_may_end_in_the_middle_of_a_run() -> None:
    """A thread that frees tensors while Python shuts down would abort the process."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=90
    )
    assert done.stdout.strip() == "running True"
    assert done.returncode == 0, done.stderr
