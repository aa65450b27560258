"""What a GGUF file or a model folder says about its tokenizer, as the arguments of
`Tokenizer`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from llm_course.errors import CheckpointError, library_errors
from llm_course.files import read_json, read_text
from llm_course.text.chat_template import ChatTemplate
from llm_course.text.growth import check_growth

# in tokenizer.ggml.token_type
_SPECIAL_TYPE, _USER_DEFINED_TYPE = 3, 4
# How each kind of tokenizer in a GGUF file splits text before its merges are applied.
_SPLITTERS: dict[str, Callable[[], list[Any]]] = {
    "smollm": lambda: [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "gpt-2": lambda: [pre_tokenizers.ByteLevel(add_prefix_space=False)],
}
# A file names one end-of-sequence token; a model that chats may end with any of these.
_ENDINGS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>")
_OLD_NAMES, _MORE_TEMPLATES = "special_tokens_map.json", "additional_chat_templates"
_MAX_ID = 10_000_000
_ROLES = ("bos", "eos", "eot", "padding", "unknown", "seperator", "cls", "mask")
# What a template may name, and the role whose id it is in a GGUF file, where one of
# them has been misspelt from the beginning.
_TOKENS = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",
    "pad_token": "padding",
    "cls_token": "cls",
    "mask_token": "mask",
}


def from_gguf_metadata(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Read the tables of a GGUF file; see `Tokenizer.from_gguf_metadata`."""
    tables = {k.removeprefix("tokenizer.ggml."): v for k, v in metadata.items()}
    get: Callable[..., Any] = tables.get
    if get("tokens") is None:
        return None
    kind, splitter = get("model"), get("pre", "gpt-2")
    if kind != "gpt2" or not isinstance(splitter, str) or splitter not in _SPLITTERS:
        warnings.warn(
            f"This GGUF file's tokenizer (model {kind!r:.100}, pre {splitter!r:.100})"
            " is not supported; the weights load, the tokenizer is None.",
            stacklevel=4,
        )
        return None
    tokens, merges, types = get("tokens"), get("merges", []), get("token_type", [])
    with library_errors("The tokenizer in this GGUF file is damaged"):
        for name, table in (("tokens", tokens), ("merges", merges)):
            if not isinstance(table, list) or not all(
                isinstance(item, str) for item in table
            ):
                raise ValueError(f"its {name} are no list of strings")
        if not isinstance(types, list | np.ndarray):
            raise ValueError("its token types are no list of numbers")
        vocabulary = {token: i for i, token in enumerate(tokens)}
        if len(vocabulary) != len(tokens):
            raise ValueError("a token appears twice")
        special, plain = (
            [t for t, found in zip(tokens, types, strict=False) if found == kind]
            for kind in (_SPECIAL_TYPE, _USER_DEFINED_TYPE)
        )
        ids = {
            name: _checked_id(get(f"{name}_token_id"), len(tokens)) for name in _ROLES
        }
        backend = tokenizers.Tokenizer(
            models.BPE(vocabulary, [tuple(m.split(" ")) for m in merges])
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence(_SPLITTERS[splitter]())
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t in special]
        )
        backend.add_tokens([AddedToken(t, normalized=False) for t in plain])
    ends = [ids["eos"], ids["eot"], *_endings(backend)]
    template = metadata.get("tokenizer.chat_template")
    prefix = "tokenizer.chat_template."
    named = [
        {"name": key.removeprefix(prefix), "template": value}
        for key, value in metadata.items()
        if key.startswith(prefix)
    ]
    if named and isinstance(template, str):
        named.append({"name": "default", "template": template})
    names = {
        token: tokens[i]
        for token, role in _TOKENS.items()
        if (i := ids.get(role)) is not None
    }
    return {
        "backend": backend,
        "bos_token_id": ids["bos"],
        "eos_token_ids": list(dict.fromkeys(i for i in ends if i is not None)),
        "pad_token_id": ids["padding"],
        "chat_template": _templates(named or template),
        "special_tokens": names,
    }


