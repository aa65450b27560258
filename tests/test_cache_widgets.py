"""The widgets of notebook 06 on Python's side: bytes, slots, and the race."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llm_course.config import ModelConfig
from llm_course.engine import cache_bytes
from llm_course.viz import cache_lab as viz
from llm_course.widgets import CacheLab, CacheMemory, runs
from llm_course.widgets.cache_lab import FIRST, MOST, RACE
from tests.helpers import small_model
from tests.test_playground import Letters

MODELS = {
    "small": (ModelConfig(100, 48, 96, 2, num_heads=6, num_kv_heads=2), 1000),
    "large": (ModelConfig(100, 4096, 96, 40, 32, 8), 13_000_000_000),
}


def say(widget: Any, action: str, **changes: Any) -> None:
    """Send a message as the page does, with these settings changed."""
    message = {"action": action, "settings": {**widget.settings, **changes}}
    widget._on_message(None, message | {"page": "p", "serial": 1}, [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_follows_the_formula(dtype: torch.dtype) -> None:
    widget, name = CacheMemory(MODELS), str(dtype).removeprefix("torch.")
    say(widget, "show", context=11, rows=5, dtype=name)
    small, large = widget.models
    config, parameters = MODELS["small"]
    assert small["cache"] == cache_bytes(config, 2048, 5, dtype)
    assert small["token"] == cache_bytes(config, 1, 1, dtype)
    assert small["weights"] == parameters * dtype.itemsize
    say(widget, "show", sharing="none")
    assert widget.models[0]["cache"] == 3 * small["cache"]
    assert widget.models[1]["heads"] == 32
    say(widget, "show", sharing="one")
    assert 8 * widget.models[1]["cache"] == large["cache"]


def test_memory_says_what_fits() -> None:
    widget = CacheMemory(MODELS)
    say(widget, "show", dtype="8 bits", context=6, rows=1)
    large = widget.models[1]
    assert large["fits"] == [True, True]
    room = large["room"][0]
    assert large["weights"] + room * large["token"] <= 24e9
    assert large["weights"] + (room + 1) * large["token"] > 24e9
    say(widget, "show", dtype="bfloat16")
    assert widget.models[1]["fits"] == [False, True]
    assert widget.models[1]["room"][0] == 0


def test_the_pictures_draw_what_the_widgets_hold() -> None:
    widget = CacheMemory(MODELS)
    bars = [patch.get_width() * 1e9 for patch in widget.figure().axes[0].patches]
    assert bars == [row[kind] for kind in ("weights", "cache") for row in widget.models]
    fig = viz.slots(["a", "b", ""], ["prompt", "new", "free"])
    assert len(fig.axes[0].patches) == 3
    colors = [patch.get_facecolor() for patch in fig.axes[0].patches]
    assert len(set(colors)) == 3


@pytest.fixture
def lab() -> Any:
    yield CacheLab(small_model(), Letters(), "hello")
    runs.end()


def kinds(widget: CacheLab) -> list[str]:
    return [kind for _, kind in widget.cells]


def test_slots_fill_with_the_tokens_of_a_run_without_a_cache(lab: CacheLab) -> None:
    ids = Letters().encode("hello")
    assert kinds(lab) == ["prompt"] * 5 + ["free"] * (FIRST - 5)
    for _ in range(6):
        with torch.inference_mode():
            ids.append(int(lab.model(torch.tensor([ids]))[0, -1].argmax()))
        say(lab, "step")
        assert lab.ids == ids
        assert lab.counts["fed"] == 1
    assert lab.cache.capacity == 2 * FIRST  # it grew
    assert kinds(lab) == ["prompt"] * 5 + ["new"] * 6 + ["free"] * 5
    assert lab.counts["bytes"] == cache_bytes(lab.model.config, 2 * FIRST)
    assert lab.counts["with"] == 5 + 6
    assert lab.counts["without"] == sum(range(5, 12))


def test_a_changed_prompt_feeds_only_what_is_new(lab: CacheLab) -> None:
    say(lab, "step")
    say(lab, "prefill", prompt="helps")
    assert kinds(lab)[:6] == ["reused"] * 3 + ["prompt"] * 2 + ["truncated"]
    assert (lab.counts["fed"], lab.counts["length"]) == (2, 5)
    ids = torch.tensor([Letters().encode("helps")])
    with torch.inference_mode():
        expected = lab.model(ids)[0, -1]
    torch.testing.assert_close(lab.logits, expected, atol=1e-4, rtol=1e-4)
    say(lab, "prefill", prompt="helps")  # all of it is held; one must be fed
    assert (lab.counts["fed"], kinds(lab)[4]) == (1, "prompt")


def test_after_a_cut_the_last_token_kept_is_fed_again(lab: CacheLab) -> None:
    say(lab, "truncate", keep=3)
    assert kinds(lab)[:5] == ["prompt"] * 3 + ["truncated"] * 2
    assert lab.counts["next"] is None
    ids = Letters().encode("hel")
    with torch.inference_mode():
        following = int(lab.model(torch.tensor([ids]))[0, -1].argmax())
    say(lab, "step")
    assert lab.ids[:4] == [*ids, following]
    assert kinds(lab)[:5] == ["prompt"] * 3 + ["new", "truncated"]
    assert lab.counts["with"] == 5 + 1 + 1


def test_what_does_not_fit_is_said(lab: CacheLab) -> None:
    for prompt, words in (("", "empty"), ("h" * (MOST + 1), f"{MOST} slots")):
        held = lab.cache.length
        say(lab, "prefill", prompt=prompt)
        assert words in lab.error
        assert lab.cache.length == held
    say(lab, "prefill", prompt="h" * MOST)
    assert lab.error == ""
    say(lab, "step")
    assert f"{MOST} slots" in lab.error


def test_a_cut_behind_the_last_token_changes_nothing(lab: CacheLab) -> None:
    say(lab, "truncate", keep=5)
    assert kinds(lab)[:5] == ["prompt"] * 5
    assert lab.counts["next"] is not None


def test_a_race_from_nothing_is_refused(lab: CacheLab) -> None:
    say(lab, "race", prompt="")
    assert lab.error == "The prompt is empty: type something to read."


def test_the_race_counts_positions(lab: CacheLab) -> None:
    say(lab, "race")
    lab.wait(60)
    assert lab.error == ""
    (_, tokens, _, fed), (_, plain_tokens, _, plain) = lab.race
    assert (tokens, fed) == (RACE, 5 + RACE - 1)
    assert (plain_tokens, plain) == (RACE, sum(range(5, 5 + RACE)))
    assert np.all([seconds > 0 for _, _, seconds, _ in lab.race])
    assert "times as fast; both wrote “" in lab.outcome
