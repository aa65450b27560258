"""Read a Llama-architecture GGUF file: its config, its tensors as float32, its tokenizer.

GGUF stores q and k rows in adjacent-pair order, as this course's RoPE wants them: none are moved.
The layouts of the quantized blocks are those of ggml, which the `gguf` package also describes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from llm_course.checkpoints.errors import CheckpointError
from llm_course.checkpoints.layout import LM_HEAD, Checkpoint, check_tensors
from llm_course.checkpoints.tokenizer import Tokenizer
from llm_course.config import ModelConfig

_TOP_LEVEL = {
    "token_embd.weight": "embed_tokens.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": LM_HEAD,
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read_gguf(path: str | Path) -> Checkpoint:
    """Read and dequantize a whole GGUF file.

    Raises CheckpointError for a file that is missing, truncated or not GGUF, for an architecture other
    than "llama", for RoPE scaling and expert layers (not supported), for missing metadata, and for
    tensors that do not fit the config.
    """
    path = Path(path)
    reader = _open(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    stored = {_our_name(t.name): t for t in reader.tensors}
    shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in stored.items()}
    config = _model_config(metadata, shapes, path)
    check_tensors(config, shapes, str(path))
    tensors = {
        name: dequantize(t.data, t.tensor_type).view(shapes[name]) for name, t in stored.items()
    }
    return Checkpoint(config, tensors, Tokenizer.from_gguf_metadata(metadata))


def _open(path: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}: check the path.") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is not a whole GGUF file (truncated, damaged, or another format: {error}): "
            "copy or download it again."
        ) from error


def _our_name(name: str) -> str:
    """Translate a GGUF tensor name; an unknown one stays as it is, to be reported as unexpected."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name):
        layer, part = match.groups()
        return f"layers.{layer}.{_IN_LAYER[part]}.weight" if part in _IN_LAYER else name
    return _TOP_LEVEL.get(name, name)


def _model_config(
    metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]], path: Path
) -> ModelConfig:
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise CheckpointError(
            f"{path} has architecture {architecture!r}: only 'llama' is supported."
        )

    def optional(key: str, default: Any = None) -> Any:
        return metadata.get(f"llama.{key}", default)

    scaling = optional("rope.scaling.type", "none")
    if scaling != "none" or optional("rope.scale_linear", 1) != 1 or "rope_freqs.weight" in shapes:
        raise CheckpointError(
            f"{path} asks for RoPE scaling (type {scaling!r}), which is not supported yet: "
            "choose a model without it."
        )
    if optional("expert_count", 0):
        raise CheckpointError(
            f"{path} has expert layers (llama.expert_count = {optional('expert_count')}), which are "
            "not supported: choose a dense model."
        )
    required = {
        "hidden_dim": "embedding_length",
        "intermediate_dim": "feed_forward_length",
        "num_layers": "block_count",
        "num_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        "rope_theta": "rope.freq_base",  # no default: 10000 would be silently wrong for many models
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    }
    missing = [f"llama.{key}" for key in required.values() if optional(key) is None]
    missing += [] if "embed_tokens.weight" in shapes else ["token_embd.weight (the tensor)"]
    if missing:
        raise CheckpointError(
            f"{path} lacks {', '.join(missing)}: convert the model to GGUF again with current tools."
        )
    values = {field: _shortest(optional(key)) for field, key in required.items()}
    try:
        config = ModelConfig(
            vocab_size=shapes["embed_tokens.weight"][0],
            num_kv_heads=optional("attention.head_count_kv"),
            head_dim=optional("attention.key_length"),
            tie_word_embeddings=LM_HEAD not in shapes,
            **values,
        )
    except ValueError as error:
        raise CheckpointError(f"The metadata of {path} is impossible: {error}") from error
    for key in ("attention.value_length", "rope.dimension_count"):
        found = optional(key, config.head_dim)
        if found != config.head_dim:
            raise CheckpointError(
                f"{path} has llama.{key} = {found} with heads of {config.head_dim} channels, which "
                "is not supported: the two must be equal."
            )
    return config


def _shortest(value: Any) -> Any:
    """Give a float32 its shortest decimal form: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def dequantize(data: np.ndarray, kind: Kind) -> Tensor:
    """Turn the stored bytes of one tensor into float32 values, flattened.

    A quantized tensor is a row of blocks of 32 weights; a block has a float16 scale d, for the "_1"
    kinds also a float16 minimum m, and 32 small integers q: weight = d * q (+ m).
    """
    if kind not in (Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q8_0):
        try:
            return torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(-1))
        except NotImplementedError as error:
            raise CheckpointError(
                f"Tensors of kind {kind.name} cannot be read: choose a file with Q4_0, Q8_0 or F16."
            ) from error
    raw = torch.from_numpy(
        np.array(data).reshape(-1).view(np.uint8)
    )  # a copy: the file is read-only
    if kind == Kind.F32:
        return raw.view(torch.float32)
    if kind == Kind.F16:
        return raw.view(torch.float16).float()
    if kind == Kind.BF16:
        return raw.view(torch.bfloat16).float()

    block = raw.view(-1, gguf.GGML_QUANT_SIZES[kind][1])  # [blocks, bytes in a block]
    d = block[:, :2].view(torch.float16).float()  # [blocks, 1]
    if kind == Kind.Q8_0:
        return (d * block[:, 2:].view(torch.int8)).view(-1)
    if kind == Kind.Q4_0:
        return (d * (_nibbles(block[:, 2:]).to(torch.int8) - 8)).view(-1)
    m = block[:, 2:4].view(torch.float16).float()
    return (d * _nibbles(block[:, 4:]) + m).view(-1)


def _nibbles(packed: Tensor) -> Tensor:
    """Unpack [blocks, 16] bytes into [blocks, 32]: all low halves first, then all high halves."""
    return torch.cat([packed & 15, packed >> 4], dim=1)
