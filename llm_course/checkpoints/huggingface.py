"""Read a Hugging Face folder (config.json + safetensors) of a Llama, Mistral, Qwen2 or
Qwen3 model.

Such files hold q and k rows half-split; they are permuted to adjacent-pair order as
they are read. Only JSON and safetensors are read: nothing is unpickled and no code of
the folder runs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llm_course.arguments import checked
from llm_course.checkpoints.families import (
    FAMILIES,
    SUPPORTED,
    UNSUPPORTED,
    has_effect,
    window_problems,
)
from llm_course.checkpoints.layout import (
    EMBEDDING,
    LM_HEAD,
    Checkpoint,
    heads_to_permute,
    list_names,
    refuse,
    table_problems,
    tensor_problems,
    to_adjacent,
)
from llm_course.checkpoints.rope_scaling import read_rope
from llm_course.config import ModelConfig
from llm_course.errors import CheckpointError
from llm_course.files import path_of, read_json
from llm_course.text.tokenizer import Tokenizer

INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
_REQUIRED = {
    "vocab_size": "vocab_size",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "max_position_embeddings": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MAX_HEADER = 10_000_000  # bytes; that of a model with 1,000 tensors has about 100,000


@checked
def read_folder(folder: str | Path) -> Checkpoint:
    """Read a folder's config, weights (in the file's dtype, memory-mapped) and
    tokenizer, if any.

    Raises CheckpointError for a file that is missing or damaged, and one that lists
    everything this course does not build: another family, other biases, a sliding
    window, kinds of RoPE, a missing RoPE θ, and tensors that are missing, unexpected,
    misshapen or not floating-point.
    """
    folder = path_of(folder)
    if not os.path.isdir(folder):
        raise CheckpointError(f"There is no such folder: {folder!s:.300}; check it.")
    values = read_json(folder / "config.json")
    stored = read_tensors(folder)
    config, problems = config_from_json(values, tied=LM_HEAD not in stored)
    if config is not None:
        if config.tie_word_embeddings and LM_HEAD in stored:
            duplicate = stored.pop(LM_HEAD)
            if EMBEDDING in stored and not _equal(duplicate, stored[EMBEDDING]):
                problems.append(
                    "the config ties lm_head to the embedding, but the file holds a"
                    " different lm_head.weight (is tie_word_embeddings false?)"
                )
        problems += tensor_problems(
            config, {name: tuple(t.shape) for name, t in stored.items()}
        )
    for dtype in sorted({t.dtype for t in stored.values()} - {*_DTYPES}, key=str):
        names = list_names([name for name, t in stored.items() if t.dtype == dtype])
        problems.append(f"stored as {str(dtype).removeprefix('torch.')}: {names}")
    refuse(folder, problems)
    assert config is not None  # or there are problems
    for name, tensor in stored.items():
        if heads := heads_to_permute(name, config):
            stored[name] = to_adjacent(tensor, heads)
    return Checkpoint(config, stored, Tokenizer.from_folder(folder))


def config_from_json(
    values: dict[str, Any], tied: bool
) -> tuple[ModelConfig | None, list[str]]:
    """Translate the contents of a config.json into (config, problems).

    `tied` says what an absent tie_word_embeddings means. The config is None where the
    values allow none; it may be there although there are problems, so that the tensors
    can be compared with it.
    """
    kind = values.get("model_type")
    found = FAMILIES.get(kind) if isinstance(kind, str) else None
    family = found or FAMILIES["llama"]
    problems = [] if found else [f"model_type {kind!r:.100}: {SUPPORTED}"]
    values = {**family.defaults, **values}
    names = values.get("architectures")
    right = not names or (isinstance(names, list) and family.class_name in names)
    if found and not right:
        problems.append(
            f"architectures {names!r:.100}: of {kind} models only"
            f" {family.class_name!r} is supported"
        )
    problems += _unsupported(values, family.qkv_bias)
    theta, scaling, rope_problems = read_rope(values)
    problems += rope_problems
    if missing := [key for key in _REQUIRED.values() if values.get(key) is None]:
        return None, [*problems, f"config.json lacks {', '.join(missing)}"]
    sizes = [*_REQUIRED.values(), "num_key_value_heads", "head_dim"]
    if absurd := [
        key for key in sizes if isinstance(values.get(key), int) and values[key] > 2**62
    ]:
        return None, [
            *problems,
            f"config.json has absurdly large values of {', '.join(absurd)}",
        ]
    try:
        config = ModelConfig(
            **{field: values[key] for field, key in _REQUIRED.items()},
            num_kv_heads=cast(int, values.get("num_key_value_heads")),
            head_dim=cast(int, values.get("head_dim")),
            # 1.0 is never used: a missing theta is a problem
            rope_theta=1.0 if theta is None else theta,
            rope_scaling=scaling,
            tie_word_embeddings=values.get("tie_word_embeddings", tied),
            qkv_bias=family.qkv_bias,
            qk_norm=family.qk_norm,
        )
    except ValueError as error:
        return None, [
            *problems,
            f"config.json describes an impossible model ({error!s:.300})",
        ]
    if values.get("use_sliding_window") is not False:
        window = values.get("sliding_window")
        problems += window_problems("sliding_window", window, config)
    return config, problems + table_problems(config)


def _unsupported(values: dict[str, Any], qkv_bias: bool) -> list[str]:
    """Return one line for each key that asks for what no supported family does."""
    asked = [key for key in UNSUPPORTED if has_effect(key, values.get(key))]
    if not qkv_bias and has_effect("attention_bias", values.get("attention_bias")):
        asked.append("attention_bias")  # which means one for o as well
    if values.get("hidden_act") not in (None, "silu", "swish"):  # two names for one
        asked.append("hidden_act")
    return [f"{key} {values[key]!r:.100}: not supported" for key in asked]


def weight_files(folder: Path) -> list[str]:
    """Return the names of a folder's weight files: model.safetensors, or the shards of
    its index.

    Raises CheckpointError for an index that is damaged or names files elsewhere.
    """
    index = folder / INDEX
    if os.path.isfile(folder / WEIGHTS) or not os.path.isfile(index):
        return [WEIGHTS]
    table = read_json(index).get("weight_map")
    names = list(table.values()) if isinstance(table, dict) else []
    if not names or not all(
        isinstance(name, str) and re.fullmatch(r"[^/\\:]+\.safetensors", name)
        for name in names
    ):
        raise CheckpointError(
            f"{index} lists no shards beside it: copy the model again."
        )
    return sorted(set(names))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read model.safetensors, or the shards its index lists, under this course's names.

    Rows stay as stored (q and k half-split). The `inv_freq` tables of old files are
    left out. Raises CheckpointError for a file that is missing or damaged, and for a
    tensor that is there twice.
    """
    tensors: dict[str, Tensor] = {}
    for file_name in weight_files(folder):
        for stored_name, tensor in _load(folder / file_name).items():
            name = stored_name.removeprefix("model.")
            if name in tensors:
                raise CheckpointError(
                    f"{folder} holds {name[:200]} twice, the second time in"
                    f" {file_name}: copy the model again."
                )
            if not name.endswith("rotary_emb.inv_freq"):
                tensors[name] = tensor
    return tensors


def _load(path: Path) -> dict[str, Tensor]:
    if not os.path.isfile(path):
        raise CheckpointError(
            f"{path.parent} does not hold {path.name:.200}: this course reads weights"
            " in safetensors format, and no other."
        )
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > _MAX_HEADER:
            raise SafetensorError(f"its header is announced with {header:,} bytes")
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error!s:.300}): copy it again."
        ) from error


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.equal(b)
