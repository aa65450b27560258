"""RoPE scaling against `transformers`, and that a model's config reaches its angles."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from llm_course.models import RotaryEmbedding, SelfAttention
from llm_course.models.rope import scale_frequencies
from tests.helpers import small_config, small_model

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
SCALINGS = [
    {"rope_type": "linear", "factor": 4.0},
    LLAMA3,
    LLAMA3 | {"factor": 32.0, "low_freq_factor": 2.0, "high_freq_factor": 3.0},
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=["linear", "llama3", "llama3-steep"])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_frequencies_equal_transformers(scaling, theta):
    theirs = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        max_position_embeddings=4096,
        rope_parameters=scaling | {"rope_theta": theta},
    )
    inv_freq, _ = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](theirs, "cpu")
    ours = RotaryEmbedding(64, 4096, theta, scaling)
    torch.testing.assert_close(ours.inv_freq, inv_freq, rtol=1e-5, atol=0)
    assert not torch.equal(ours.inv_freq, RotaryEmbedding(64, 4096, theta).inv_freq)


def test_no_scaling_leaves_the_frequencies():
    inv_freq = RotaryEmbedding(64).inv_freq
    assert torch.equal(scale_frequencies(inv_freq, None), inv_freq)
    assert torch.equal(scale_frequencies(inv_freq, {"rope_type": "default"}), inv_freq)


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="yarn"):
        scale_frequencies(torch.ones(4), {"rope_type": "yarn", "factor": 2.0})


def test_a_configs_scaling_reaches_every_layer():
    scaling = {"rope_type": "linear", "factor": 2.0}
    config = small_config(rope_scaling=scaling)
    wanted = RotaryEmbedding(8, rope_scaling=scaling).inv_freq
    assert torch.equal(SelfAttention(config).rotary.inv_freq, wanted)
    model = small_model(rope_scaling=scaling)
    assert all(
        torch.equal(layer.self_attn.rotary.inv_freq, wanted) for layer in model.layers
    )
