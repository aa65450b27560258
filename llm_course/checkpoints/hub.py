"""A model of the Hugging Face hub: from the local cache, or downloaded into it."""

from __future__ import annotations

import re
from pathlib import Path

from llm_course.checkpoints.huggingface import weight_files
from llm_course.errors import CheckpointError

# All that is ever fetched: JSON, safetensors, and the chat templates. No pickles and no
# code.
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)


def is_hub_id(name: object) -> bool:
    """Say whether `name` can be the id of a model on the hub, "org/name", and not a
    path."""
    return (
        isinstance(name, str)
        and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII) is not None
        and not name.lower().endswith(".gguf")
    )


def hub_folder(hub_id: str) -> Path:
    """Return the folder of a hub model in Hugging Face's cache; download what is
    missing.

    A model that is in the cache, whole, is used without asking the network. Raises
    CheckpointError when it is neither there nor to be had.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"There is no folder {hub_id} here, and to look for it on the Hugging Face"
            " hub needs the package huggingface_hub: pip install huggingface_hub, or"
            " give the path of a folder."
        ) from error

    def fetch(local_files_only: bool) -> Path:
        folder = snapshot_download(
            hub_id,
            local_files_only=local_files_only,
            allow_patterns=list(FILES),
            ignore_patterns=["model-*/*"],  # a "*" above also matches subfolders
        )
        return Path(folder)

    try:
        folder = fetch(local_files_only=True)
        if _is_whole(folder):
            return folder
    except (OSError, ValueError):  # not in the cache
        pass
    try:
        return fetch(local_files_only=False)
    except Exception as error:  # the library and its HTTP client raise many kinds
        reason = (
            (str(error).strip() or type(error).__name__)
            .splitlines()[0][:300]
            .rstrip(".:")
        )
        raise CheckpointError(
            f"There is no folder {hub_id} here, and the Hugging Face hub could not give"
            f" it ({reason}): check the name; connect to the network once; for a gated"
            " model, ask for access on its page and log in (`hf auth login`)."
        ) from error


def _is_whole(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    try:
        return all((folder / name).is_file() for name in weight_files(folder))
    except CheckpointError:
        return False
