"""The arrays behind the figures of chapter 03."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_course.config import ModelConfig
from llm_course.models import DecoderOnlyModel
from llm_course.models.attention import SelfAttention, capture_attention, causal_mask
from llm_course.viz import attention as viz

TOKENS = ["The", " cat", "\n", " "]


def weights(heads: int = 1, size: int = 4) -> torch.Tensor:
    torch.manual_seed(0)
    scores = torch.randn(heads, size, size)
    return scores.masked_fill(
        ~causal_mask(size, size, scores.device)[0], -torch.inf
    ).softmax(-1)


def drawn(ax) -> np.ndarray:
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_mask_stages_draws_the_same_map_three_times() -> None:
    scores = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    allowed = causal_mask(4, 4, scores.device)[0, 0]
    masked = scores.masked_fill(~allowed, -torch.inf)
    fig = viz.mask_stages(scores, masked, masked.softmax(-1), TOKENS)
    first, second, third = (drawn(ax) for ax in fig.axes[:3])
    np.testing.assert_allclose(first, scores)
    # removed scores show the grey behind
    assert np.array_equal(np.isnan(second), ~allowed.numpy())
    np.testing.assert_allclose(second[allowed], first[allowed])
    assert np.array_equal(np.isnan(third), ~allowed.numpy())
    np.testing.assert_allclose(np.nansum(third, axis=1), 1, rtol=1e-6)
    limits = {ax.images[0].get_clim() for ax in fig.axes[:2]}
    assert len(limits) == 1  # one colour scale: the eye may compare the two
    assert labels(fig.axes[0].xaxis) == ["The", "cat", "⏎", "␣"]


def test_attention_map_writes_the_larger_weights_into_their_squares() -> None:
    fig = viz.attention_map(
        torch.tensor([[1.0, 0.0], [0.93, 0.07]]), TOKENS[:2], "a head"
    )
    written = {text.get_position(): text.get_text() for text in fig.axes[0].texts}
    assert written == {(0, 0): "1.00", (0, 1): ".93"}
    assert labels(fig.axes[0].yaxis) == ["The", "cat"]


def test_grey_is_the_future_and_a_leak_into_it_shows() -> None:
    maps = torch.tensor([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    grey = np.isnan(drawn(viz.attention_map(maps, TOKENS[:3]).axes[0]))
    assert grey.tolist() == [
        [False, False, True],
        [False, False, True],
        [False, False, False],
    ]
    last_two = np.isnan(drawn(viz.attention_map(maps[1:], TOKENS[:3]).axes[0]))
    assert last_two.tolist() == [[False, False, True], [False, False, False]]


def test_one_new_query_is_labelled_with_the_last_token() -> None:
    fig = viz.attention_map(torch.full((1, 4), 0.25), TOKENS)
    assert labels(fig.axes[0].yaxis) == ["␣"]


def test_head_grid_has_a_row_for_each_kv_head() -> None:
    maps = weights(heads=6)
    fig = viz.head_grid(maps, TOKENS, num_kv_heads=2)
    axes = fig.axes[:6]
    for head, ax in enumerate(axes):
        np.testing.assert_allclose(np.nan_to_num(drawn(ax)), maps[head])
        assert ax.get_title(loc="left") == f"query head {head}"
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == ["K/V head 0", "K/V head 1"]
    assert axes[0].get_subplotspec().rowspan.start == 0
    assert axes[3].get_subplotspec().rowspan.start == 1


@pytest.mark.parametrize("reads", [[0, 0, 0, 1, 1, 1], [0, 1, 0, 1]])
def test_sharing_joins_each_query_head_to_the_head_it_reads(reads: list[int]) -> None:
    ax = viz.sharing(reads).axes[0]
    ends = [line.get_xdata() for line in ax.lines]
    assert [top for top, _ in ends] == list(range(len(reads)))
    for (_, bottom), kv in zip(ends, reads, strict=True):
        assert bottom == np.mean([h for h, g in enumerate(reads) if g == kv])


def test_cache_growth_and_scale_study_draw_what_they_are_given() -> None:
    ax = viz.cache_growth(
        [0, 8192], {"nine": [0, 1.13], "three": [0, 0.38]}, 0.54
    ).axes[0]
    assert [line.get_ydata()[-1] for line in ax.lines] == [1.13, 0.38]
    (weights_level,) = ax.collections
    np.testing.assert_allclose(
        weights_level.get_segments()[0], [[0, 0.54], [8192, 0.54]]
    )
    assert "weights of the model: 0.54 GB" in [text.get_text() for text in ax.texts]
    curves = {"a": [0.3, 0.6], "b": [0.2, 0.2]}
    slopes = {"a": [0.8, 0.5], "b": [0.9, 0.9]}
    left, middle, right = viz.scale_study([4, 16], [2.1, 3.9], curves, slopes).axes
    assert list(left.lines[0].get_ydata()) == [2, 4]
    assert list(left.lines[1].get_ydata()) == [2.1, 3.9]
    assert [list(line.get_ydata()) for line in middle.lines] == [[0.3, 0.6], [0.2, 0.2]]
    assert [list(line.get_ydata()) for line in right.lines] == [[0.8, 0.5], [0.9, 0.9]]


def test_sink_by_layer_shows_every_head_and_the_mean() -> None:
    sink = torch.tensor([[0.2, 0.4], [0.6, 1.0]])
    top, bottom = viz.sink_by_layer(sink, sink / 2, 0.3, torch.tensor([1.5, 0.2])).axes
    np.testing.assert_allclose(
        top.collections[0].get_offsets(),
        [[0, 0.2], [0, 0.4], [1, 0.6], [1, 1.0]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(top.lines[0].get_ydata(), [0.3, 0.8], rtol=1e-6)
    np.testing.assert_allclose(top.lines[1].get_ydata(), [0.15, 0.4], rtol=1e-6)
    assert set(top.lines[2].get_ydata()) == {0.3}
    np.testing.assert_allclose(
        [bar.get_height() for bar in bottom.patches], [1.5, 0.2], rtol=1e-6
    )


def test_sink_by_layer_numbers_the_first_the_last_and_the_marked_layers() -> None:
    every = torch.rand(30, 9)
    _, bottom = viz.sink_by_layer(every, every, 0.3, torch.rand(30)).axes
    assert labels(bottom.xaxis) == ["0", "5", "10", "15", "20", "25", "29"]
    top, bottom = viz.sink_by_layer(
        every, every, 0.3, torch.rand(30), marked=(11, 20)
    ).axes
    assert labels(bottom.xaxis) == ["0", "5", "10", "11", "15", "20", "25", "29"]
    assert [patch.get_x() for patch in top.patches] == [10.5, 19.5]


def test_alignments_numbers_the_queries_as_the_last_positions() -> None:
    mask = causal_mask(2, 5, torch.device("cpu"))[0, 0]
    ax = viz.alignments({"bottom right": mask}).axes[0]
    assert labels(ax.yaxis) == ["q3", "q4"]
    assert ax.get_xlabel() == "blue: may read"
    assert np.array_equal(
        np.asarray(ax.collections[0].get_array()).reshape(2, 5), mask.numpy()
    )


@pytest.fixture
def model() -> DecoderOnlyModel:
    torch.manual_seed(0)
    config = ModelConfig(50, 32, 48, num_layers=3, num_heads=4, num_kv_heads=2)
    return DecoderOnlyModel(config).eval()


def test_capturing_a_subclass_keeps_its_own_attend(model: DecoderOnlyModel) -> None:
    class ReadsAll(SelfAttention):
        def attend(self, q, k, v, mask):
            return super().attend(
                q, k, v, torch.ones(1, 1, q.shape[2], k.shape[2]).bool()
            )

    for layer in model.layers:
        layer.self_attn.__class__ = ReadsAll
    ids = torch.tensor([[1, 3, 3, 4]])
    with torch.inference_mode():
        plain = model(ids)
        with capture_attention(model) as maps:
            recorded = model(ids)
    assert torch.equal(plain, recorded)
    assert sorted(maps) == [0, 1, 2]
