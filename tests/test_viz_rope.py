"""The arrays behind chapter 02's figures: what is drawn is what was passed in."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.patches import Arc, Rectangle, Wedge

from llm_course.models.rope import RotaryEmbedding
from llm_course.viz import rope as figures
from llm_course.viz import rope_scores as score_figures
from llm_course.viz.style import BLUE, ORANGE, RED

CONTEXT = 8192


@pytest.fixture
def rotary():
    return RotaryEmbedding(64, CONTEXT, 100_000.0)


def test_wavelength_bars_are_orange_exactly_where_no_turn_is_completed(rotary):
    bars = figures.wavelengths(rotary.inv_freq, CONTEXT).axes[0].patches
    turns = 2 * np.pi / rotary.inv_freq.numpy()
    heights = {
        round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars
    }
    assert np.allclose([heights[i] for i in range(32)], turns)
    orange = [
        bar.get_height() for bar in bars if bar.get_facecolor() == to_rgba(ORANGE)
    ]
    assert sorted(orange) == sorted(turns[turns > CONTEXT])
    assert len(orange) == 12


def test_angles_beyond_the_trained_ones_are_shaded_and_division_stays_below(rotary):
    slow, fast = 24, 12
    fig = figures.unmet_angles(rotary.inv_freq, [fast, slow], CONTEXT, 8)
    reached = float(CONTEXT * rotary.inv_freq[slow])
    assert not fig.axes[0].patches  # a pair that completes a turn meets every angle
    (shade,) = fig.axes[1].patches
    assert shade.get_y() == pytest.approx(reached)
    assert shade.get_y() + shade.get_height() == pytest.approx(2 * np.pi)
    plain, divided, edge = fig.axes[1].lines
    assert np.nanmax(plain.get_ydata()) > reached
    assert np.nanmax(divided.get_ydata()) == pytest.approx(reached)
    assert edge.get_xdata()[0] == CONTEXT / 1000


def test_clock_hands_point_at_the_angle(rotary):
    pairs, positions = [0, 8, 31], [0, 1, 100]
    fig = figures.clocks(rotary.inv_freq, pairs, positions, CONTEXT)
    axes = np.array(fig.axes).reshape(3, 3)
    cos, sin = rotary.cos_sin(torch.tensor([positions]))
    for row, p in enumerate(positions):
        for col, i in enumerate(pairs):
            (hand,) = axes[row, col].lines
            tip = np.array([hand.get_xdata()[1], hand.get_ydata()[1]])
            expected = np.array([cos[0, row, i], sin[0, row, i]])
            assert np.allclose(tip / np.linalg.norm(tip), expected, atol=1e-4)
            assert hand.get_color() == (ORANGE if i == 31 else BLUE)
            (tint,) = (
                patch for patch in axes[row, col].patches if isinstance(patch, Wedge)
            )
            swept = np.degrees(p * float(rotary.inv_freq[i]))
            assert tint.theta2 == pytest.approx(swept % 360, abs=1e-3)
            counts = [text.get_text() for text in axes[row, col].texts]
            assert [c for c in counts if c.isdigit()] == [f"{swept // 360:.0f}"] * int(
                swept >= 360
            )


def test_heatmap_shows_pairs_downwards_and_positions_to_the_right(rotary):
    cos, sin = rotary.cos_sin(torch.arange(20)[None])
    fig = figures.cos_sin_heatmap(cos[0], sin[0])
    images = [ax.images[0].get_array() for ax in fig.axes[:2]]
    assert images[0].shape == (32, 20)
    assert np.allclose(images[0], cos[0].T)
    assert np.allclose(images[1], sin[0].T)


def test_score_matrix_draws_the_diagonals_it_names_and_marks_them():
    scores = torch.arange(100.0).reshape(10, 10)
    left, right = score_figures.score_matrix(scores, offsets=(1, 3)).axes[:2]
    lines = {line.get_label(): line for line in right.lines}
    assert lines["offset 3: both move"].get_ydata().tolist() == [
        scores[p, p - 3].item() for p in range(3, 10)
    ]
    assert lines["offset 3: both move"].get_xdata().tolist() == list(range(3, 10))
    assert lines["k stays at 0"].get_ydata().tolist() == scores[:, 0].tolist()
    for mark, line in zip(left.lines, right.lines, strict=True):
        assert mark.get_color() == line.get_color()
        columns, rows = mark.get_xdata().astype(int), mark.get_ydata().astype(int)
        assert scores[rows, columns].tolist() == line.get_ydata().tolist()


def test_contributions_add_up_to_the_score_beside_them():
    parts = {
        "pair 0": torch.tensor([1.0, 2.0]),
        "all others": torch.tensor([-12.0, -12.5]),
    }
    left, right = score_figures.pair_contributions(torch.arange(2), parts).axes
    assert left.lines[0].get_ydata().tolist() == [-11, -10.5]
    drawn = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert drawn["pair 0"] == [1, 2]
    assert drawn["all others"] == [-12, -12.5]


def test_mean_score_draws_the_curve_it_was_given():
    (line, _zero) = (
        score_figures.mean_score(torch.arange(3), torch.tensor([1.0, 2.0, 0.5]))
        .axes[0]
        .lines
    )
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == [1.0, 2.0, 0.5]


def test_heads_that_move_more_than_half_are_red_and_named_heads_are_labelled():
    moved = torch.tensor([0.1, 0.7, 0.5])
    ax = score_figures.heads_moved(
        torch.tensor([0.2, 0.6, 0.9]), moved, {"this one": 1}
    ).axes[0]
    dots = {group.get_label(): group for group in ax.collections}
    assert np.allclose(
        dots["moves half or less"].get_offsets(), [[0.2, 0.1], [0.9, 0.5]]
    )
    assert np.allclose(dots["moves more than half"].get_offsets(), [[0.6, 0.7]])
    assert dots["moves more than half"].get_facecolor()[0][:3] == pytest.approx(
        to_rgba(RED)[:3]
    )
    (label,) = (text for text in ax.texts if text.get_text() == "this one")
    assert np.allclose(label.xy, [0.6, 0.7])


def test_layout_arches_join_the_channels_of_a_pair():
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    ax = figures.layouts(order).axes[0]
    arches = [patch for patch in ax.patches if isinstance(patch, Arc)]
    ends = [
        (a.center[0] - a.width / 2, a.center[0] + a.width / 2, a.center[1])
        for a in arches
    ]
    assert {(a, b) for a, b, y in ends if y > 0} == {(0, 4), (1, 5), (2, 6), (3, 7)}
    assert {(a, b) for a, b, y in ends if y < 0} == {(0, 1), (2, 3), (4, 5), (6, 7)}
    assert len([patch for patch in ax.patches if isinstance(patch, Rectangle)]) == 16


def test_turning_pair_marks_the_same_angle_after_both_have_moved():
    def turn(x, angle):
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s], [s, c]]) @ x

    q, k = np.array([1.0, 0.3]), np.array([0.9, -0.4])
    moved = [("near", turn(q, 1.5), turn(k, 0.5)), ("far", turn(q, 4.0), turn(k, 3.0))]
    fig = figures.turning_pair(np.stack([turn(q, 0.5 * p) for p in range(9)]), moved)
    spans = []
    for ax in fig.axes[1:]:
        (arc,) = (patch for patch in ax.patches if isinstance(patch, Arc))
        spans.append((arc.theta2 - arc.theta1) % 360)
    assert spans[0] == pytest.approx(spans[1])
