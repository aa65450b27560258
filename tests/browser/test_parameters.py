"""The configurator: its counts are those of a model that is built, and of its page."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llm_course.models import DecoderOnlyModel
from llm_course.widgets import ParameterLab
from llm_course.widgets.parameters import SHAPES, config_of, count
from tests.browser.bare import WIDTHS, Bare

SMALL = {**SHAPES["tiny"], "layers": 3, "hidden": 128, "kv_heads": 2, "group": "4"}


@pytest.mark.parametrize("tied", [True, False])
def test_counts_are_those_of_a_model_that_is_built(tied: bool) -> None:
    config = config_of({**SMALL, "tied": tied})
    assert (config.num_heads, config.num_kv_heads) == (8, 2)
    with torch.device("meta"):
        model = DecoderOnlyModel(config)
    parts = count(config)
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    assert parts["MLP"] == sum(
        p.numel() for layer in model.layers for p in layer.mlp.parameters()
    )
    assert (parts["output head"] == 0) is tied


def test_known_models_have_their_known_sizes() -> None:
    totals = {name: sum(count(config_of(s)).values()) for name, s in SHAPES.items()}
    assert totals["SmolLM2 135M"] == 134_515_008
    assert totals["tiny"] == 19_007_744
    assert totals["Llama 2 7B"] == 6_738_415_616
    assert totals["Llama 3 8B"] == 8_030_261_248
    assert totals["Llama 3 70B"] == 70_553_706_496


def test_the_figure_has_a_bar_for_each_known_model() -> None:
    (ax,) = ParameterLab().figure().axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(SHAPES)


@pytest.mark.slow
def test_the_page_shows_the_parts_and_follows_its_controls(page: Any) -> None:
    bare = Bare(page, ParameterLab())
    page.get_by_role("combobox", name="shape of").select_option("Llama 3 8B")
    bare.pump()
    assert bare.widget.settings == SHAPES["Llama 3 8B"]
    assert page.get_by_text("8,030,261,248 parameters").is_visible()
    page.get_by_role("slider", name="layers").press("ArrowRight")
    page.get_by_role("combobox", name="queries for each").select_option("1")
    page.get_by_role("checkbox", name="one matrix").check()
    bare.pump()
    changed = {"layers": 33, "group": "1", "tied": True}
    assert bare.widget.settings == SHAPES["Llama 3 8B"] | changed
    assert page.get_by_role("combobox", name="shape of").input_value() == "–"
    lines = page.get_by_role("list", name="parts").get_by_role("listitem")
    for text, (name, number) in zip(
        lines.all_inner_texts(), bare.widget.parts.items(), strict=True
    ):
        share = 100 * number / bare.widget.total
        assert " ".join(text.split()) == f"{name} {number:,}, {share:.1f} %"


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    Bare(page, ParameterLab()).assert_fits()
