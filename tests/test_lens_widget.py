"""The layer lens on Python's side: guesses, parts left out, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llm_course.widgets import LayerLens
from llm_course.widgets.lens import MAX_TOKENS, without
from tests.helpers import random_ids, small_model
from tests.test_playground import Letters


@pytest.fixture
def lens() -> LayerLens:
    return LayerLens(small_model(), Letters(), "hello")


def say(widget: LayerLens, **changes: Any) -> None:
    """Send a move as the page does, with these settings changed."""
    message = {"action": "show", "settings": {**widget.settings, **changes}}
    widget._on_message(None, message | {"page": "p", "serial": 1}, [])


def shares(pairs: list[tuple[str, float]]) -> list[float]:
    return [p for _, p in pairs]


def test_the_last_row_is_the_models_answer(lens: LayerLens) -> None:
    ids = torch.tensor([Letters().encode("hello")])
    with torch.inference_mode():
        probs = lens.model(ids)[0].softmax(-1)  # [S, V]
    rows = lens.grid["cells"]
    assert (len(rows), len(rows[0])) == (3, 5)  # the embedding and two layers
    for column in range(5):
        best = probs[column].topk(5)
        assert shares(rows[-1][column]) == pytest.approx(best.values.tolist())
        names = [name for name, _ in rows[-1][column]]
        assert names == Letters().tokens(best.indices.tolist())
    assert lens.grid["whole"] == rows[-1][-1]


def test_the_first_row_reads_the_embedding(lens: LayerLens) -> None:
    model, ids = lens.model, torch.tensor([Letters().encode("hello")])
    with torch.inference_mode():
        logits = model.lm_head(model.norm(model.embed_tokens(ids)))[0, 2]
    expected = logits.softmax(-1).topk(5).values.tolist()
    assert shares(lens.grid["cells"][0][2]) == pytest.approx(expected)


def test_the_figure_shows_the_best_of_each_cell(lens: LayerLens) -> None:
    ax = lens.figure().axes[0]
    drawn = ax.images[0].get_array()
    best = [[cell[0][1] for cell in row] for row in lens.grid["cells"]]
    torch.testing.assert_close(torch.tensor(drawn), torch.tensor(best))


def test_parts_left_out_add_nothing() -> None:
    model, ids = small_model(), random_ids(1, 6)
    one_layer = small_model()
    del one_layer.layers[1]
    no_mlp = small_model()
    with torch.no_grad():
        no_mlp.layers[0].mlp.down_proj.weight.zero_()
    with torch.inference_mode():
        whole = model(ids)
        with without(model, [1], []):
            torch.testing.assert_close(model(ids), one_layer(ids))
        with without(model, [], [0]):
            torch.testing.assert_close(model(ids), no_mlp(ids))
        assert torch.equal(model(ids), whole)  # the hooks are gone


def test_the_next_word_is_told_beside_the_whole_models(lens: LayerLens) -> None:
    whole = lens.grid["whole"]
    say(lens, layers=[1], mlps=[0])
    assert lens.grid["out"] == [[1], [0]]
    assert lens.grid["whole"] == whole
    rows = lens.grid["cells"]
    assert rows[-1] == rows[-2]  # layer 1 hands on what it gets
    assert rows[-1][-1] != whole


def test_a_prompt_that_cannot_be_drawn_takes_the_grid_away(lens: LayerLens) -> None:
    for prompt in ("", "a" * (MAX_TOKENS + 1)):
        say(lens, prompt=prompt)
        assert f"takes 1 to {MAX_TOKENS}" in lens.error
        assert lens.grid == {}
    say(lens, prompt="a" * MAX_TOKENS)
    assert lens.error == ""