def from_folder(folder: Path) -> dict[str, Any] | None:
    """Read tokenizer.json and the files beside it; see `Tokenizer.from_folder`."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    with library_errors(f"{path} cannot be read"):
        backend = tokenizers.Tokenizer.from_str(read_text(path))
        if (largest := max(backend.get_vocab().values(), default=0)) > _MAX_ID:
            # the library counts up to the largest id whenever it writes a tokenizer
            raise ValueError(f"a token has the id {largest}")
        check_growth(backend)
    backend.no_truncation()  # some files ask to cut or to fill up every text
    backend.no_padding()
    generation, model, own = (
        _json(folder / name)
        for name in ("generation_config.json", "config.json", "tokenizer_config.json")
    )
    size = 1 + largest
    names = _special_tokens(folder, own)

    def ids_of(role: str) -> list[int]:
        """From all files that say something, the one for generation first."""
        found = [
            i
            for values in (generation, model)
            for i in _listed_ids(values.get(f"{role}_token_id"), role, size, folder)
        ]
        named = backend.token_to_id(names.get(f"{role}_token", ""))
        return found if named is None else [*found, named]

    return {
        "backend": backend,
        "bos_token_id": next(iter(ids_of("bos")), None),
        "eos_token_ids": list(dict.fromkeys([*ids_of("eos"), *_endings(backend)])),
        "pad_token_id": next(iter(ids_of("pad")), None),
        "chat_template": _folder_templates(folder, own),
        "special_tokens": names if own else None,
    }


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _listed_ids(found: Any, role: str, size: int, folder: Path) -> list[int]:
    """An id or a list of them as a JSON file has it; null is none."""
    try:
        checked = [
            _checked_id(i, size)
            for i in (found if isinstance(found, list) else [found])
        ]
    except ValueError as error:
        raise CheckpointError(
            f"{folder} names {role}_token_id = {found!r:.100} ({error}): copy it again."
        ) from error
    return [i for i in checked if i is not None]


def _special_tokens(folder: Path, own: dict[str, Any]) -> dict[str, str]:
    """The names that a template may use: those of tokenizer_config.json, or of the
    older special_tokens_map.json."""
    older = {} if "added_tokens_decoder" in own else _json(folder / _OLD_NAMES)
    names = {}
    for token in _TOKENS:
        found = older.get(token, own.get(token))
        name = found.get("content") if isinstance(found, dict) else found
        if isinstance(name, str):
            names[token] = name
    return names


def _folder_templates(folder: Path, own: dict[str, Any]) -> ChatTemplate | None:
    """The chat templates of a folder: files of their own come before the ones in
    tokenizer_config.json."""
    files = {
        path.stem: path for path in sorted((folder / _MORE_TEMPLATES).glob("*.jinja"))
    }
    if (single := folder / "chat_template.jinja").is_file():
        files["default"] = single
    found = [
        {"name": name, "template": read_text(path)} for name, path in files.items()
    ]
    if len(files) == 1 and "default" in files:
        return read_text(files["default"])
    return _templates(found or own.get("chat_template"))


def _templates(found: Any) -> ChatTemplate | None:
    """A template, or a list of {"name": …, "template": …}; None for anything else."""
    if isinstance(found, str):
        return found
    entries = found if isinstance(found, list) else []
    named = {
        entry["name"]: entry["template"]
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("template"), str)
    }
    return named or None


def _endings(backend: tokenizers.Tokenizer) -> list[int]:
    """The ids of special tokens that end a turn, whatever the files say."""
    added = backend.get_added_tokens_decoder().items()
    special = {token.content: i for i, token in added if token.special}
    return [special[name] for name in _ENDINGS if name in special]


def _checked_id(token_id: Any, size: int) -> int | None:
    """Return a token id, or None for none. Raises ValueError for what is no whole
    number.

    An id outside the vocabulary of `size` is none, too: old files write -1, and some
    models were given a padding token that their tokenizer does not know.
    """
    if token_id is None:
        return None
    if isinstance(token_id, bool) or not isinstance(token_id, int):
        raise ValueError(f"{token_id!r:.100} is no token id")
    return token_id if 0 <= token_id < size else None
