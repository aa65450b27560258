# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""The fastest form of a model on this machine."""

from __future__ import annotations

import warnings
from types import ModuleType

import torch

from llm_course.arguments import checked
from llm_course.engine.fused import FusedModel, refuse_prepared
from llm_course.engine.quantize import WEIGHTS
from llm_course.models.transformer import DecoderOnlyModel

__all__ = ["compiled_engine", "prepare_for_inference"]


def compiled_engine() -> ModuleType | None:
    """The module `engine.native`, or None where Numba is not installed."""
    try:
        from llm_course.engine import native
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        return None
    return native


@checked
def prepare_for_inference(
    model: DecoderOnlyModel, weights: str = "float32", threads: int | None = None
) -> DecoderOnlyModel:
    """A copy of a model with the weights it has now, faster at inference.

    On the CPU in float32 that is a NativeModel, with matrices in float32, "bfloat16",
    "int8" (groups of 32) or "q4_1" (4 bits; the embedding and the head in int8), on
    `threads` threads (None: as many as PyTorch uses). With 8 or 4 bits, the inputs
    of several rows are rounded to 16 bits. Elsewhere, and without Numba, it is a
    FusedModel, which keeps the weights as they are. Raises ValueError for other
    `weights`, and for fewer bits where no kernels can run.
    """
    if weights not in WEIGHTS:
        raise ValueError(
            f"weights = {weights!r}: must be one of {', '.join(WEIGHTS)} (a GGUF file's"
            ' own numbers: load_pretrained(path, weights="file"))'
        )
    refuse_prepared(model)
    native, weight = compiled_engine(), model.embed_tokens.weight
    suits = weight.device.type == "cpu" and weight.dtype == torch.float32
    if native and suits:
        return native.pack_model(model, weights, threads).eval()
    where = f"on {weight.device} in {weight.dtype}" if native else "without Numba"
    if weights != "float32":
        raise ValueError(
            f"weights = {weights!r} {where}: the kernels run on the CPU, from a float32"
            " model, and need Numba"
        )
    if suits:
        warnings.warn(
            "Numba is not installed, so no kernels can run: pip install numba",
            stacklevel=3,  # `checked` stands between this line and the caller's
        )
    return FusedModel(model).eval()
