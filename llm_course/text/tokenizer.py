"""Text to token ids and back, and chats to text.

The splitting itself is done by Hugging Face's `tokenizers` library. What is added here:
no character is dropped silently, and streamed text never breaks in the middle of a
character.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from llm_course.errors import library_errors
from llm_course.text.byte_level import BYTE_OF
from llm_course.text.chat_template import (
    hide_special,
    names_in,
    render_chat,
    replace_names,
    unused_characters,
)
from llm_course.text.tokenizer_files import from_folder, from_gguf_metadata


class Tokenizer:
    """A tokenizer, its special tokens and its chat template.

    `eos_token_ids` are all ids that end a text; `bos_token_id`, `pad_token_id` and
    `chat_template` are None where the checkpoint gives none.
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
        return (
            f"Tokenizer(vocab_size={self.vocab_size},"
            f" eos_token_ids={self.eos_token_ids})"
        )

    @classmethod
    def from_gguf_metadata(cls, metadata: dict[str, Any]) -> Tokenizer | None:
        """Build the tokenizer that a GGUF file describes: byte-level BPE from its
        tokens and merges.

        Returns None for a file without a tokenizer, and, with a warning, for a kind
        that is not byte-level BPE with a known splitting rule. Raises CheckpointError
        for inconsistent tables.
        """
        parts = from_gguf_metadata(metadata)
        return None if parts is None else cls(**parts)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer | None:
        """Read tokenizer.json and what stands beside it; None if the folder has no
        tokenizer.json.

        The end-of-sequence ids come from generation_config.json, config.json, or the
        name in tokenizer_config.json, in this order; the template from
        tokenizer_config.json or chat_template.jinja. Raises CheckpointError for a
        damaged file.
        """
        parts = from_folder(Path(folder))
        return None if parts is None else cls(**parts)

    def save(self, path: Path) -> None:
        """Write the splitting rules and the vocabulary as a tokenizer.json."""
        self._backend.save(str(path), pretty=False)

    def encode(self, text: str, parse_special: bool = True) -> list[int]:
        """Return the ids of `text`; no BOS is added.

        With `parse_special`, the names of special tokens in the text (`<|im_end|>`)
        become their single ids; without it they are split like any other text. Raises
        ValueError that names the characters for which the vocabulary has no token.
        """
        self._refuse_unspellable(text, parse_special)
        backend = self._backend if parse_special else self._plain_backend
        return _ids(backend, text)

    def _refuse_unspellable(self, text: str, parse_special: bool) -> None:
        """Raise ValueError for characters without a token, unless they are part of an
        added token."""
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                "The text has half a character (a lone surrogate,"
                f" {text[error.start]!r}) at index {error.start}: remove it."
            ) from error
        if self._missing_bytes.isdisjoint(data):
            return
        for token in self._backend.get_added_tokens_decoder().values():
            if parse_special or not token.special:
                text = text.replace(token.content, "")
        bad = [
            c
            for c in dict.fromkeys(text)
            if not self._missing_bytes.isdisjoint(c.encode())
        ]
        if bad:
            named = ", ".join(f"U+{ord(c):04X}" for c in bad)
            raise ValueError(
                f"This vocabulary has no token for {named}: remove it from the text."
            )

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`; bytes that are no whole character become U+FFFD.

        Raises ValueError for an id outside the vocabulary.
        """
        ids = [self._checked(i) for i in ids]
        with library_errors("This tokenizer is damaged: it cannot decode"):
            return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def decode_stream(
        self, ids: Iterable[int], skip_special_tokens: bool = False
    ) -> Iterator[str]:
        """Yield the text of `ids` piece by piece; the pieces joined equal `decode` of
        all the ids.

        A token may end in the middle of a character: its text is held back until the
        character is whole, or the ids end.
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
        """Return one readable string a token, for labels: " Paris", "\\n" as backslash
        and n.

        A token that is not whole characters is shown by its bytes: "<0xE2><0x82>".
        """
        return [self._label(self._checked(i)) for i in ids]

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a chat, a list of {"role": …, "content": …}, as the text the model was
        trained on.

        With `add_generation_prompt` the text ends where the assistant's answer begins.
        Raises ValueError for a message of another form, where there is no template, and
        where the template refuses the messages; CheckpointError for a template that is
        wrong or not safe to run.
        """
        if self.chat_template is None:
            raise ValueError(
                "This tokenizer has no chat template: encode plain text instead."
            )
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
        """Render a chat and return its ids: the template's special tokens, and no BOS
        besides.

        The name of a special token that a *user* typed (in a message whose role is
        neither system nor assistant) stays plain text: nobody ends a turn by typing
        `<|im_end|>`. All other ids are those of `encode(apply_chat_template(...))`.
        Raises what these two raise.
        """
        hidden, typed = hide_special(messages, self._special, self.chat_template or "")
        text = self.apply_chat_template(hidden, add_generation_prompt)
        return self._encode_hidden(text, typed) if typed else self.encode(text)

    def _encode_hidden(self, text: str, typed: dict[str, str]) -> list[int]:
        """Encode a text in which each character of `typed` stands for a name that is
        plain text.

        The names that do mean special tokens change places with such characters: a copy
        of the tokenizer knows these as special, and the names not at all. So the text
        is encoded in one piece.
        """
        free = unused_characters([text, *typed, *typed.values()])
        real = dict(zip(names_in(text, self._special), free, strict=False))
        text = replace_names(replace_names(text, real), typed)
        self._refuse_unspellable(
            replace_names(text, dict.fromkeys(real.values(), "")), False
        )
        copy = tokenizers.Tokenizer.from_str(self._backend.to_str())
        copy.encode_special_tokens = (
            True  # "encode them like other text", that is: not as special
        )
        stand_ins = []
        for name, character in real.items():
            token = self._special[name]
            edges = {k: getattr(token, k) for k in ("lstrip", "rstrip", "single_word")}
            stand_ins.append(
                AddedToken(character, normalized=False, special=False, **edges)
            )
        copy.add_tokens(stand_ins)
        meant: dict[Any, Any] = {
            copy.token_to_id(c): self._backend.token_to_id(name)
            for name, c in real.items()
        }
        return [meant.get(i, i) for i in _ids(copy, text)]

    def _checked(self, token_id: int) -> int:
        token_id = int(token_id)
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(
                f"Token id {token_id} is outside the vocabulary of {self.vocab_size} (0"
                " counts)."
            )
        return token_id

    def name_of(self, token_id: int | None) -> str:
        """Return a token as the vocabulary spells it, e.g. "<|im_end|>"; "" for
        None."""
        return "" if token_id is None else self._backend.id_to_token(token_id) or ""

    def _label(self, token_id: int) -> str:
        text = self._backend.decode([token_id], skip_special_tokens=False)
        if "\ufffd" in text and self._is_byte_level:
            name = self.name_of(token_id)
            stored = [BYTE_OF[c] for c in name if c in BYTE_OF]
            if len(stored) == len(name) and bytes(stored) != text.encode():
                return "".join(f"<0x{byte:02X}>" for byte in stored)
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

    @cached_property
    def _special(self) -> dict[str, AddedToken]:
        """The special tokens by name."""
        added = self._backend.get_added_tokens_decoder().values()
        return {
            token.content: token for token in added if token.special and token.content
        }

    @cached_property
    def _plain_backend(self) -> tokenizers.Tokenizer:
        """A second copy that sees no special tokens: the switch on the first is not
        thread-safe."""
        copy = tokenizers.Tokenizer.from_str(self._backend.to_str())
        copy.encode_special_tokens = True
        return copy

    @cached_property
    def _is_byte_level(self) -> bool:
        return '"ByteLevel"' in json.dumps(
            json.loads(self._backend.to_str())["pre_tokenizer"]
        )

    @cached_property
    def _missing_bytes(self) -> frozenset[int]:
        """The bytes that a byte-level vocabulary cannot spell: the library would drop
        them."""
        if not self._is_byte_level:
            return frozenset()
        missing = (
            b for c, b in BYTE_OF.items() if self._backend.token_to_id(c) is None
        )
        return frozenset(missing)


def _ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    with library_errors("This tokenizer is damaged: it cannot encode"):
        return backend.encode(text, add_special_tokens=False).ids
