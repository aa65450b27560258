"""Text to token ids and back, and chats to text.

The splitting itself is done by Hugging Face's `tokenizers` library. What is added here: no character is
dropped silently, and streamed text never breaks in the middle of a character.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from llm_course.checkpoints.byte_level import BYTE_OF
from llm_course.checkpoints.chat import render_chat
from llm_course.checkpoints.errors import CheckpointError

_SPECIAL_TYPE = 3  # in tokenizer.ggml.token_type
# How each kind of tokenizer in a GGUF file splits text before its merges are applied.
_SPLITTERS = {
    "smollm": lambda: [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "gpt-2": lambda: [pre_tokenizers.ByteLevel(add_prefix_space=False)],
}
# A file names one end-of-sequence token; a model that chats may end with any of these.
_ENDINGS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>")


class Tokenizer:
    """A tokenizer, its special tokens and its chat template.

    `eos_token_ids` are all ids that end a text; `bos_token_id`, `pad_token_id` and `chat_template` are
    None where the checkpoint gives none.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos_token_id: int | None = None,
        eos_token_ids: Sequence[int] = (),
        pad_token_id: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        self._backend = backend
        self.bos_token_id = bos_token_id
        self.eos_token_ids = tuple(eos_token_ids)
        self.pad_token_id = pad_token_id
        self.chat_template = chat_template
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token_ids={self.eos_token_ids})"

    @classmethod
    def from_gguf_metadata(cls, metadata: dict[str, Any]) -> Tokenizer | None:
        """Build the tokenizer that a GGUF file describes: byte-level BPE from its tokens and merges.

        Returns None for a file without a tokenizer, and, with a warning, for a kind that is not
        byte-level BPE with a known splitting rule. Raises CheckpointError for inconsistent tables.
        """
        get = {k.removeprefix("tokenizer.ggml."): v for k, v in metadata.items()}.get
        if get("tokens") is None:
            return None
        kind, splitter = get("model"), get("pre", "gpt-2")
        if kind != "gpt2" or splitter not in _SPLITTERS:
            warnings.warn(
                f"This GGUF file's tokenizer (model {kind!r}, pre {splitter!r}) is not supported; the "
                "weights load, the tokenizer is None.",
                stacklevel=2,
            )
            return None
        tokens, types = get("tokens"), get("token_type", [])
        vocabulary = {token: i for i, token in enumerate(tokens)}
        try:
            if len(vocabulary) != len(tokens):
                raise ValueError("a token appears twice")
            merges = [tuple(pair.split(" ")) for pair in get("merges", [])]
            backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(
                f"The tokenizer in this GGUF file is damaged ({error}): copy the file again."
            ) from error
        backend.pre_tokenizer = pre_tokenizers.Sequence(_SPLITTERS[splitter]())
        backend.decoder = decoders.ByteLevel()
        special = [t for t, kind in zip(tokens, types, strict=False) if kind == _SPECIAL_TYPE]
        backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
        named = [get("eos_token_id"), get("eot_token_id")]
        named += [vocabulary[t] for t in _ENDINGS if t in special]
        return cls(
            backend,
            bos_token_id=get("bos_token_id"),
            eos_token_ids=list(dict.fromkeys(i for i in named if i is not None)),
            pad_token_id=get("padding_token_id"),
            chat_template=metadata.get("tokenizer.chat_template"),
        )

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer | None:
        """Read tokenizer.json and what stands beside it; None if the folder has no tokenizer.json.

        The end-of-sequence ids come from generation_config.json, config.json, or the name in
        tokenizer_config.json, in this order; the template from tokenizer_config.json or
        chat_template.jinja. Raises CheckpointError for a damaged file.
        """
        folder = Path(folder)
        if not (folder / "tokenizer.json").is_file():
            return None
        try:
            backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(
                f"{folder / 'tokenizer.json'} cannot be read ({error}): copy it again."
            ) from error
        names = ("generation_config.json", "config.json", "tokenizer_config.json")
        generation, model, own = (_optional_json(folder / name) for name in names)

        def ids_of(role: str) -> list[int]:
            for values in (generation, model):
                found = values.get(f"{role}_token_id")
                if found is not None:
                    return list(found) if isinstance(found, list) else [found]
            name = own.get(f"{role}_token")
            name = name.get("content") if isinstance(name, dict) else name
            found = backend.token_to_id(name) if isinstance(name, str) else None
            return [] if found is None else [found]

        template = own.get("chat_template")
        if template is None and (folder / "chat_template.jinja").is_file():
            template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        return cls(
            backend,
            bos_token_id=next(iter(ids_of("bos")), None),
            eos_token_ids=ids_of("eos"),
            pad_token_id=next(iter(ids_of("pad")), None),
            chat_template=template if isinstance(template, str) else None,
        )

    def save(self, path: Path) -> None:
        """Write the splitting rules and the vocabulary as a tokenizer.json."""
        self._backend.save(str(path), pretty=False)

    def encode(self, text: str, parse_special: bool = True) -> list[int]:
        """Return the ids of `text`; no BOS is added.

        With `parse_special`, the names of special tokens in the text (`<|im_end|>`) become their single
        ids; without it they are split like any other text. Raises ValueError that names the characters
        for which the vocabulary has no token.
        """
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The text has half a character (a lone surrogate, {text[error.start]!r}) at index "
                f"{error.start}: remove it."
            ) from error
        if not self._missing_bytes.isdisjoint(data) and (
            bad := self._unspellable(text, parse_special)
        ):
            named = ", ".join(f"U+{ord(c):04X}" for c in bad)
            raise ValueError(f"This vocabulary has no token for {named}: remove it from the text.")
        backend = self._backend if parse_special else self._plain_backend
        return backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`; bytes that are no whole character become U+FFFD.

        Raises ValueError for an id outside the vocabulary.
        """
        ids = [self._checked(i) for i in ids]
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def decode_stream(self, ids: Iterable[int], skip_special_tokens: bool = False) -> Iterator[str]:
        """Yield the text of `ids` piece by piece; the pieces joined equal `decode` of all the ids.

        A token may end in the middle of a character: its text is held back until the character is
        whole, or the ids end.
        """
        seen: list[int] = []
        shown, text = 0, ""
        for i in ids:
            seen.append(int(i))
            text = self.decode(seen, skip_special_tokens)
            if len(text) > shown and not text.endswith("\ufffd"):
                yield text[shown:]
                shown = len(text)
        if len(text) > shown:
            yield text[shown:]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return one readable string a token, for labels: " Paris", "\\n" as backslash and n.

        A token that is not whole characters is shown by its bytes: "<0xE2><0x82>".
        """
        return [self._label(self._checked(i)) for i in ids]

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a chat, a list of {"role": …, "content": …}, as the text the model was trained on.

        With `add_generation_prompt` the text ends where the assistant's answer begins. Raises
        ValueError for a message of another form, and where there is no template or it fails.
        """
        if self.chat_template is None:
            raise ValueError("This tokenizer has no chat template: encode plain text instead.")
        return render_chat(
            self.chat_template,
            messages,
            add_generation_prompt=add_generation_prompt,
            bos_token=self.name_of(self.bos_token_id),
            eos_token=self.name_of(next(iter(self.eos_token_ids), None)),
        )

    def encode_chat(
        self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        """Render a chat and return its ids: the template's special tokens, and no BOS besides."""
        return self.encode(self.apply_chat_template(messages, add_generation_prompt))

    def _checked(self, token_id: int) -> int:
        token_id = int(token_id)
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(
                f"Token id {token_id} is outside the vocabulary of {self.vocab_size} (0 counts)."
            )
        return token_id

    def name_of(self, token_id: int | None) -> str:
        """Return a token as the vocabulary spells it, e.g. "<|im_end|>"; "" for None."""
        return "" if token_id is None else self._backend.id_to_token(token_id) or ""

    def _label(self, token_id: int) -> str:
        text = self._backend.decode([token_id], skip_special_tokens=False)
        if "\ufffd" in text and self._is_byte_level:
            stored = [BYTE_OF.get(c) for c in self._backend.id_to_token(token_id)]
            if None not in stored and bytes(stored) != text.encode():
                return "".join(f"<0x{byte:02X}>" for byte in stored)
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

    @cached_property
    def _plain_backend(self) -> tokenizers.Tokenizer:
        """A second copy that sees no special tokens: the switch on the first is not thread-safe."""
        copy = tokenizers.Tokenizer.from_str(self._backend.to_str())
        copy.encode_special_tokens = True
        return copy

    @cached_property
    def _is_byte_level(self) -> bool:
        return '"ByteLevel"' in json.dumps(json.loads(self._backend.to_str())["pre_tokenizer"])

    def _unspellable(self, text: str, parse_special: bool) -> list[str]:
        """Return the characters of `text`, outside special tokens, for which there is no token."""
        if parse_special:
            for token in self._backend.get_added_tokens_decoder().values():
                text = text.replace(token.content, "")
        return [c for c in dict.fromkeys(text) if not self._missing_bytes.isdisjoint(c.encode())]

    @cached_property
    def _missing_bytes(self) -> frozenset[int]:
        """The bytes that a byte-level vocabulary cannot spell: the library would drop them."""
        if not self._is_byte_level:
            return frozenset()
        missing = (b for c, b in BYTE_OF.items() if self._backend.token_to_id(c) is None)
        return frozenset(missing)


def _optional_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}): copy it again.") from error
    return values if isinstance(values, dict) else {}
