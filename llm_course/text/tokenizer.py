"""Text to token ids and back, and chats to text.

The splitting itself is done by Hugging Face's `tokenizers` library. What is added here:
no character is dropped silently, and streamed text never breaks in the middle of a
character.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from llm_course.arguments import checked
from llm_course.errors import CheckpointError, library_errors
from llm_course.files import path_of
from llm_course.text.byte_level import BYTE_OF
from llm_course.text.chat_template import (
    ChatTemplate,
    Message,
    check_messages,
    choose_template,
    render_chat,
)
from llm_course.text.plain_names import (
    encode_with_stand_ins,
    hide_special,
    plain_ids,
    replace_names,
    show_hidden,
)
from llm_course.text.streaming import (
    ByteDecoder,
    Shown,
    TextDecoder,
    WindowDecoder,
    pieces_of,
)
from llm_course.text.tokenizer_files import from_folder, from_gguf_metadata

_BYTE = re.compile("<0x([0-9A-F]{2})>")  # a token that spells a single byte


class Tokenizer:
    """A tokenizer, its special tokens and its chat template.

    `eos_token_ids` are all ids that end a text; `bos_token_id`, `pad_token_id` and
    `chat_template` are None where the checkpoint gives none. A dict holds several chat
    templates by name. `special_tokens` are the names that a template may use, say
    {"bos_token": "<s>"}; by default those of the ids. `vocab_size` is the largest id
    plus one.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos_token_id: int | None = None,
        eos_token_ids: Sequence[int] = (),
        pad_token_id: int | None = None,
        chat_template: ChatTemplate | None = None,
        special_tokens: Mapping[str, str] | None = None,
    ) -> None:
        self._backend = backend
        self.bos_token_id = bos_token_id
        self.eos_token_ids = tuple(eos_token_ids)
        self.pad_token_id = pad_token_id
        self.chat_template = chat_template
        self.vocab_size: int = 1 + max(backend.get_vocab().values(), default=-1)
        if special_tokens is None:
            special_tokens = self._names_of_ids()
        self.special_tokens = dict(special_tokens)

    def __repr__(self) -> str:
        return (
            f"Tokenizer(vocab_size={self.vocab_size},"
            f" eos_token_ids={self.eos_token_ids})"
        )

    @classmethod
    @checked
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
    @checked
    def from_folder(cls, folder: str | Path) -> Tokenizer | None:
        """Read tokenizer.json and what stands beside it; None if the folder has no
        tokenizer.json.

        The end-of-sequence ids are all those of generation_config.json, config.json and
        tokenizer_config.json, and the special tokens that end a turn in chats.
        chat_template.jinja comes before a template in tokenizer_config.json. Raises
        CheckpointError for a damaged file.
        """
        parts = from_folder(path_of(folder))
        return None if parts is None else cls(**parts)

    @checked
    def save(self, path: Path) -> None:
        """Write the splitting rules and the vocabulary as a tokenizer.json."""
        try:
            self._backend.save(str(path), pretty=False)
        except Exception as error:  # the library has no other kind
            raise CheckpointError(
                f"{path!s:.300} cannot be written ({error!s:.300}): give the path of a"
                " new file."
            ) from error

    @checked
    def encode(self, text: str, parse_special: bool = True) -> list[int]:
        """Return the ids of `text`; no BOS is added.

        With `parse_special`, the names of special tokens in the text (`<|im_end|>`)
        become their single ids; without it they are split like any other text. Raises
        ValueError that names the characters for which the vocabulary has no token.
        """
        self._refuse_unspellable(text, parse_special)
        backend = self._backend if parse_special else self._plain_backend
        return plain_ids(backend, text)

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
            named = ", ".join(f"U+{ord(c):04X}" for c in bad[:10])
            named += f" and {len(bad) - 10} more" if len(bad) > 10 else ""
            raise ValueError(
                f"This vocabulary has no token for {named}: remove it from the text."
            )

    @checked
    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`; bytes that are no whole character become U+FFFD.

        An id beyond the vocabulary has no text: a model's embedding may have more rows
        than its tokenizer has tokens. Raises ValueError for a negative id.
        """
        return self._decoded([_checked(i) for i in ids], skip_special_tokens)

    def _decoded(self, ids: list[int], skip_special_tokens: bool) -> str:
        with library_errors("This tokenizer is damaged: it cannot decode"):
            return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    @checked
    def decode_stream(
        self, ids: Iterable[int], skip_special_tokens: bool = False
    ) -> Iterator[str]:
        """Yield the text of `ids` piece by piece; the pieces joined equal `decode` of
        all the ids.

        A token may end in the middle of a character: its text is held back until the
        character is whole, or the ids end.
        """
        return pieces_of(ids, self.text_decoder(skip_special_tokens))

    def text_decoder(self, skip_special_tokens: bool = False) -> TextDecoder:
        """Return what `decode_stream` uses: it is given the ids one by one, when the
        caller has them."""
        skipped = self._special if skip_special_tokens else {}

        def shows(token_id: int) -> bool:
            name = self.name_of(_checked(token_id))
            return bool(name) and name not in skipped

        if self._decodes_bytes:
            return Shown(ByteDecoder(self.bytes_of), shows)
        decoder = WindowDecoder(
            partial(self._decoded, skip_special_tokens=False),
            lambda i: _BYTE.fullmatch(self.name_of(i)) is not None,
        )
        return Shown(decoder, shows)

    @checked
    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Return one readable string a token, for labels: " Paris", "\\n" as backslash
        and n.

        A token that is not whole characters is shown by its bytes: "<0xE2><0x82>".
        """
        return [self._label(_checked(i)) for i in ids]

    @checked
    def apply_chat_template(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        **values: Any,
    ) -> str:
        """Render a chat, a list of {"role": …, "content": …}, as the text the model was
        trained on.

        With `add_generation_prompt` the text ends where the assistant's answer begins.
        `tools` are JSON schemas of functions, `documents` dicts with "title" and
        "text", `values` what else this template understands. `chat_template` is one of
        the tokenizer's templates by name, or another template. The template finds what
        `transformers` gives it. Raises ValueError for a message of another form, where
        there is no template, and where the template refuses the messages;
        CheckpointError for a template that is wrong or not safe to run.
        """
        check_messages(messages)
        template = choose_template(self.chat_template, chat_template, tools)
        given = {
            "messages": messages,
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        return render_chat(template, {**self.special_tokens, **given, **values})

    @checked
    def encode_chat(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        **options: Any,
    ) -> list[int]:
        """Render a chat and return its ids: the template's special tokens, and no BOS
        besides. `options` are those of `apply_chat_template`.

        The name of a special token in a message, whoever wrote it, and in all else that
        is given here stays plain text: nobody ends a turn by typing `<|im_end|>`. All
        other ids are those of `encode(apply_chat_template(...))`. Raises what these two
        raise.
        """
        check_messages(messages)
        wanted = options.pop("chat_template", None)
        template = choose_template(self.chat_template, wanted, options.get("tools"))
        given, typed = hide_special(
            {"messages": messages, **options}, self._special, template
        )
        text = self.apply_chat_template(
            given.pop("messages"),
            add_generation_prompt,
            chat_template=template,
            **given,
        )
        if not typed:
            return self.encode(text)
        text, real = show_hidden(text, typed, self._special)
        spelt = replace_names(text, dict.fromkeys(real.values(), ""))
        self._refuse_unspellable(spelt, False)
        return encode_with_stand_ins(self._backend, self._special, text, real)

    @checked
    def name_of(self, token_id: int | None) -> str:
        """Return a token as the vocabulary spells it, e.g. "<|im_end|>"; "" for
        None."""
        if token_id is None or token_id < 0:
            return ""
        return self._backend.id_to_token(token_id) or ""

    def _names_of_ids(self) -> dict[str, str]:
        ids = {
            "bos_token": self.bos_token_id,
            "eos_token": next(iter(self.eos_token_ids), None),
            "pad_token": self.pad_token_id,
        }
        return {role: self.name_of(i) for role, i in ids.items() if i is not None}

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id beyond the vocabulary."""
        name = self.name_of(token_id)
        if self._decodes_bytes:
            stored = [BYTE_OF.get(c, -1) for c in name]
            return name.encode() if -1 in stored else bytes(stored)
        if single := _BYTE.fullmatch(name):
            return bytes.fromhex(single[1])
        return self._decoded([token_id], False).encode()

    def _label(self, token_id: int) -> str:
        data = self.bytes_of(token_id)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in data)
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
        part = self._backend.pre_tokenizer
        return part is not None and b'"ByteLevel"' in part.__getstate__()

    @cached_property
    def _decodes_bytes(self) -> bool:
        """Whether a text is the bytes of its tokens, joined."""
        part = self._backend.decoder
        return (
            part is not None
            and json.loads(part.__getstate__()).get("type") == "ByteLevel"
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


def _checked(token_id: int) -> int:
    try:
        token_id = operator.index(token_id)
    except TypeError as error:
        raise ValueError(
            f"Token id {token_id!r:.60} is no whole number: give ids, not text."
        ) from error
    if not 0 <= token_id < 2**32:
        raise ValueError(f"Token id {token_id} is none: ids count from 0.")
    return token_id
