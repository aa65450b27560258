"""Every kind of value in every place of a config or a header: it loads, or it is one of
the course's own errors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from llm_course.checkpoints import gguf_file, load_pretrained
from llm_course.checkpoints.gguf_header import read_header
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import CPU, edit_config

PLAIN = [
    *(True, False, 0, -1, 1, 3, 2**31, 2**63, 0.5, -0.0, 1e-320, 1e300),
    *(float("nan"), float("inf"), "", "x", "none", "linear", "a" * 10_000),
]
JSON_VALUES = [
    *PLAIN,
    *(None, 10**400, [], [1], ["x"], [[]], {}, {"a": {}}),
    *({"rope_type": ["x"]}, {"rope_type": "linear"}, {"type": "linear", "factor": []}),
]
GGUF_VALUES = [
    *PLAIN,
    *([], ["x"], ["llama", "qwen2"], np.array([1, 2]), np.array([0.5]), np.array([])),
]


@pytest.mark.slow
def test_any_value_in_a_config(tiny_folder):
    folder = tiny_folder()
    before = (folder / "config.json").read_bytes()
    keys = [*json.loads(before), "sliding_window", "use_sliding_window", "rope_theta"]
    for key, value in itertools.product([*keys, "rope_scaling"], JSON_VALUES):
        (folder / "config.json").write_bytes(before)
        edit_config(folder, **{key: value})
        loads_or_says_why(folder, (key, value))


@pytest.mark.slow
def test_any_value_in_a_header(tiny_gguf, monkeypatch):
    path = tiny_gguf({"rope_freqs.weight": np.array([1, 1, 4, 8])})
    metadata, tensors = read_header(path)
    keys = [*metadata, "split.count", "llama.attention.key_length"]
    keys += ["llama.attention.value_length", "llama.attention.sliding_window"]
    keys += [f"llama.rope.scaling.{name}" for name in ("type", "factor")]
    keys += ["llama.rope.scaling.original_context_length", "llama.rope.scale_linear"]
    keys += ["llama.rope.dimension_count", "llama.logit_scale", "llama.expert_count"]
    for key, value in itertools.product(keys, GGUF_VALUES):
        changed = metadata | {key: value}
        monkeypatch.setattr(gguf_file, "read_header", lambda _, m=changed: (m, tensors))
        loads_or_says_why(path, (key, value))


def loads_or_says_why(path: Path, case: tuple[str, object]) -> None:
    try:
        load_pretrained(path, CPU)
    except CheckpointError as error:
        assert len(str(error)) < 5000, case  # noqa: PT017
    except Exception as error:
        raise AssertionError(f"{case[0]} = {case[1]!r:.100}: {error!r}") from error
