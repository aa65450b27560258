"""Write a model as a Hugging Face folder: what `transformers`, and any server of that
format, loads."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor

from llm_course.arguments import at_least, checked
from llm_course.checkpoints.cache import put_in_place, write_errors
from llm_course.checkpoints.families import family_of
from llm_course.checkpoints.huggingface import INDEX, WEIGHTS
from llm_course.checkpoints.layout import (
    EMBEDDING,
    LM_HEAD,
    Checkpoint,
    heads_to_permute,
    tensor_problems,
    to_half_split,
)
from llm_course.checkpoints.rope_scaling import rope_json
from llm_course.config import ModelConfig
from llm_course.errors import CheckpointError
from llm_course.files import path_of
from llm_course.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llm_course.models import DecoderOnlyModel

MAX_SHARD_BYTES = 5_000_000_000


@checked
def save_pretrained(
    model: DecoderOnlyModel,
    tokenizer: Tokenizer | None,
    folder: str | Path,
    *,
    overwrite: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write `model`, and its tokenizer if there is one, as a Hugging Face folder.

    The weights keep their dtype; q and k rows become half-split, as that format wants
    them; a tied head is left out. The family is llama, qwen2 or qwen3, by the model's
    biases and norms: a Mistral model is saved as the Llama model that it equals. A
    model larger than `max_shard_bytes` is written in several files with an index.
    `load_pretrained(folder)` gives the same weights back, bit by bit.

    The folder appears whole or not at all. One that holds anything is refused; with
    `overwrite`, a model folder (config.json, no folders inside) is replaced as a whole,
    other files in it included.

    Raises CheckpointError for such a folder, for a full disk, for a model whose
    parameters are not those of its config, for a folder that cannot be written, and for
    one that cannot be replaced because a program has a file in it open.
    """
    if not isinstance(getattr(model, "config", None), ModelConfig):
        raise TypeError(
            f"save_pretrained: model = {model!r:.60} is a {type(model).__name__}; give"
            " a DecoderOnlyModel"
        )
    at_least(1, max_shard_bytes=max_shard_bytes)
    weights = {
        name: tensor.detach().cpu() for name, tensor in model.state_dict().items()
    }
    if model.config.tie_word_embeddings:
        head = weights.pop(LM_HEAD, None)
        if head is not None and not head.equal(weights[EMBEDDING]):
            raise CheckpointError(
                "The model's config ties lm_head to the embedding, but the two differ:"
                " make them one tensor, or set tie_word_embeddings to False."
            )
    if family_of(model.config) is None:
        raise CheckpointError(
            "This model cannot be saved: no family has both qkv_bias and qk_norm."
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if problems := tensor_problems(model.config, shapes):
        raise CheckpointError(
            f"This model cannot be saved: {'; '.join(problems)}. Of a model that was"
            " prepared for speed, save the one it was made from."
        )

    target = Path(
        os.path.realpath(path_of(folder))
    )  # `resolve` refuses a loop of links
    with write_errors(target):
        _check_target(target, overwrite)
        _write_beside(
            Checkpoint(model.config, weights, tokenizer),
            target,
            overwrite,
            max_shard_bytes,
        )


def _write_beside(
    checkpoint: Checkpoint, target: Path, overwrite: bool, max_shard_bytes: int
) -> None:
    """Write a folder next to `target`, then put it in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(x.nbytes for x in checkpoint.tensors.values()) + 100_000_000
    if (free := shutil.disk_usage(target.parent).free) < needed:
        raise CheckpointError(
            f"{target} needs {needed / 1e6:,.0f} MB and its disk has {free / 1e6:,.0f}"
            " MB free."
        )
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}-", dir=target.parent
    ) as work:
        made = Path(work) / "made"
        write_folder(checkpoint, made, max_shard_bytes)
        _check_target(target, overwrite)  # again: the writing took a while
        # what was there is removed together with the work folder
        put_in_place(made, target, Path(work) / "replaced")


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    inside = list(target.iterdir()) if target.is_dir() else [target]
    if not inside:
        return
    if not overwrite:
        raise CheckpointError(
            f"{target} is there already and not empty: choose another folder, or pass"
            " overwrite=True to replace a model that was saved there."
        )
    if not (target / "config.json").is_file() or any(path.is_dir() for path in inside):
        raise CheckpointError(
            f"{target} holds other things than a saved model: nothing is replaced."
            " Choose another folder."
        )


def write_folder(
    checkpoint: Checkpoint, folder: Path, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write all files of a Hugging Face folder into `folder`, which must not exist
    yet."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    folder.mkdir(parents=True)
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        heads = heads_to_permute(name, config)
        key = name if name == LM_HEAD else f"model.{name}"
        tensors[key] = to_half_split(tensor, heads) if heads else tensor.contiguous()
    _write_tensors(tensors, folder, max_shard_bytes)
    write_json(folder / "config.json", _config_json(checkpoint))
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", _tokenizer_json(checkpoint))
        write_json(folder / "generation_config.json", _token_ids(checkpoint))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object as people read it."""
    path.write_text(
        json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _write_tensors(
    tensors: dict[str, Tensor], folder: Path, max_shard_bytes: int
) -> None:
    """Write the tensors in order, a new file whenever the next one would not fit any
    more."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    names = [
        f"model-{i:05}-of-{len(shards):05}.safetensors"
        for i in range(1, len(shards) + 1)
    ]
    if len(shards) == 1:
        names = [WEIGHTS]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)  # written as 0600; a lab may share one folder
    if len(shards) > 1:
        table = {
            key: name
            for name, shard in zip(names, shards, strict=True)
            for key in shard
        }
        total = sum(tensor.nbytes for tensor in tensors.values())
        write_json(
            folder / INDEX, {"metadata": {"total_size": total}, "weight_map": table}
        )


def _token_ids(checkpoint: Checkpoint) -> dict[str, Any]:
    tokenizer = checkpoint.tokenizer
    if tokenizer is None:
        return {}
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": list(tokenizer.eos_token_ids),
        "pad_token_id": tokenizer.pad_token_id,
    }


def _config_json(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    named = family_of(config)
    assert named is not None  # or it would not have been made
    model_type, family = named
    dtype = str(checkpoint.tensors[EMBEDDING].dtype).removeprefix("torch.")
    return {
        "architectures": [family.class_name],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.intermediate_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        **rope_json(config),
        "tie_word_embeddings": config.tie_word_embeddings,
        "dtype": dtype,
        "torch_dtype": dtype,  # the name before transformers 5
        **_token_ids(checkpoint),
    }


def _tokenizer_json(checkpoint: Checkpoint) -> dict[str, Any]:
    tokenizer = checkpoint.tokenizer
    assert tokenizer is not None
    template: Any = tokenizer.chat_template
    if isinstance(template, dict):
        template = [{"name": k, "template": v} for k, v in template.items()]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": checkpoint.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "chat_template": template,
        **tokenizer.special_tokens,
    }
