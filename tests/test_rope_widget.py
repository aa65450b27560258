"""The RoPE lab on Python's side: its numbers are the package's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from llm_course.models.attention import SelfAttention, capture_attention
from llm_course.models.rope import RotaryEmbedding, scale_frequencies
from llm_course.widgets import RopeLab
from llm_course.widgets.rope import LabRotary, pair_scores
from tests.helpers import small_model
from tests.test_playground import Letters


@pytest.fixture
def lab() -> RopeLab:
    return RopeLab(small_model(), Letters(), "a cat sat", layer=1, head=3)


def say(widget: RopeLab, **changes: Any) -> None:
    """Send a move as the page does, with these settings changed."""
    message = {"action": "show", "settings": {**widget.settings, **changes}}
    widget._on_message(None, message | {"page": "p", "serial": 1}, [])


def test_the_bars_are_those_of_the_figure(lab: RopeLab) -> None:
    for scaling in ("none", "linear", "llama3"):
        say(lab, theta=5.0, head_dim="64", context=13, scaling=scaling)
        ax = lab.figure().axes[0]
        drawn = [patch for group in ax.containers for patch in group]
        drawn.sort(key=lambda patch: patch.get_x())
        heights = [patch.get_height() for patch in drawn]
        np.testing.assert_allclose(lab.chart["turns"], heights, rtol=1e-5)
        slow = len(ax.containers[1])
        assert sum(lab.chart["never"]) == slow > 0
    assert lab.error == ""


def test_the_dials_stand_where_the_module_turns(lab: RopeLab) -> None:
    say(lab, theta=4.0, head_dim="32", position=1234, context=13)
    cos, sin = RotaryEmbedding(32, 2048, 1e4).cos_sin(torch.tensor([[1234]]))
    speeds = RotaryEmbedding(32, 1, 1e4).inv_freq.double()
    for pair, angle, turns, of_k in lab.chart["dials"]:
        assert of_k == pytest.approx(1231 * float(speeds[pair]))
        assert math.cos(angle) == pytest.approx(float(cos[0, 0, pair]), abs=1e-3)
        assert math.sin(angle) == pytest.approx(float(sin[0, 0, pair]), abs=1e-3)
        assert turns == int(1234 * speeds[pair] / (2 * math.pi))


@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 4.0}])
def test_the_lab_turns_as_the_course_does(scaling: Any) -> None:
    ours = RotaryEmbedding(16, 64, 1e4, scaling)
    q, k = torch.randn(2, 1, 4, 9, 16, generator=torch.Generator().manual_seed(0))
    places = torch.arange(9)[None]
    expected = ours(q, k, places)
    torch.testing.assert_close(LabRotary(16, 1e4, scaling)(q, k, places), expected)
    scores = expected[0] @ expected[1].mT
    half = LabRotary(16, 1e4, scaling, "half-split")(q, k, places)
    torch.testing.assert_close(half[0] @ half[1].mT, scores, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(half[0], expected[0])  # the channels stand elsewhere
    wrong = LabRotary(16, 1e4, scaling, "wrong")(q, k, places)
    assert not torch.allclose(wrong[0] @ wrong[1].mT, scores, atol=0.1)
    halves = torch.cat((q[..., ::2], q[..., 1::2]), dim=-1)  # written out, half-split
    cos, sin = (x.unsqueeze(1) for x in ours.cos_sin(places))
    first, second = halves.chunk(2, dim=-1)
    by_hand = (first * cos - second * sin, first * sin + second * cos)
    torch.testing.assert_close(half[0], torch.cat(by_hand, dim=-1))


def test_both_move_and_the_score_stays_unless_angles_are_rounded(lab: RopeLab) -> None:
    def scores(rounded: bool) -> list[float]:
        found = []
        for position in (10, 300, 2000, 2001):
            say(lab, context=13, position=position, offset=5, rounded=rounded)
            assert lab.chart["places"] == [position, position - 5]
            found.append(lab.chart["score"])
        return found

    exact = scores(False)
    assert max(exact) - min(exact) < 1e-3
    at_offset = dict(lab.chart["curves"])["all 4"][5]
    assert exact[0] == pytest.approx(at_offset, abs=1e-5)
    rough = scores(True)
    assert max(rough) - min(rough) > 0.05


def test_curves_are_means_of_cosines(lab: RopeLab) -> None:
    say(lab, head_dim="32", theta=4.0, pair=7)
    speeds = scale_frequencies(RotaryEmbedding(32, 1, 1e4).inv_freq, None)
    cosines = (torch.arange(129)[:, None] * speeds).cos()  # [offsets, D/2]
    expected = [cosines[:, 7], cosines[:, :4].mean(1), cosines.mean(1)]
    curves = lab.chart["curves"]
    assert [name for name, _ in curves] == ["pair 7", "pairs 0 to 3", "all 16"]
    for (_, drawn), line in zip(curves, expected, strict=True):
        np.testing.assert_allclose(drawn, line, atol=1e-5)
    at_zero = pair_scores(lab.rotary(lab.settings), torch.zeros(1), torch.zeros(1))
    assert torch.equal(at_zero, torch.ones(1, 16))


def test_the_map_is_the_models_and_the_model_stays_as_it_was(lab: RopeLab) -> None:
    ids = torch.tensor([Letters().encode("a cat sat")])
    own = [m.rotary for m in lab.model.modules() if isinstance(m, SelfAttention)]
    with torch.inference_mode(), capture_attention(lab.model) as maps:
        probs = lab.model(ids)[0, -1].softmax(-1)
    np.testing.assert_allclose(lab.sentence["weights"], maps[1][0, 3], atol=1e-5)
    shares = [p for _, p in lab.sentence["words"]]
    assert shares == pytest.approx(probs.topk(3).values.tolist(), rel=1e-3)
    right = lab.sentence
    say(lab, pairs="half-split")
    np.testing.assert_allclose(lab.sentence["weights"], right["weights"], atol=1e-4)
    say(lab, pairs="wrong")
    off = np.subtract(lab.sentence["weights"], right["weights"])
    assert np.abs(off).max() > 0.01
    now = [m.rotary for m in lab.model.modules() if isinstance(m, SelfAttention)]
    assert all(a is b for a, b in zip(own, now, strict=True))


def test_no_map_of_another_sentence_stays_after_an_error(lab: RopeLab) -> None:
    for text in ("", "a", "a" * 25):
        say(lab, text=text)
        assert "takes 2 to 24" in lab.error
        assert lab.sentence == {}
    say(lab, text="ab")
    assert lab.error == ""
