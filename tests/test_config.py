"""Impossible configs are refused with the field, the value and the fix."""

from __future__ import annotations

import dataclasses
import json

import pytest

from llm_course.config import EngineConfig, GenerationConfig, ModelConfig
from llm_course.errors import ConfigError
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
        ({"qkv_bias": 1}, ["qkv_bias", "1", "True or False"]),
        ({"qk_norm": None}, ["qk_norm", "None"]),
        ({"rope_theta": 10**400}, ["rope_theta", "1000", "finite"]),
        ({"rope_theta": 10**5000}, ["rope_theta", "thousands of digits", "finite"]),
        ({"vocab_size": 2**63}, ["vocab_size", str(2**63)]),
        ({"rms_norm_eps": "1e-5"}, ["rms_norm_eps", "'1e-5'"]),
        ({"rope_scaling": {"rope_type": ["x"]}}, ["rope_scaling", "['x']", "linear"]),
        ({"rope_scaling": {}}, ["rope_scaling", "{}", "rope_type"]),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 10**400}},
            ["rope_scaling", "positive numbers for factor"],
        ),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": True}},
            ["rope_scaling", "positive numbers for factor"],
        ),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta": 1}},
            ["rope_scaling", "knows nothing of beta"],
        ),
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
        ({"seed": 2**64}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
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


def test_the_same_model_is_the_same_config():
    """A scaling of kind "default" is none; a config keeps no dict of its maker's."""
    assert small_config(rope_scaling={"rope_type": "default"}) == small_config()
    mine = {"rope_type": "linear", "factor": 2.0}
    config = small_config(rope_scaling=mine)
    mine["factor"] = -1.0
    assert config.rope_scaling == {"rope_type": "linear", "factor": 2.0}
    assert ModelConfig.from_dict(dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b"[1]", "holds no JSON object"),
        (b"", "not JSON"),
        (b'{"vocab_size": 1e999}', "missing"),
        (b'{"a": 1}', r"unknown fields \['a'\]"),
    ],
)
@pytest.mark.parametrize("kind", [ModelConfig, EngineConfig, GenerationConfig])
def test_a_file_that_is_no_config(tmp_path, kind, content, complaint):
    file = tmp_path / "config.json"
    file.write_bytes(content)
    if complaint == "missing" and kind is not ModelConfig:
        complaint = "unknown fields"
    with pytest.raises(ConfigError, match=complaint) as error:
        kind.from_json(file)
    assert str(file) in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("path", ["nowhere.json", ".", "", "a" * 300, "~nobody/x", 7])
def test_there_is_no_such_config(path):
    with pytest.raises(ConfigError, match=r"There is no file|is no path"):
        ModelConfig.from_json(path)
