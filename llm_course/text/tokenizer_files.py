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

_SPECIAL_TYPE = 3  # in tokenizer.ggml.token_type
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
_MAX_ID = 10_000_000
_ROLES = ("bos", "eos", "eot", "padding")


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
            stacklevel=3,
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
        special = [
            t for t, kind in zip(tokens, types, strict=False) if kind == _SPECIAL_TYPE
        ]
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
    ends = [ids["eos"], ids["eot"], *(vocabulary[t] for t in _ENDINGS if t in special)]
    template = metadata.get("tokenizer.chat_template")
    return {
        "backend": backend,
        "bos_token_id": ids["bos"],
        "eos_token_ids": list(dict.fromkeys(i for i in ends if i is not None)),
        "pad_token_id": ids["padding"],
        "chat_template": template if isinstance(template, str) else None,
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
    backend.no_truncation()  # some files ask to cut or to fill up every text
    backend.no_padding()
    names = ("generation_config.json", "config.json", "tokenizer_config.json")
    generation, model, own = (
        read_json(folder / name) if (folder / name).is_file() else {} for name in names
    )
    size = backend.get_vocab_size(with_added_tokens=True)

    def ids_of(role: str) -> list[int]:
        for values in (generation, model):
            found = values.get(f"{role}_token_id")
            if found is not None:
                try:
                    checked = [
                        _checked_id(i, size)
                        for i in (found if isinstance(found, list) else [found])
                    ]
                except ValueError as error:
                    raise CheckpointError(
                        f"{folder} names {role}_token_id = {found!r:.100} ({error}):"
                        " copy it again."
                    ) from error
                return [i for i in checked if i is not None]
        name = own.get(f"{role}_token")
        name = name.get("content") if isinstance(name, dict) else name
        found = backend.token_to_id(name) if isinstance(name, str) else None
        return [] if found is None else [found]

    template = own.get("chat_template")
    if template is None and (folder / "chat_template.jinja").is_file():
        template = read_text(folder / "chat_template.jinja")
    return {
        "backend": backend,
        "bos_token_id": next(iter(ids_of("bos")), None),
        "eos_token_ids": ids_of("eos"),
        "pad_token_id": next(iter(ids_of("pad")), None),
        "chat_template": template if isinstance(template, str) else None,
    }


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
