"""Turn a GGUF file into a Hugging Face folder, once, so that later loads take about a second.

The folder is the real thing: `transformers` and other programs load it too. Its weights are float32,
its q and k rows half-split, as that format wants them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tqdm import tqdm

from llm_course.checkpoints.cache import cache_dir, work_folder
from llm_course.checkpoints.download import ensure_gguf, pinned_model
from llm_course.checkpoints.gguf_file import read_gguf
from llm_course.checkpoints.layout import LM_HEAD, Checkpoint, heads_to_permute, to_half_split

FORMAT = 1  # count up when the written files change: folders of an older format are then ignored
_RECEIPT = "conversion.json"


def converted_folder(name: str) -> Path:
    """Return the pinned model's Hugging Face folder in the cache; download and convert if needed.

    The folder's name holds the source's checksum and the format's number, and a receipt written last
    lists the size of every file. A folder whose files do not match is made afresh. Raises
    CheckpointError as `ensure_gguf` does, and for a disk that is too full.
    """
    model = pinned_model(name)
    folder = cache_dir() / f"{name}-{model.sha256[:12]}-v{FORMAT}"
    if _is_whole(folder):
        return folder
    source = ensure_gguf(name)
    message = f"Converting {source.name} for quicker loads (only this once, some seconds)"
    with (
        work_folder(600_000_000) as work,
        tqdm(total=1, desc=message, bar_format="{desc}", leave=False),
    ):
        made = work / "converted"
        convert_gguf(source, made)
        if folder.exists() and not _is_whole(folder):
            os.rename(folder, work / "damaged")  # removed together with the work folder
        try:
            os.rename(made, folder)
        except OSError:
            if not _is_whole(folder):  # otherwise another process was quicker: its copy is as good
                raise
    return folder


def convert_gguf(path: str | Path, folder: str | Path) -> None:
    """Write the GGUF file at `path` as a Hugging Face model folder, which must not exist yet.

    About 4 bytes a weight. Raises CheckpointError as `read_gguf` does.
    """
    checkpoint, folder = read_gguf(path), Path(folder)
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        heads = heads_to_permute(name, config)
        key = name if name == LM_HEAD else f"model.{name}"
        tensors[key] = to_half_split(tensor, heads) if heads else tensor
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # written as 0600; a lab may share one cache
    _write(folder / "config.json", _config_json(checkpoint))
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer.json")
        _write(folder / "tokenizer_config.json", _tokenizer_json(checkpoint))
        _write(folder / "generation_config.json", _token_ids(checkpoint))
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    _write(folder / _RECEIPT, {"format": FORMAT, "source": Path(path).name, "sizes": sizes})


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _RECEIPT).read_text(encoding="utf-8"))["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
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
        # transformers 5 reads the first spelling, older programs the second
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_word_embeddings,
        "dtype": "float32",
        "torch_dtype": "float32",
        **_token_ids(checkpoint),
    }


def _tokenizer_json(checkpoint: Checkpoint) -> dict[str, Any]:
    tokenizer = checkpoint.tokenizer
    named = {
        "bos_token": tokenizer.bos_token_id,
        "eos_token": next(iter(tokenizer.eos_token_ids), None),
        "pad_token": tokenizer.pad_token_id,
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": checkpoint.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "chat_template": tokenizer.chat_template,
        **{role: tokenizer.name_of(i) for role, i in named.items() if i is not None},
    }
