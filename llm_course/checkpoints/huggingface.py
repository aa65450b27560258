"""Read a Hugging Face folder (config.json + safetensors) of a Llama-architecture model.

Such files hold q and k rows half-split; they are permuted to adjacent-pair order as they are read.
Only JSON and safetensors are read: nothing is unpickled and no code of the folder runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llm_course.checkpoints.errors import CheckpointError
from llm_course.checkpoints.layout import (
    EMBEDDING,
    LM_HEAD,
    Checkpoint,
    check_tensors,
    heads_to_permute,
    to_adjacent,
)
from llm_course.checkpoints.tokenizer import Tokenizer
from llm_course.config import ModelConfig

_REQUIRED = {
    "vocab_size": "vocab_size",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "max_position_embeddings": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
}


def read_folder(folder: str | Path) -> Checkpoint:
    """Read a folder's config, weights (in the file's dtype, memory-mapped) and tokenizer, if any.

    Raises CheckpointError for a file that is missing or damaged, an architecture that is not Llama,
    a missing RoPE θ, RoPE scaling (not supported yet), and tensors that do not fit the config.
    """
    folder = Path(folder)
    values = _read_json(folder / "config.json")
    stored = read_tensors(folder)
    config = config_from_json(values, tied=LM_HEAD not in stored, source=folder / "config.json")
    if config.tie_word_embeddings and LM_HEAD in stored:
        duplicate = stored.pop(LM_HEAD)
        if EMBEDDING in stored and not duplicate.equal(stored[EMBEDDING]):
            raise CheckpointError(
                f"{folder} ties lm_head to the embedding but stores a different lm_head.weight: "
                "set tie_word_embeddings to false in its config.json."
            )
    check_tensors(config, {name: tuple(t.shape) for name, t in stored.items()}, str(folder))
    for name, tensor in stored.items():
        if heads := heads_to_permute(name, config):
            stored[name] = to_adjacent(tensor, heads)
    return Checkpoint(config, stored, Tokenizer.from_folder(folder))


def config_from_json(values: dict[str, Any], tied: bool, source: Path) -> ModelConfig:
    """Translate the contents of a config.json. `tied` says what an absent tie_word_embeddings means."""
    kind = values.get("model_type")
    if kind != "llama" or values.get("hidden_act", "silu") != "silu":
        raise CheckpointError(
            f"{source} describes model_type {kind!r} with hidden_act "
            f"{values.get('hidden_act', 'silu')!r}: only 'llama' with 'silu' is supported."
        )
    theta, scaling = _rope(values, source)
    missing = [key for key in _REQUIRED.values() if values.get(key) is None]
    missing += [] if theta is not None else ["rope_theta (or rope_parameters.rope_theta)"]
    if missing:
        raise CheckpointError(
            f"{source} lacks {', '.join(missing)}: take it from the model's source."
        )
    try:
        return ModelConfig(
            **{field: values[key] for field, key in _REQUIRED.items()},
            num_kv_heads=values.get("num_key_value_heads"),
            head_dim=values.get("head_dim"),
            rope_theta=theta,
            rope_scaling=scaling,
            tie_word_embeddings=values.get("tie_word_embeddings", tied),
        )
    except ValueError as error:
        raise CheckpointError(f"{source} describes an impossible model: {error}") from error


def _rope(values: dict[str, Any], source: Path) -> tuple[float | None, dict[str, Any] | None]:
    """Return (θ, scaling or None) from `rope_parameters`, or from `rope_theta` and `rope_scaling`."""
    new, old = values.get("rope_parameters") or {}, values.get("rope_scaling") or {}
    thetas = {t for t in (new.get("rope_theta"), values.get("rope_theta")) if t is not None}
    if len(thetas) > 1:
        raise CheckpointError(
            f"{source} gives two values of rope_theta, {sorted(thetas)}: keep one."
        )
    for scaling in (new, old):
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind != "default":
            return next(iter(thetas), None), scaling
    return next(iter(thetas), None), None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read model.safetensors, or the shards its index lists, under this course's names.

    Rows stay as stored (q and k half-split). The `inv_freq` tables of old files are left out.
    """
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if not (folder / files[0]).is_file() and index.is_file():
        files = sorted(set(_read_json(index).get("weight_map", {}).values()))
        if not files or any(Path(name).name != name for name in files):
            raise CheckpointError(f"{index} lists no shards beside it: copy the model again.")
    tensors: dict[str, Tensor] = {}
    for name in files:
        try:
            tensors |= load_file(folder / name)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{folder} does not hold {name}: this course reads weights in safetensors format."
            ) from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{folder / name} is not a whole safetensors file ({error}): copy it again."
            ) from error
    return {
        re.sub(r"^model\.", "", name): tensor
        for name, tensor in tensors.items()
        if not name.endswith("rotary_emb.inv_freq")
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent} does not hold {path.name}: it is not a Hugging Face model folder."
        ) from error
    except ValueError as error:  # also bytes that are not UTF-8
        raise CheckpointError(f"{path} is not JSON ({error}): copy it again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object: copy it again.")
    return values
