"""The figures of notebook 06: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_course.config import ModelConfig
from llm_course.viz import cache as viz
from llm_course.viz.cache_lab import memory_bars

CONFIG = ModelConfig(100, 48, 96, 2, num_heads=6, num_kv_heads=2)


def test_new_rows_frames_the_last_row_and_hides_the_future() -> None:
    maps = [torch.full((n, n), 0.5) for n in (2, 3)]
    fig = viz.new_rows(maps, ["a", "b", "c"])
    for ax, count in zip(fig.axes[:2], (2, 3), strict=True):
        drawn = np.asarray(ax.images[0].get_array().filled(np.nan))
        assert np.isfinite(drawn).sum() == count * (count + 1) // 2
        (frame,) = ax.patches
        assert (frame.get_y(), frame.get_width(), frame.get_height()) == (
            count - 1.5,
            count,
            1,
        )


def test_memory_adds_each_cache_to_its_weights() -> None:
    (ax,) = viz.memory([1, 10], {"a": [1, 10], "b": [3, 30]}, {"a": 5.0, "b": 6.0}).axes
    limits, models = ax.lines[:2], ax.lines[2:6]
    assert [line.get_ydata()[0] for line in limits] == [24, 80]
    drawn = [list(line.get_ydata()) for line in models]
    assert drawn == [[6, 15], [10], [9, 36], [12]]
    # as much cache as weights
    assert [models[i].get_xdata()[0] for i in (1, 3)] == [5, 2]
    colors = [line.get_color() for line in models]
    assert colors[:2] == colors[:1] * 2 != colors[2:] == colors[2:3] * 2


def test_the_roof_is_the_lower_of_two_limits() -> None:
    (ax,) = viz.roofline([0.5, 100], [4, 90], ["1", "64"], peak=100, bandwidth=10).axes
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y, np.minimum(100, 10 * x))
    assert list(ax.lines[2].get_ydata()) == [4, 90]
    words = [text.get_text() for text in ax.texts]
    assert {"1:\nlimit / 1.2", "64:\nlimit / 1.1"} <= set(words)


def test_budget_stacks_the_requests_and_what_is_kept() -> None:
    held = [{"a": 10.0}, {"a": 10.0, "b": 5.0}, {"b": 5.0}]
    labels = ["+a", "+b", "-a"]
    (ax,) = viz.budget(held, [[], [], [7.0, 3.0]], [1], 30, labels).axes
    spans = [(bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert spans == [(0, 10), (0, 10), (10, 5), (0, 5), (5, 7), (12, 3)]
    assert [text.get_text() for text in ax.texts] == ["a", "a", "b", "b"]
    colors = [ax.patches[i].get_facecolor() for i in (0, 1, 2, 3)]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["+a", "+b", "−a"]


def test_turns_lie_end_to_end() -> None:
    (ax,) = viz.turns([0, 44], [37, 17], [8, 25]).axes
    assert max(b.get_x() + b.get_width() for b in ax.patches) == 44 + 17 + 25
    assert {text.get_text() for text in ax.texts} == {"37", "8", "44", "17", "25"}


def test_timeline_marks_each_token() -> None:
    (ax,) = viz.timeline({"a": [0.5, 0.6, 0.7]}).axes
    assert ax.texts[0].get_text() == "first: 500 ms\nthen: 100 ms (median)"
    assert ax.patches[0].get_width() == 0.5
    marks = ax.collections[0].get_segments()
    assert [segment[0][0] for segment in marks] == [0.5, 0.6, 0.7]


def test_error_growth_draws_rounding_in_the_middle_of_its_band() -> None:
    (ax,) = viz.error_growth([1, 2], {"right": [1e-7, 1e-2]}).axes
    assert list(ax.lines[0].get_ydata()) == [5e-6, 1e-2]
    assert [text.get_text() for text in ax.figure.legends[0].texts] == [
        "right",
        "rounding: below 1e-05",
    ]


def test_a_bar_is_as_long_as_the_memory_that_it_stands_for() -> None:
    sizes = {"small": (0.5, 0.02), "large": (140.0, 1.25)}
    axes = memory_bars(sizes, "two models", limits=(24, 80)).axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths == pytest.approx(
        [0.5, 140.0, 0.02, 1.25]
    )  # the weights, then the caches
    assert [patch.get_x() for patch in axes.patches] == [0, 0, 0.5, 140]
    assert " 140 + 1.25 = 141 GB" in [text.get_text() for text in axes.texts]
    assert [line.get_xdata()[0] for line in axes.lines] == [24, 80]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(sizes)
