"""The figures of notebook 04 draw the arrays they are given, and nothing else."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from llm_course.viz import decoder as viz

TOKENS = ["The", " cat", ","]


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" Paris", "␣Paris"),
        (",", "“,” comma"),
        (" ", "“␣” space"),
        (";", "“;”"),
        ("a", "a"),
        ("$x", "$x"),
        ("世", "□"),
        ("a-very-long-token", "a-very-long…"),
    ],
)
def test_labels_show_spaces_and_lone_punctuation(token, shown):
    assert viz.label(token) == shown


def test_next_words_draws_each_probability_best_on_top():
    probs = torch.tensor([0.7, 0.2, 0.1])
    ax = viz.next_words(TOKENS, probs, "A prompt").axes[0]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(probs.tolist())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["The", "␣cat", "“,” comma"]
    assert ax.yaxis_inverted()
    assert [t.get_text() for t in ax.texts] == ["0.700", "0.200", "0.100"]


def test_stream_norms_has_a_line_for_each_position_and_starts_at_the_embedding():
    norms = np.arange(1.0, 22.0).reshape(7, 3)
    ax = viz.stream_norms(norms, TOKENS).axes[0]
    lines = [line for line in ax.lines if len(line.get_xdata())]
    assert len(lines) == 3
    for s, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(-1, 6))
        np.testing.assert_array_equal(line.get_ydata(), norms[:, s])
    assert ax.get_yscale() == "log"
    assert ax.get_xticklabels()[0].get_text() == "emb."


def test_additions_draws_both_ratios():
    ax = viz.additions([0.5, 0.25], [2.0, 0.125]).axes[0]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.5, 0.25])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [2.0, 0.125])
    attention, mlp = (to_hex(line.get_color()) for line in ax.lines[:2])
    assert [attention, mlp] == [
        viz.PART_COLORS[part].lower() for part in ("attention", "MLP")
    ]


def test_channel_writes_draws_the_additions_and_their_running_sum():
    top, bottom = viz.channel_writes([3.0, -1.0, 2.0], 507).axes
    assert heights(top) == [3.0, -1.0, 2.0]
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), [3.0, 2.0, 4.0])
    assert "507" in top.get_title(loc="left")


def test_masks_draws_the_three_masks():
    causal = torch.ones(5, 5).tril().bool()
    real = torch.tensor([0, 0, 1, 1, 1]).bool().expand(5, 5)
    fig = viz.masks(real, causal, real & causal)
    drawn = [np.asarray(ax.images[0].get_array()).astype(bool) for ax in fig.axes]
    for array, mask in zip(drawn, (real, causal, real & causal), strict=True):
        np.testing.assert_array_equal(array, mask.numpy())


def test_masks_shades_the_columns_of_padding_and_has_a_key():
    causal = torch.ones(5, 5).tril().bool()
    real = torch.tensor([0, 0, 1, 1, 1]).bool().expand(5, 5)
    fig = viz.masks(real, causal, real & causal)
    assert [len(ax.images) for ax in fig.axes] == [2, 1, 2]
    grey = [
        np.asarray(np.ma.filled(ax.images[1].get_array(), False))
        for ax in fig.axes[::2]
    ]
    np.testing.assert_array_equal(grey[0], ~real.numpy())
    np.testing.assert_array_equal(grey[1], ~real.numpy())
    words = [text.get_text() for text in fig.legends[0].get_texts()]
    assert words == ["condition holds", "key is padding", "key comes later"]


def test_influence_hides_zeros_and_writes_the_rest():
    change = torch.tensor([[9.0, 4.0, 2.0], [0.0, 20.0, 1.0], [1e-5, 0.0, 7.0]])
    ax = viz.influence(change, TOKENS).axes[0]
    hidden = np.ma.getmaskarray(ax.images[0].get_array())
    np.testing.assert_array_equal(hidden, np.tril(np.ones((3, 3), bool), -1))
    assert [t.get_text() for t in ax.texts] == ["9", "4", "2", "20", "1", "7"]


def test_parameter_bars_are_shares_that_fill_the_bar():
    parts = {
        "embedding": 60_000_000,
        "attention": 5_500_000,
        "MLP": 33_500_000,
        "norms": 1_000_000,
    }
    ax = viz.parameter_bars({"a model": parts}).axes[0]
    drawn = [bar for bar in ax.patches if bar.get_width() > 0]
    assert [bar.get_width() for bar in drawn] == pytest.approx(
        [0.6, 0.055, 0.335, 0.01]
    )
    assert drawn[-1].get_x() + drawn[-1].get_width() == pytest.approx(1.0)
    assert to_hex(drawn[0].get_facecolor()) == viz.PART_COLORS["embedding"].lower()
    assert [t.get_text() for t in ax.texts] == [
        "60.0 M\n60%",
        "5.5 M\n6%",
        "33.5 M\n34%",
    ]


def test_parameter_bars_say_which_part_is_too_thin_and_count_in_billions():
    parts = {"embedding": 525_336_576, "MLP": 56_371_445_760, "norms": 1_318_912}
    ax = viz.parameter_bars({"a model": parts}).axes[0]
    assert [t.get_text() for t in ax.texts] == ["56.4 B\n99%"]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "norms (too few to see)" in words
    assert "embedding" in words


def test_lens_curves_draws_ranks_and_probabilities():
    ranks, probs = (
        {"a": torch.tensor([9, 3, 1])},
        {"a": torch.tensor([0.0, 0.25, 0.75])},
    )
    left, right = viz.lens_curves(ranks, probs).axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [9, 3, 1])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [0.0, 0.25, 0.75])
    np.testing.assert_array_equal(left.lines[0].get_xdata(), [-1, 0, 1])
    assert left.yaxis_inverted()


def test_lens_curves_dashes_the_controls():
    curves = {name: [3, 1] for name in "abcde"}
    left = viz.lens_curves(curves, curves).axes[0]
    assert [line.get_linestyle() for line in left.lines] == ["-", "-", "-", "--", "--"]
    names = ("a text → b", "c → d", "e → b")
    same = viz.lens_curves(*[{name: [3, 1] for name in names}] * 2).axes[0].lines
    assert [same[0].get_color() == line.get_color() for line in same] == [1, 0, 1]
    hollow = [line.get_markerfacecolor() == "white" for line in left.lines]
    assert hollow == [False, False, False, True, True]


def test_word_race_starts_at_the_embedding_and_ends_at_the_sum_of_all_parts():
    attention, mlp = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0])
    top, bottom = viz.word_race(-1.0, attention, mlp, " a", " b").axes
    assert heights(top) == [-1.0, 1.0, -2.0, 0.5, 4.0]
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), [-1.0, 0.5, 2.5])
    np.testing.assert_array_equal(bottom.lines[0].get_xdata(), [-1, 0, 1])
    assert bottom.get_xticklabels()[0].get_text() == "emb."


def test_lens_grid_shows_a_label_in_each_cell_with_the_last_layer_on_top():
    probs = torch.linspace(0, 1, 6).reshape(2, 3)
    ax = viz.lens_grid([["x", " y", ","], ["The", " cat", "."]], probs, TOKENS).axes[0]
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), probs.numpy())
    assert ax.images[0].origin == "lower"
    assert [t.get_text() for t in ax.texts] == [
        "x",
        "␣y",
        "“,” comma",
        "The",
        "␣cat",
        "“.” dot",
    ]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["embedding", "layer 0"]
    tick = ax.xaxis.get_major_ticks()[0]
    assert tick.label1.get_visible()
    assert tick.label2.get_visible()  # above as well as below
