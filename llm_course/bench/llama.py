"""llama.cpp, by its Python package: the pinned file in four kinds of weights."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm_course.bench.contestants import Contestant, Tell
from llm_course.bench.results import LLAMA
from llm_course.checkpoints import cache_dir
from llm_course.types import TokenIds

FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}  # llama.cpp's numbers; Q4_1 is as pinned


def quantized(source: Path, kind: str) -> Path:
    """The pinned file's weights in another kind, made once by llama.cpp's own tool."""
    if kind not in FILE_TYPES:
        return source
    name = source.stem.removesuffix(".Q4_1")
    made = cache_dir() / "llama.cpp" / f"{name}.{kind}.gguf"
    if made.exists():
        return made
    import llama_cpp

    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # a line a tensor
    made.parent.mkdir(parents=True, exist_ok=True)
    part = made.with_suffix(".part")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = FILE_TYPES[kind], True
    names = (str(path).encode() for path in (source, part))
    if llama_cpp.llama_model_quantize(*names, ctypes.byref(params)):
        raise RuntimeError(f"llama.cpp could not make {made} of {source}")
    part.replace(made)
    return made


def read_a_token(path: Path) -> int:
    """Bytes of a GGUF file's matrices and norms: all but a token table of its own."""
    from gguf import GGUFReader

    sizes = {t.name: int(t.n_bytes) for t in GGUFReader(path).tensors}
    table = sizes["token_embd.weight"] if "output.weight" in sizes else 0
    return sum(sizes.values()) - table


def llama_cpp_contestant(name: str, source: Path, threads: int) -> Contestant:
    """llama.cpp as it comes, one row at a time; its cache is in float16."""
    import llama_cpp

    kind = next(kind for kind, contestant in LLAMA.items() if contestant == name)
    path = quantized(source, kind)
    workers = {"n_threads": threads, "n_threads_batch": threads}
    model = llama_cpp.Llama(str(path), n_ctx=0, verbose=False, **workers)
    speaker = Speaker(llama_cpp, model)
    return Contestant(speaker.generate, speaker.logits, read_a_token(path))


class Speaker:
    """A llama.cpp model that is fed token ids; it keeps the library's objects alive."""

    def __init__(self, library: Any, model: Any) -> None:
        self.library, self.model = library, model

    def feed(self, ids: list[int]) -> np.ndarray:
        """Add tokens to the sequence -> the logits after the last one, [V]."""
        self.model.eval(ids)
        found = self.library.llama_get_logits_ith(self.model.ctx, -1)
        return np.ctypeslib.as_array(found, (self.model.n_vocab(),))

    def generate(self, prompt: TokenIds, n: int, tell: Tell) -> None:
        self.model.reset()
        ids = prompt[0].tolist()
        for _ in range(n):
            ids = [int(self.feed(ids).argmax())]
            tell(torch.tensor([ids]))

    def logits(self, ids: TokenIds) -> Tensor:
        """The logits of every position [S, V], one token at a time."""
        self.model.reset()
        rows = [self.feed([i]).copy() for i in ids[0].tolist()]  # one buffer for all
        return torch.from_numpy(np.stack(rows))
