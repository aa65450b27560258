"""Read a GGUF file of a Llama, Mistral, Qwen2 or Qwen3 model: its config, its tensors
as float32, its tokenizer.

GGUF stores the q and k rows of a Llama in adjacent-pair order, as this course's RoPE
wants them: they stay. Those of the other families are half-split there and are
permuted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import gguf
import torch
from torch import Tensor

from llm_course.arguments import checked
from llm_course.checkpoints.families import ARCHITECTURES
from llm_course.checkpoints.gguf_config import ROPE_FREQS, config_from_metadata
from llm_course.checkpoints.gguf_header import GgufTensor, UnknownKind, read_header
from llm_course.checkpoints.gguf_kinds import dequantize, readable_kinds, unreadable
from llm_course.checkpoints.layout import (
    EMBEDDING,
    LM_HEAD,
    Checkpoint,
    heads_to_permute,
    refuse,
    tensor_problems,
    to_adjacent,
)
from llm_course.config import ModelConfig
from llm_course.errors import CheckpointError
from llm_course.files import file_at
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
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class OpenGguf(NamedTuple):
    """A GGUF file that fits its config; the tensors, under our names, stay in the
    file. `adjacent` says that q and k rows are in adjacent-pair order there."""

    config: ModelConfig
    tensors: dict[str, GgufTensor]
    tokenizer: Tokenizer | None
    adjacent: bool

    def heads_to_permute(self, name: str) -> int | None:
        """The number of heads in the rows of a tensor that has to be permuted, else
        None."""
        return None if self.adjacent else heads_to_permute(name, self.config)


@checked
def read_gguf(path: str | Path, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Read and dequantize a whole GGUF file; the weights become `dtype`, piece by
    piece. Raises CheckpointError as `open_gguf` does."""
    file = open_gguf(path)
    weights = {}
    for name, tensor in file.tensors.items():
        floats, heads = _weights(tensor, dtype), file.heads_to_permute(name)
        weights[name] = to_adjacent(floats, heads) if heads else floats
    return Checkpoint(file.config, weights, file.tokenizer)


def open_gguf(path: str | Path) -> OpenGguf:
    """Read a GGUF file's header and tokenizer, and check what its tensors are.

    Raises CheckpointError for a file that is missing, truncated or not GGUF, and one
    that lists everything else that is wrong: an architecture, expert layers, RoPE
    scaling or a kind of tensors that is not supported, missing metadata, tensors that
    do not fit the config.
    """
    path = file_at(path)
    try:
        metadata, tensors = read_header(path)
    except UnknownKind as error:
        raise CheckpointError(f"{path} holds {unreadable(str(error))}.") from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check the file and its rights."
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not a whole GGUF file (truncated, damaged, or another format:"
            f" {error!s:.300}): copy or download it again."
        ) from error
    stored = {_our_name(tensor.name): tensor for tensor in tensors}
    problems = ["two names for one tensor"] if len(stored) < len(tensors) else []
    for kind in sorted({tensor.kind for tensor in tensors} - readable_kinds()):
        problems.append(f"it holds {unreadable(kind.name)}")
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    factors = stored.pop(ROPE_FREQS, None)
    if factors is not None and factors.kind in readable_kinds():
        values = dequantize(factors.data, factors.kind).numpy()
    else:
        values = None
    config, more = config_from_metadata(metadata, shapes, values)
    problems += more
    if config is not None:
        shapes.pop(ROPE_FREQS, None)
        problems += tensor_problems(config, shapes)
    refuse(path, problems)
    assert config is not None  # or there are problems
    family = ARCHITECTURES[metadata["general.architecture"]]
    tokenizer = Tokenizer.from_gguf_metadata(metadata)
    return OpenGguf(config, stored, tokenizer, family.adjacent)


def _our_name(name: str) -> str:
    """Translate a GGUF tensor name; an unknown one stays as it is, to be reported as
    unexpected."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        layer, part, role = match.groups()
        return f"layers.{layer}.{_IN_LAYER[part]}.{role}" if part in _IN_LAYER else name
    return _TOP_LEVEL.get(name, name)


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
