"""A GGUF file's own numbers, brought straight into the tiles that the kernels read.

The float32 model never exists: matrices are packed one at a time, some rows at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from llm_course.checkpoints.gguf_file import OpenGguf, open_gguf
from llm_course.checkpoints.gguf_header import GgufTensor, release
from llm_course.checkpoints.gguf_kinds import dequantize
from llm_course.checkpoints.layout import to_adjacent
from llm_course.config import EngineConfig
from llm_course.engine.large_pages import LargePages
from llm_course.engine.native import NativeModel
from llm_course.engine.quantize import (
    LANES,
    PackedMatrix,
    pack,
    pack_q4_1,
    pack_q8_0,
)
from llm_course.errors import CheckpointError
from llm_course.text.tokenizer import Tokenizer

PIECE = 2**20  # weights that are unpacked at a time, about
Q8_0 = np.dtype([("d", "<f2"), ("q", "i1", 32)])
Q4_0 = np.dtype([("d", "<f2"), ("q", "u1", 16)])
Q4_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)])


def load_packed(
    path: str | Path,
    engine_config: EngineConfig | None = None,
    threads: int | None = None,
) -> tuple[NativeModel, Tokenizer | None]:
    """Return (model, tokenizer) of a GGUF file whose Q4_0, Q4_1 and Q8_0 matrices stay
    as they are, to the bit; others become float32, with one warning.

    Raises CheckpointError as `open_gguf` does, ValueError for a device other than the
    CPU, a dtype other than float32, and threads < 1.
    """
    asked = engine_config or EngineConfig()
    if asked.device not in ("auto", "cpu") or asked.dtype != "float32":
        raise ValueError(
            f'weights="file" with device = {asked.device!r}, dtype = {asked.dtype!r}:'
            " the kernels run on the CPU, in float32"
        )
    file = open_gguf(path)
    warn_of_others(path, file)
    matrices, norms, memory = {}, {}, LargePages()
    for name, tensor in file.tensors.items():
        heads, name = file.heads_to_permute(name), name.removesuffix(".weight")
        order = adjacent_rows(tensor.shape[0], heads) if heads else None
        if len(tensor.shape) == 1:
            floats = dequantize(tensor.data, tensor.kind).numpy()
            norms[name] = floats if order is None else floats[order]
        else:
            matrices[name] = memory.hold_matrix(pack_tensor(tensor, order))
    model = NativeModel(file.config, matrices, norms, threads)
    return model.eval(), file.tokenizer


def warn_of_others(path: str | Path, file: OpenGguf) -> None:
    """One warning for all matrices that take more memory than in the file."""
    matrices = [x for x in file.tensors.values() if len(x.shape) == 2]
    others = [x.kind.name for x in matrices if x.kind not in PACKERS]
    if others:
        warnings.warn(
            f"{Path(path).name}: {len(others)} of {len(matrices)} matrices are of kind"
            f" {', '.join(sorted(set(others)))} and become float32, 4 bytes a weight;"
            f" {', '.join(kind.name for kind in PACKERS)} stay as they are.",
            stacklevel=5,  # the caller of `load_pretrained`, which is wrapped
        )


def adjacent_rows(rows: int, heads: int) -> NDArray:
    """The half-split rows, by number, in adjacent-pair order."""
    return to_adjacent(torch.arange(rows), heads).numpy()


def pack_tensor(tensor: GgufTensor, order: NDArray | None = None) -> PackedMatrix:
    """Pack a matrix of the file, some rows at a time: beside the result little memory
    is used. `order` lists the rows by number; by default they stay. Raises
    CheckpointError as `pack_q4_0_rows` does."""
    outputs, inputs = tensor.shape
    stored, to_tiles = tensor.data.reshape(outputs, -1), PACKERS.get(tensor.kind)
    # whole tiles, wherever a piece is cut
    step = max(PIECE // inputs // LANES, 1) * LANES
    data, scales = np.empty(0), []
    for i in range(0, outputs, step):
        rows = stored[i : i + step] if order is None else stored[order[i : i + step]]
        if to_tiles is not None:
            piece = to_tiles(rows, inputs)
        else:
            floats = dequantize(rows, tensor.kind).numpy()
            piece = pack(floats.reshape(-1, inputs), "float32")
        if i == 0:
            tiles = -(-outputs // LANES)
            data = np.empty((tiles, *piece.data.shape[1:]), piece.data.dtype)
        data[i // LANES :][: len(piece.data)] = piece.data
        scales.append(piece.scales)
    release(tensor.data)
    return PackedMatrix(piece.kind, data, np.concatenate(scales), outputs, inputs)


def pack_q8_0_rows(rows: NDArray, inputs: int) -> PackedMatrix:
    """Rows of Q8_0 blocks, as bytes -> tiles."""
    blocks = rows.view(Q8_0)  # [rows, groups]
    return pack_q8_0(blocks["q"].reshape(len(rows), -1), blocks["d"], inputs)


def pack_q4_1_rows(rows: NDArray, inputs: int) -> PackedMatrix:
    """Rows of Q4_1 blocks, as bytes -> tiles."""
    blocks = rows.view(Q4_1)
    return pack_q4_1(numbers(blocks["q"]), blocks["d"], blocks["m"], inputs)


def pack_q4_0_rows(rows: NDArray, inputs: int) -> PackedMatrix:
    """Rows of Q4_0 blocks, as bytes -> tiles of q4_1: d (q - 8) = d q + m, m = -8 d.

    A float16 holds -8 d exactly, or not at all: raises CheckpointError for d > 8188.
    """
    blocks = rows.view(Q4_0)
    d = blocks["d"]
    with np.errstate(over="ignore"):
        m = d * np.float16(-8)
    if np.isinf(m).any():
        raise CheckpointError(
            "A block of kind Q4_0 has a scale above 8188, which no trained model has:"
            " copy or download the file again."
        )
    return pack_q4_1(numbers(blocks["q"]), d, m, inputs)


def numbers(q: NDArray) -> NDArray:
    """Bytes [rows, groups, 16] -> numbers from 0 to 15, [rows, groups * 32]: the low
    halves of a block's bytes, then the high ones."""
    return np.concatenate([q & 15, q >> 4], axis=-1).reshape(len(q), -1)


PACKERS: dict[Kind, Callable[[NDArray, int], PackedMatrix]] = {
    Kind.Q4_0: pack_q4_0_rows,
    Kind.Q4_1: pack_q4_1_rows,
    Kind.Q8_0: pack_q8_0_rows,
}
