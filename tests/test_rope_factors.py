"""Llama 3's scaling in GGUF files: a factor for each frequency, and four numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.checkpoints import read_gguf
from llm_course.checkpoints.rope_factors import scaling_of_factors
from llm_course.errors import CheckpointError
from llm_course.models.rope import scale_frequencies
from tests.checkpoint_tools import assert_close, logits_of

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def factors_of(scaling: dict, head_dim: int, theta: float) -> np.ndarray:
    """How many times slower each frequency becomes, by `transformers`."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        head_dim=head_dim,
        hidden_size=head_dim,
        num_attention_heads=1,
        max_position_embeddings=131072,
        rope_parameters=scaling | {"rope_theta": theta},
    )
    slowed, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / head_dim
    return (1 / theta**exponent / slowed.numpy()).astype(np.float32)


@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_factors_of_llama_3_are_its_four_numbers(head_dim):
    for factor in (8.0, 32.0):
        scaling = LLAMA3 | {"factor": factor}
        factors = factors_of(scaling, head_dim, 500_000.0)
        assert scaling_of_factors(factors, 500_000.0) == scaling
    assert scaling_of_factors(np.ones(head_dim // 2), 500_000.0) is None


def test_a_gguf_file_says_the_context_of_the_scaling(tiny_gguf):
    scaling = LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 40}
    factors = {"rope_freqs.weight": factors_of(scaling, 8, 50.0)}
    theta = {"rope.freq_base": 50.0}
    told = theta | {"rope.scaling.original_context_length": 40}
    assert read_gguf(tiny_gguf(factors, **told)).config.rope_scaling == scaling
    found = read_gguf(tiny_gguf(factors, **theta)).config.rope_scaling
    assert found["original_max_position_embeddings"] == 8192
    assert_close(
        logits_of(tiny_gguf(factors, **theta)), logits_of(tiny_gguf(factors, **told))
    )
    assert not logits_of(tiny_gguf(**theta)).equal(
        logits_of(tiny_gguf(factors, **theta))
    )


@pytest.mark.parametrize(
    ("factors", "keys", "complaint"),
    [
        ([1, 1, 1], {}, r"rope_freqs\.weight is \[3\], not \[4\]"),
        ([1, 1, 0, 8], {}, "not a positive number"),
        ([1, 1, np.nan, 8], {}, "not a positive number"),
        ([1, 1, np.inf, 8], {}, "not a positive number"),
        ([8, 4, 2, 1], {}, "rope_freqs.weight is not supported"),
        ([1, 8, 1, 8], {}, "rope_freqs.weight is not supported"),
        ([1, 1.5, 1.6, 8], {}, "not those of llama3"),
        ([0.5, 1, 1, 1], {}, "quicker"),
        ([1, 1, 8, 8], {"rope.scale_linear": 2.0}, "RoPE scaling twice"),
    ],
)
def test_other_factors_are_refused(tiny_gguf, factors, keys, complaint):
    tensors = {"rope_freqs.weight": np.array(factors)}
    with pytest.raises(CheckpointError, match=complaint):
        read_gguf(tiny_gguf(tensors, **keys))


@settings(max_examples=200, deadline=None)
@given(
    half=st.integers(2, 64),
    theta=st.sampled_from([10.0, 1e4, 5e5]),
    factor=st.floats(1.01, 64),
    low=st.floats(0.2, 3),
    width=st.floats(0.1, 8),
    context=st.integers(16, 20_000),
)
def test_factors_of_any_llama3_scaling_slow_alike(
    half, theta, factor, low, width, context
):
    inv_freq = theta ** -(np.arange(half) / half)
    turns = context * inv_freq / (2 * np.pi)
    keep = np.clip((turns - low) / width, 0, 1)
    factors = (1 / (keep + (1 - keep) / factor)).astype(np.float32)
    found = scaling_of_factors(factors, theta)
    scaled = scale_frequencies(torch.from_numpy(inv_freq), found).numpy()
    assert np.abs(scaled / inv_freq - 1 / factors).max() < 1e-5
