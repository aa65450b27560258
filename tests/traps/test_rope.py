"""The traps of RoPE: which channels form a pair, in which precision, up to which
position."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import nbformat
import pytest
import torch

from llm_course.config import EngineConfig, ModelConfig
from llm_course.models import RotaryEmbedding, apply_rotary, build_decoder_only_model
from tests.helpers import random_ids, small_config, small_model
from tests.parity.configs import Case, adjacent_order, build_pair

ROOT = Path(__file__).parents[2]


def test_rope_pairs_are_adjacent():
    x = torch.zeros(1, 1, 1, 8)
    x[..., 0] = 1.0
    turned, _ = RotaryEmbedding(8)(x, x, torch.tensor([[1]]))
    # half-split would move it to channel 4
    assert turned.nonzero()[:, -1].tolist() == [0, 1]


def test_a_mismatched_pairing_moves_the_logits():
    """Rows in the right order give the reference's logits; rows in half-split order do
    not."""
    case = Case(small_config(), padding=(0,), length=12, seed=3)
    pair = build_pair(case)
    with torch.inference_mode():
        right = pair.theirs(case.ids, use_cache=False).logits
        assert (pair.ours(case.ids) - right).abs().max() < 1e-5 * right.abs().max()
        for layer in pair.ours.layers:
            for projection, heads in (
                (layer.self_attn.q_proj, 8),
                (layer.self_attn.k_proj, 2),
            ):
                back = adjacent_order(heads, 8).argsort()  # adjacent -> half-split
                projection.weight.copy_(projection.weight[back])
        wrong = pair.ours(case.ids)
    assert (wrong - right).abs().max() > 1e-2 * right.abs().max()


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_k_rows_permuted_by_another_number_of_heads_move_the_logits(heads):
    """k has 2 heads of 8 channels here; the count of q's heads, or of all rows as one,
    is wrong."""
    case = Case(small_config(), padding=(0,), length=12, seed=3)
    pair = build_pair(case)
    with torch.inference_mode():
        right = pair.theirs(case.ids, use_cache=False).logits
        theirs = pair.theirs.model.layers[0].self_attn.k_proj.weight
        ours = pair.ours.layers[0].self_attn.k_proj.weight
        ours.copy_(theirs[adjacent_order(heads, 16 // heads)])
        wrong = pair.ours(case.ids)
    assert (wrong - right).abs().max() > 1e-2 * right.abs().max()


def test_rope_is_float32_after_a_cast_and_after_growth():
    model = build_decoder_only_model(small_config(), EngineConfig("cpu", "bfloat16"))
    rope = model.layers[0].self_attn.rotary
    # in the table, which was built for 64 and cast; and past it
    for position in (
        50,
        4095,
    ):
        cos, sin = rope.cos_sin(torch.tensor([[position]]))
        assert cos.dtype == torch.float32
        angle = torch.tensor(float(position)) / 10000.0 ** (torch.arange(0, 8, 2) / 8)
        torch.testing.assert_close(cos[0, 0], angle.cos())
        torch.testing.assert_close(sin[0, 0], angle.sin())
    q = torch.randn(1, 1, 1, 8).bfloat16()
    assert apply_rotary(q, cos, sin).dtype == torch.bfloat16


def test_rope_table_grows_and_stays():
    rope, full = RotaryEmbedding(8, 4), RotaryEmbedding(8, 64)
    positions = torch.tensor([[3, 50, 4]])
    for grown, right in zip(
        rope.cos_sin(positions), full.cos_sin(positions), strict=True
    ):
        assert torch.equal(grown, right)
    assert len(rope._cos) == 51  # asked for more than double
    for grown, right in zip(
        rope.cos_sin(torch.tensor([[51]])),
        full.cos_sin(torch.tensor([[51]])),
        strict=True,
    ):
        assert torch.equal(grown, right)  # one past the end
    assert len(rope._cos) == 102  # doubled, so that growing token by token stays cheap


def test_the_two_layouts_are_called_adjacent_and_half_split():
    """Other names are used for both layouts elsewhere, so the course uses none of
    them."""
    texts = {
        path: path.read_text("utf-8") for path in (ROOT / "llm_course").rglob("*.py")
    }
    texts[ROOT / "README.md"] = (ROOT / "README.md").read_text("utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        texts[path] = "\n".join(
            cell.source for cell in nbformat.read(path, as_version=4).cells
        )
    ambiguous = re.compile(r"\binterleaved\b|\bGPT-?J\b|\b(GPT-?)?NeoX\b", re.I)
    found = {
        path.name: match[0]
        for path, text in texts.items()
        if (match := ambiguous.search(text))
    }
    assert len(texts) > 20
    assert found == {}


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope", "no_such_kind", None])
def test_an_unknown_kind_of_scaling_is_an_error(kind):
    """A config that asks for scaling must never give a model that leaves it out."""
    scaling = {"rope_type": kind, "factor": 2.0}
    values = dataclasses.asdict(small_config()) | {"rope_scaling": scaling}
    with pytest.raises(ValueError, match=rf"rope_scaling.*{kind}.*linear, llama3"):
        ModelConfig(**values)


def test_linear_and_llama3_scaling_move_the_logits():
    """They are applied (tests/test_rope_scaling.py and tests/parity say: rightly), not
    read and left."""
    scalings = [
        None,
        {"rope_type": "linear", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ]
    ids = random_ids(1, 12)
    with torch.inference_mode():
        plain, linear, llama3 = (small_model(rope_scaling=s)(ids) for s in scalings)
    assert (plain - linear).abs().max() > 1e-2
    assert (plain - llama3).abs().max() > 1e-2
    assert (linear - llama3).abs().max() > 1e-2
