"""What the checkpoint tests share: logits by two programs, and edits to a saved
folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from llm_course.checkpoints import load_pretrained
from llm_course.config import EngineConfig
from llm_course.errors import CheckpointError

CPU = EngineConfig(device="cpu")
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def logits_of(source: str | Path, **engine) -> Tensor:
    model, _ = load_pretrained(source, EngineConfig(device="cpu", **engine))
    with torch.no_grad():
        return model(IDS)


def transformers_logits(folder: Path) -> Tensor:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    ).eval()
    with torch.no_grad():
        return model(IDS).logits


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to float32 rounding, relative to the largest logit."""
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def edit_config(folder: Path, **changes) -> None:
    """Change entries of config.json; `...` takes one out."""
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(
        json.dumps({k: v for k, v in values.items() if v is not ...}), encoding="utf-8"
    )


def edit_tensors(folder: Path, **changes: Tensor | None) -> None:
    """Change tensors of model.safetensors, "__" standing for "."; None takes one
    out."""
    path = folder / "model.safetensors"
    tensors = {k: v.clone() for k, v in load_file(path).items()}
    tensors |= {k.replace("__", "."): v for k, v in changes.items()}
    save_file(
        {k: v for k, v in tensors.items() if v is not None},
        path,
        metadata={"format": "pt"},
    )


def use_whatever_loads(path: Path) -> None:
    """Load, and use what was loaded; our errors are fine, whatever else is not."""
    # ValueError: of texts and ids, not of files
    try:
        _, tokenizer = load_pretrained(path, CPU)
        if tokenizer is not None:
            ids = tokenizer.encode_chat([{"role": "user", "content": "ab<|im_end|>"}])
            tokenizer.tokens(tokenizer.encode(tokenizer.decode(ids)))
    except (
        CheckpointError,
        ValueError,
    ) as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 50_000
