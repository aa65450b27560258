"""What the figures of chapter 01 draw where the eye could be misled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from llm_course.viz import layers as viz


def test_norm_weights_has_half_a_layer_a_row_and_names_the_marked_channels() -> None:
    relative = torch.ones(61, 20)
    relative[:, 7] = 0.25
    top, bottom = viz.norm_weights(relative, relative[0], marked=[7, 3]).axes[:2]
    assert top.images[0].get_extent() == [-0.5, 19.5, 30.5, 0]
    np.testing.assert_allclose(
        top.images[0].get_array()[:, 7], np.log2(0.25 + 2**-6), rtol=1e-6
    )
    for ax in (top, bottom):
        assert [text.get_text() for text in ax.texts] == ["7", "3"]


def test_the_colours_of_the_gate_show_the_dip_below_zero() -> None:
    axis = torch.linspace(-4, 4, 9)
    product = F.silu(axis)[None, :] * axis[:, None]
    fig = viz.activation_and_gate(axis, {"SiLU": F.silu(axis)}, axis, product)
    low, high = fig.axes[1].images[0].get_clim()
    assert high == -low == pytest.approx(float(product[:, axis < 0].max()))
    assert high < 0.1 * product.max()


def test_gate_at_work_draws_chance_dotted_in_the_colour_of_its_layer() -> None:
    share = torch.linspace(0.1, 1, 10)
    gates = {"layer 5": torch.randn(4, 10, generator=torch.Generator().manual_seed(0))}
    chance = {"layer 5": share**2}
    left, right = viz.gate_at_work(gates, {"layer 5": share}, chance).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["layer 5"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == [
        "layer 5",
        "by chance",
    ]
    assert right.get_xscale() == "log"
    np.testing.assert_allclose(right.lines[1].get_ydata(), share**2)
    assert right.lines[0].get_color() == right.lines[1].get_color()
    assert [line.get_linestyle() for line in right.lines[:2]] == ["-", ":"]
