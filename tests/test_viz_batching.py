"""The figures of notebook 08: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_hex

from llm_course.viz import batching as viz
from llm_course.viz.style import CYCLE, GREY


def test_a_schedule_has_a_bar_for_each_request_on_the_steps_it_takes() -> None:
    plans = {"a": [(0, 0, 0, 3), (1, 1, 0, 2)], "b": [(0, 0, 0, 3), (0, 7, 3, 4)]}
    first, second = viz.schedules(plans, 2).axes
    drawn = [(p.get_x(), p.get_width(), round(p.get_y() + 0.4)) for p in first.patches]
    # the places that there are, then the bars
    assert drawn == [(0, 3, 0), (0, 3, 1), (0, 3, 0), (0, 2, 1)]
    assert [text.get_text() for text in second.texts] == ["0", "7"]
    assert to_hex(second.patches[-1].get_facecolor()) == CYCLE[1].lower()
    assert first.get_xlim() == second.get_xlim() == (0, 7)


def test_a_map_of_memory_has_a_colour_for_each_kind_of_slot() -> None:
    fig = viz.memory_maps({"a": [[0, -1], [7, -2]]}, [1])
    colors = [to_hex(p.get_facecolor()) for p in fig.axes[0].patches]
    expected = [CYCLE[0], GREY, CYCLE[1], "#ffffff"]
    assert colors == [color.lower() for color in expected]
    assert len(fig.axes[0].lines) == 3  # the borders of the pages


def test_tokens_of_a_step_are_stacked() -> None:
    first, second = viz.tokens_a_step({"a": [(2, 5), (3, 0)], "b": [(1, 0)]}, 8).axes
    assert [p.get_height() for p in first.patches] == [2, 3, 5, 0]
    assert [p.get_y() for p in first.patches] == [0, 0, 2, 3]
    assert first.lines[0].get_ydata()[0] == 8
    assert len(second.patches) == 2


def test_latencies_have_a_line_for_the_median_and_one_for_the_slow() -> None:
    curves = {"a": ([1, 2], [3, 9]), "b": ([1, 1], [2, 2])}
    (ax,) = viz.load_and_latency([4, 8], curves, "steps").axes
    drawn = [list(np.asarray(line.get_ydata())) for line in ax.lines]
    assert drawn == [[1, 2], [3, 9], [1, 1], [2, 2]]
    assert ax.lines[0].get_color() == ax.lines[1].get_color()
    assert ax.get_yscale() == "log"
