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
    assert [text.get_text() for text in fig.axes[0].texts] == ["0", "7"]


def test_tokens_of_a_step_are_stacked() -> None:
    first, second = viz.tokens_a_step({"a": [(2, 5), (3, 0)], "b": [(1, 0)]}, 8).axes
    assert [p.get_height() for p in first.patches] == [2, 3, 5, 0]
    assert [p.get_y() for p in first.patches] == [0, 0, 2, 3]
    assert first.lines[0].get_ydata()[0] == 8
    assert len(second.patches) == 2


def test_the_tables_of_requests_point_at_their_pages() -> None:
    slots = [[0, 0], [1, 1], [0, -1], [-1, -1]]
    (ax,) = viz.block_tables([([0, 2], 3), ([0, 1], 4)], slots).axes
    pages = ax.patches[: 4 * 2]
    white = to_hex("white")
    blue, orange = CYCLE[0].lower(), CYCLE[1].lower()
    expected = [blue, blue, orange, orange, blue, white, white, white]
    assert [to_hex(p.get_facecolor()) for p in pages] == expected
    arrows = [text for text in ax.texts if not text.get_text()]
    middles = [3 * page + 1 for page in (0, 2, 0, 1)]  # a page of two slots, and a gap
    assert [arrow.xy[0] for arrow in arrows] == middles
    entries = [t.get_text() for t in ax.texts if t.get_text().isdigit()]
    assert entries == ["0", "2", "0", "1"]


def test_a_service_has_a_panel_for_each_thing_that_is_measured() -> None:
    names = ("median", "95th percentile", "throughput", "goodput")
    curves = {
        "a": dict(zip(names, ([1, 2], [3, 9], [4, 5], [4, 0]), strict=True)),
        "b": dict(zip(names, ([1, 1], [2, 2], [4, 8], [4, 7]), strict=True)),
    }
    first, second, third = viz.load_and_latency(
        [4, 8], curves, {"a": 5.0, "b": 9.0}, "steps"
    ).axes

    def drawn(ax) -> list[list[float]]:
        return [list(np.asarray(line.get_ydata())) for line in ax.lines]

    ends = [0, 1]  # of the lines at the capacities
    assert drawn(first) == [[1, 2], [3, 9], ends, [1, 1], [2, 2], ends]
    assert drawn(second) == [[4, 5], ends, [4, 8], ends]
    assert drawn(third) == [[4, 0], ends, [4, 7], ends]
    assert [line.get_xdata()[0] for line in second.lines[1::2]] == [5.0, 9.0]
    assert first.lines[0].get_color() == first.lines[2].get_color()
    assert first.get_yscale() == "linear"
