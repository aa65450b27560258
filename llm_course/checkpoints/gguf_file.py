"""Read a Llama-architecture GGUF file: its config, its tensors as float32, its
tokenizer.

GGUF stores q and k rows in adjacent-pair order, as this course's RoPE wants them: none
are moved. The layouts of the quantized blocks are those of ggml, which the `gguf`
package also describes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from llm_course.arguments import checked
from llm_course.checkpoints.gguf_header import GgufTensor, read_header
from llm_course.checkpoints.layout import (
    EMBEDDING,
    LM_HEAD,
    Checkpoint,
    refuse,
    table_problems,
    tensor_problems,
)
from llm_course.config import ModelConfig
from llm_course.errors import CheckpointError
from llm_course.text.tokenizer import Tokenizer

_TOP_LEVEL = {
    "token_embd.weight": EMBEDDING,
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


class OpenGguf(NamedTuple):
    """A GGUF file that fits its config; the tensors, under our names, stay in the
    file."""

    config: ModelConfig
    tensors: dict[str, GgufTensor]
    tokenizer: Tokenizer | None


@checked
def read_gguf(path: str | Path, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Read and dequantize a whole GGUF file; the weights become `dtype`, piece by
    piece. Raises CheckpointError as `open_gguf` does."""
    config, tensors, tokenizer = open_gguf(path)
    weights = {name: _weights(tensor, dtype) for name, tensor in tensors.items()}
    return Checkpoint(config, weights, tokenizer)


def open_gguf(path: str | Path) -> OpenGguf:
    """Read a GGUF file's header and tokenizer, and check what its tensors are.

    Raises CheckpointError for a file that is missing, truncated or not GGUF, and one
    that lists everything else that is wrong: an architecture other than "llama", expert
    layers and RoPE scaling other than linear (not supported), missing metadata, tensors
    that do not fit the config.
    """
    path = Path(path)
    try:
        metadata, tensors = read_header(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}: check the path.") from error
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole GGUF file (truncated, damaged, or another format:"
            f" {error!s:.300}): copy or download it again."
        ) from error
    stored = {_our_name(tensor.name): tensor for tensor in tensors}
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    config, problems = _model_config(metadata, shapes)
    if len(stored) < len(tensors):
        problems.append("two names for one tensor")
    if config is not None:
        problems += tensor_problems(config, shapes)
    for kind in sorted({tensor.kind for tensor in tensors}):
        if not _is_readable(kind):
            problems.append(f"tensors of kind {kind.name} cannot be read")
    refuse(path, problems)
    assert config is not None  # or there are problems
    return OpenGguf(config, stored, Tokenizer.from_gguf_metadata(metadata))


def _our_name(name: str) -> str:
    """Translate a GGUF tensor name; an unknown one stays as it is, to be reported as
    unexpected."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name):
        layer, part = match.groups()
        return f"layers.{layer}.{_IN_LAYER[part]}.weight" if part in _IN_LAYER else name
    return _TOP_LEVEL.get(name, name)


def _model_config(
    metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> tuple[ModelConfig | None, list[str]]:
    """Return (config, problems); the config is None where the metadata allow none."""
    problems = []
    if (architecture := metadata.get("general.architecture")) != "llama":
        problems.append(
            f"architecture {architecture!r:.100}: only 'llama' is supported"
        )

    def optional(key: str, default: Any = None) -> Any:
        value = metadata.get(f"llama.{key}", default)
        return default if isinstance(value, list | np.ndarray) else value

    scaling, kind = None, optional("rope.scaling.type", "none")
    if kind == "linear" or (kind == "none" and optional("rope.scale_linear", 1) != 1):
        factor = optional("rope.scaling.factor", optional("rope.scale_linear"))
        scaling = {"rope_type": "linear", "factor": _shortest(factor)}
    elif kind != "none" or "rope_freqs.weight" in shapes:
        problems.append(
            f"RoPE scaling (type {kind!r:.100}) is not supported in GGUF files"
        )
    if experts := optional("expert_count", 0):
        problems.append(
            f"expert layers (llama.expert_count = {experts!r:.100}) are not supported"
        )
    required = {
        "hidden_dim": "embedding_length",
        "intermediate_dim": "feed_forward_length",
        "num_layers": "block_count",
        "num_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        # no default: 10000 would be silently wrong for many models
        "rope_theta": "rope.freq_base",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    }
    missing = [f"llama.{key}" for key in required.values() if optional(key) is None]
    missing += (
        []
        if len(shapes.get(EMBEDDING, ())) == 2
        else ["token_embd.weight (the tensor)"]
    )
    if missing:
        return None, [*problems, f"lacks {', '.join(missing)}"]
    values = {field: _shortest(optional(key)) for field, key in required.items()}
    try:
        config = ModelConfig(
            vocab_size=shapes[EMBEDDING][0],
            num_kv_heads=optional("attention.head_count_kv"),
            head_dim=optional("attention.key_length"),
            rope_scaling=scaling,
            tie_word_embeddings=LM_HEAD not in shapes,
            **values,
        )
    except ValueError as error:
        return None, [*problems, f"its metadata are impossible ({error!s:.300})"]
    for key in ("attention.value_length", "rope.dimension_count"):
        found = optional(key, config.head_dim)
        if found != config.head_dim:
            problems.append(
                f"llama.{key} = {found!r:.100} with heads of {config.head_dim}"
                " channels: must be equal"
            )
    return config, problems + table_problems(config)


def _shortest(value: Any) -> Any:
    """Give a float32 its shortest decimal form: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _weights(tensor: GgufTensor, dtype: torch.dtype) -> Tensor:
    """Dequantize a tensor, 2 million weights at a time: beside the result little memory
    is used."""
    per_block, size = gguf.GGML_QUANT_SIZES[tensor.kind]
    blocks = tensor.data.reshape(-1, size)
    weights = torch.empty(len(blocks) * per_block, dtype=dtype)
    step = 2**16 // per_block
    for i in range(0, len(blocks), step):
        piece = dequantize(blocks[i : i + step], tensor.kind)
        weights[i * per_block : i * per_block + len(piece)] = piece
    return weights.view(tensor.shape)


def _is_readable(kind: Kind) -> bool:
    try:
        dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except CheckpointError:
        return False
    return True


@checked
def dequantize(data: np.ndarray, kind: Kind) -> Tensor:
    """Turn the stored bytes of one tensor into float32 values, flattened.

    A quantized tensor is a row of blocks of 32 weights; a block has a float16 scale d,
    for the "_1" kinds also a float16 minimum m, and 32 small integers q: weight = d * q
    (+ m).
    """
    if kind not in (Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q8_0):
        try:
            with np.errstate(all="ignore"):  # a damaged scale may be infinite
                return torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(-1))
        except NotImplementedError as error:
            raise CheckpointError(
                f"Tensors of kind {kind.name} cannot be read: choose a file with Q4_0,"
                " Q8_0 or F16."
            ) from error
    # the file is read-only
    raw = torch.from_numpy(np.array(data).reshape(-1).view(np.uint8))
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
    """Unpack [blocks, 16] bytes into [blocks, 32]: all low halves first, then all high
    halves."""
    return torch.cat([packed & 15, packed >> 4], dim=1)
