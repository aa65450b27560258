"""The kinds of numbers in a GGUF file, as float32.

The layouts of the quantized blocks are those of ggml, which the `gguf` package also
describes.
"""

from __future__ import annotations

from functools import lru_cache

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from llm_course.arguments import checked
from llm_course.errors import CheckpointError


@checked
def dequantize(data: np.ndarray, kind: Kind) -> Tensor:
    """Turn the stored bytes of one tensor into float32 values, flattened.

    A quantized tensor is a row of blocks of 32 weights; a block has a float16 scale d,
    for the "_1" kinds also a float16 minimum m, and 32 small integers q: weight = d * q
    (+ m). Raises CheckpointError for a kind that cannot be read.
    """
    if kind not in (Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q8_0):
        try:
            with np.errstate(all="ignore"):  # a damaged scale may be infinite
                return torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(-1))
        except NotImplementedError as error:
            raise CheckpointError(f"Here are {unreadable(kind.name)}.") from error
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


@lru_cache
def readable_kinds() -> frozenset[Kind]:
    """All kinds that `dequantize` turns into floats."""
    return frozenset(kind for kind in Kind if _is_readable(kind))


def _is_readable(kind: Kind) -> bool:
    if kind in (Kind.F32, Kind.F16, Kind.BF16):
        return True
    try:
        block = np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
        gguf.quants.dequantize(block, kind)
    except NotImplementedError:
        return False
    return True


def unreadable(kind: str) -> str:
    """Say that tensors of a kind cannot be read, which can, and what to do."""
    kinds = ", ".join(kind.name for kind in sorted(readable_kinds()))
    return (
        f"tensors of kind {kind}, which cannot be read ({kinds} can): download the"
        " model in another kind, or convert it to F16 or Q8_0 with llama-quantize, a"
        " program of llama.cpp"
    )
