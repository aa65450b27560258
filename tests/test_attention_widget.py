"""The attention explorer on Python's side: maps, rankings, knock-outs, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llm_course.models.attention import SelfAttention, capture_attention
from llm_course.widgets import AttentionExplorer
from llm_course.widgets.attention import MAX_TOKENS
from llm_course.widgets.heads import REPEATED, habits, look, ranked, repeated_ids
from tests.helpers import small_model
from tests.test_playground import Letters

SENTENCE = "a cat sat"


@pytest.fixture
def explorer() -> AttentionExplorer:
    return AttentionExplorer(small_model(), Letters(), SENTENCE, layer=1, head=3)


def say(widget: AttentionExplorer, **changes: Any) -> None:
    """Send a move as the page does, with these settings changed."""
    message = {"action": "show", "settings": {**widget.settings, **changes}}
    widget._on_message(None, message | {"page": "p", "serial": 1}, [])


def large(widget: AttentionExplorer) -> np.ndarray:
    """Scores and weights as the page gets them: [2, S, S]."""
    size = len(widget.chart["tokens"])
    return np.frombuffer(widget.large, np.float32).reshape(2, size, size)


def captured(widget: AttentionExplorer) -> dict[int, torch.Tensor]:
    ids = torch.tensor([widget.tokenizer.encode(widget.settings["sentence"])])
    with torch.inference_mode(), capture_attention(widget.model) as maps:
        widget.model(ids)
    return maps


def test_the_maps_are_those_of_the_model(explorer: AttentionExplorer) -> None:
    maps = captured(explorer)
    np.testing.assert_allclose(large(explorer)[1], maps[1][0, 3], atol=1e-6)
    say(explorer, layer=0, head=7)
    np.testing.assert_allclose(large(explorer)[1], maps[0][0, 7], atol=1e-6)
    small = np.frombuffer(explorer.maps, np.uint8).reshape(2, 8, 9, 9)
    np.testing.assert_allclose(small[1] / 255, maps[1][0], atol=0.003)
    assert explorer.chart["head"] == [0, 7]
    layers = [m for m in explorer.model.modules() if isinstance(m, SelfAttention)]
    assert not any("attend" in vars(layer) for layer in layers)


def test_masked_scores_become_the_weights(explorer: AttentionExplorer) -> None:
    scores, weights = torch.from_numpy(large(explorer).copy())
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    soft = scores.masked_fill(later, -torch.inf).softmax(-1)
    torch.testing.assert_close(soft, weights)


def test_the_still_picture_is_the_map_that_is_chosen(
    explorer: AttentionExplorer,
) -> None:
    ax = explorer.figure().axes[0]
    drawn = np.ma.filled(ax.images[0].get_array(), 0.0)
    np.testing.assert_allclose(drawn, large(explorer)[1], atol=1e-6)
    assert ax.get_title(loc="left") == "layer 1, query head 3 (K/V head 0)"


def test_habits_find_the_heads_that_have_them() -> None:
    size = 2 * REPEATED
    weights = torch.zeros(1, 4, size, size)
    at = torch.arange(size)
    weights[0, 0, at, (at - 1).clamp(min=0)] = 1
    weights[0, 1, at, 0] = 1
    weights[0, 2, at, at] = 1
    weights[0, 3, at, (at - REPEATED + 1).clamp(min=0)] = 1
    found = habits(weights, weights)
    names = ["token before", "first token", "itself", "induction"]
    for head, name in enumerate(names):
        assert ranked(found[name], 1) == [(0, head, 1.0)]
    assert not found["entropy"].any()
    even = torch.full((1, 1, 4, 4), 0.25)
    assert habits(even, weights)["entropy"] == pytest.approx(2.0)  # bits
    ids = repeated_ids(96)
    assert ids[:REPEATED] == ids[REPEATED:]


def test_a_head_knocked_out_gives_nothing(explorer: AttentionExplorer) -> None:
    ids, model = Letters().encode(SENTENCE), explorer.model
    without = small_model()
    layer = without.layers[1].self_attn
    with torch.no_grad():  # the columns of o_proj that read this head
        layer.o_proj.weight[:, 3 * layer.head_dim : 4 * layer.head_dim] = 0
        expected = without(torch.tensor([ids]))[0, -1]
        torch.testing.assert_close(look(model, ids, [(1, 3)]).logits, expected)
        whole = model(torch.tensor([ids]))[0, -1].softmax(-1)
    say(explorer, out=[[1, 3]])
    now = expected.softmax(-1)
    assert [w[2] for w in explorer.chart["words"]] == pytest.approx(
        now.topk(5).values.tolist()
    )
    before = whole[now.topk(5).indices].tolist()
    assert [w[1] for w in explorer.chart["words"]] == pytest.approx(before)


def test_a_sentence_that_cannot_be_drawn_takes_the_old_maps_away(
    explorer: AttentionExplorer,
) -> None:
    for sentence in ("", "ab", "a" * (MAX_TOKENS + 1)):
        say(explorer, sentence=sentence)
        assert f"takes 3 to {MAX_TOKENS}" in explorer.error
        assert explorer.chart == {}
    for sentence in ("abc", "a" * MAX_TOKENS):
        say(explorer, sentence=sentence)
        assert explorer.error == ""
        assert len(explorer.chart["tokens"]) == len(sentence)
