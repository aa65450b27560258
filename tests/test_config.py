"""Impossible configs are refused with the field, the value and the fix."""

from __future__ import annotations

import json

import pytest

from llm_course.config import EngineConfig, GenerationConfig, ModelConfig
from tests.helpers import small_config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 7, "head_dim": None}, ["num_heads", "7", "hidden_dim = 64"]),
        ({"num_kv_heads": 3}, ["num_kv_heads", "3", "num_heads = 8"]),
        ({"head_dim": 7}, ["head_dim", "7", "even"]),
        ({"vocab_size": 0}, ["vocab_size", "0", "at least 1"]),
        ({"num_layers": 2.5}, ["num_layers", "2.5", "whole number"]),
        ({"hidden_dim": True}, ["hidden_dim", "True"]),
        ({"rope_theta": float("nan")}, ["rope_theta", "nan", "finite"]),
        ({"rope_theta": 0.0}, ["rope_theta", "at least 1"]),
        ({"rms_norm_eps": -1e-5}, ["rms_norm_eps", "at least 0"]),
        (
            {"rope_scaling": {"rope_type": "yarn"}},
            ["rope_scaling", "yarn", "linear, llama3"],
        ),
        ({"rope_scaling": "linear"}, ["rope_scaling", "'linear'"]),
        ({"rope_scaling": {"rope_type": "linear"}}, ["rope_scaling", "factor"]),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 4.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
            ["low_freq_factor must be below"],
        ),
        ({"tie_word_embeddings": "yes"}, ["tie_word_embeddings", "'yes'"]),
    ],
)
def test_impossible_models(changes, words):
    with pytest.raises(ValueError, match="ModelConfig") as error:
        small_config(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_defaults_follow_from_the_heads():
    config = small_config(num_kv_heads=None)
    assert (config.num_kv_heads, config.head_dim, config.num_query_groups) == (8, 8, 1)
    assert small_config(num_heads=7, num_kv_heads=7, head_dim=10).head_dim == 10
    assert small_config(num_kv_heads=2).num_query_groups == 4


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 2.0}, "top_k"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"seed": "7"}, "seed"),
        ({"do_sample": 1}, "do_sample"),
        ({"guess_ahead": -1}, "guess_ahead"),
        ({"guess_ahead": True}, "guess_ahead"),
        ({"guess_ahead": 2.0}, "guess_ahead"),
    ],
)
def test_impossible_generation(changes, word):
    with pytest.raises(ValueError, match=f"GenerationConfig.{word}"):
        GenerationConfig(**changes)


def test_impossible_engine():
    with pytest.raises(ValueError, match=r"dtype.*int8.*float32"):
        EngineConfig(dtype="int8")
    with pytest.raises(ValueError, match="device"):
        EngineConfig(device="")


def test_configs_are_frozen():
    with pytest.raises(AttributeError):
        small_config().num_heads = 4


def test_from_json(tmp_path):
    file = tmp_path / "model.json"
    values = {
        "vocab_size": 9,
        "hidden_dim": 8,
        "intermediate_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
    }
    file.write_text(json.dumps(values), encoding="utf-8")
    assert ModelConfig.from_json(file) == ModelConfig(9, 8, 8, 1, 2)
    file.write_text(json.dumps(values | {"n_heads": 2}), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"model\.json has unknown fields \['n_heads'\]"
    ):
        ModelConfig.from_json(file)
    file.write_text(json.dumps({"vocab_size": 9}), encoding="utf-8")
    with pytest.raises(ValueError, match="hidden_dim"):
        ModelConfig.from_json(file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON"):
        ModelConfig.from_json(file)
