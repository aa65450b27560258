"""From a name or a path to a model that is ready to run, or to its tensors alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from llm_course.arguments import checked
from llm_course.checkpoints.convert import converted_folder
from llm_course.checkpoints.download import PINNED_MODELS, ensure_gguf, unknown_model
from llm_course.checkpoints.gguf_file import read_gguf
from llm_course.checkpoints.hub import hub_folder, is_hub_id
from llm_course.checkpoints.huggingface import read_folder
from llm_course.checkpoints.layout import EMBEDDING, LM_HEAD, Checkpoint
from llm_course.config import EngineConfig
from llm_course.errors import CheckpointError
from llm_course.files import path_of
from llm_course.text.tokenizer import Tokenizer

if TYPE_CHECKING:  # load_tensors must work before the reader has built any model code
    from llm_course.models import DecoderOnlyModel


@checked
def load_pretrained(
    name_or_path: str | Path,
    engine_config: EngineConfig | None = None,
    *,
    weights: str = "float32",
    threads: int | None = None,
) -> tuple[DecoderOnlyModel, Tokenizer | None]:
    """Return (model, tokenizer) of a checkpoint, in eval mode and without gradients.

    `name_or_path` is the name of the pinned model ("smollm2-135m-instruct": downloaded
    and converted on first use), a folder in Hugging Face format, the id of such a model
    on the hub ("org/name", found in Hugging Face's own cache or downloaded), or a .gguf
    file, which is read directly each time and leaves nothing in the cache. The
    tokenizer is None where the checkpoint has none. The weights go to the device and
    dtype of `engine_config` (default: the best device, float32); q and k rows are in
    adjacent-pair order. On the CPU in the file's own dtype the weights stay mapped to
    the file.

    With weights="file" the model is a NativeModel on `threads` threads of the CPU. It
    keeps a GGUF file's own numbers (Q4_0, Q4_1, Q8_0), so that it needs little more
    memory than the file; nothing is converted.

    No code that comes with a checkpoint is run, and nothing is unpickled.

    Raises CheckpointError for anything wrong with the checkpoint, ValueError for a
    device not here and for other `weights`.
    """
    if weights == "file":
        from llm_course.checkpoints.packed import load_packed

        return load_packed(gguf_of(name_or_path), engine_config, threads)
    if weights != "float32":
        raise ValueError(
            f'weights = {weights!r}: must be "float32" or "file"; to round a loaded'
            f" model's weights, prepare_for_inference(model, weights={weights!r})"
        )
    if threads is not None:
        raise ValueError(
            f'threads = {threads}: only with weights="file"; otherwise'
            f" prepare_for_inference(model, threads={threads})"
        )
    from llm_course.models.transformer import DecoderOnlyModel, resolve_device

    engine_config = engine_config or EngineConfig()
    device, dtype = (
        resolve_device(engine_config.device),
        getattr(torch, engine_config.dtype),
    )
    checkpoint = read_checkpoint(name_or_path, dtype)
    tensors = checkpoint.tensors
    # one by one, so that the two copies never coexist in full
    for name in list(tensors):
        tensors[name] = tensors[name].to(device=device, dtype=dtype)
    # shapes only: no memory, no random numbers
    with (
        torch.device("meta"),
        _NoInitialValues(),
    ):
        model = DecoderOnlyModel(checkpoint.config)
    if checkpoint.config.tie_word_embeddings:
        tensors[LM_HEAD] = tensors[EMBEDDING]
    model.load_state_dict(tensors, assign=True)
    if checkpoint.config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model.eval().requires_grad_(False), checkpoint.tokenizer


@checked
def load_tensors(name_or_path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint as float32 tensors, under Hugging Face's
    names.

    For example `model.embed_tokens.weight` [vocab, hidden] or
    `model.layers.0.self_attn.q_proj.weight` [heads * head_dim, hidden]; a matrix is
    [out, in]. A tied `lm_head.weight` is absent. **The rows of q_proj and k_proj are in
    adjacent-pair order**, as this course's RoPE wants them, not half-split as in
    Hugging Face's files.

    Takes what `load_pretrained` takes and raises what it raises, and needs nothing of
    `llm_course.models`. Writing into the tensors does not change the file.
    """
    tensors = read_checkpoint(name_or_path).tensors
    return {
        name if name == LM_HEAD else f"model.{name}": tensor.float()
        for name, tensor in tensors.items()
    }


def read_checkpoint(
    name_or_path: str | Path, dtype: torch.dtype = torch.float32
) -> Checkpoint:
    """Read a pinned model, a Hugging Face folder, a hub model or a .gguf file.

    `dtype` is what the weights of a .gguf file become; the others keep the dtype of
    their file.
    """
    if is_pinned(name_or_path):
        return read_folder(converted_folder(str(name_or_path)))
    path = path_of(name_or_path)
    if os.path.isdir(path):
        return read_folder(path)
    if os.path.isfile(path):
        if path.suffix.lower() == ".gguf":
            return read_gguf(path, dtype)
        raise CheckpointError(
            f"{path} is neither a .gguf file nor a folder: give one of the two."
        )
    if is_hub_id(name_or_path):
        return read_folder(hub_folder(str(name_or_path)))
    raise not_there(name_or_path)


def gguf_of(name_or_path: str | Path) -> Path:
    """The .gguf file that a name or a path stands for. Raises CheckpointError where it
    is something else."""
    if is_pinned(name_or_path):
        return ensure_gguf(str(name_or_path))
    path = path_of(name_or_path)
    if os.path.isfile(path) and path.suffix.lower() == ".gguf":
        return path
    if os.path.exists(path) or is_hub_id(name_or_path):
        raise CheckpointError(
            f'weights="file" needs a .gguf file or {", ".join(PINNED_MODELS)}, and'
            f" {name_or_path} is neither: load it without, then"
            " prepare_for_inference(model, weights=...)."
        )
    raise not_there(name_or_path)


def is_pinned(name: object) -> bool:
    """Say whether it is the name of a pinned model."""
    return isinstance(name, str) and name in PINNED_MODELS


def not_there(name_or_path: str | Path) -> CheckpointError:
    """The error for a path where nothing is, or for a name that no model has."""
    text = str(name_or_path)
    if isinstance(name_or_path, str) and not re.search(r"[/\\~]|\.gguf$", text):
        return unknown_model(name_or_path)
    what = "file" if text.lower().endswith(".gguf") else "folder"
    return CheckpointError(f"There is no such {what}: {text:.300}; check the path.")


class _NoInitialValues(TorchFunctionMode):
    """Skip `torch.nn.init`: the values are replaced at once, and drawing them would
    load 1 s of code."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
