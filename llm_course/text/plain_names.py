"""Names of special tokens that stay plain text: what a user or a model wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import tokenizers
from tokenizers import AddedToken

from llm_course.errors import library_errors


def hide_special(
    values: Any, names: Iterable[str], template: str
) -> tuple[Any, dict[str, str]]:
    """Put a character that occurs nowhere else for each special token's name in
    `values`, the messages and all else that a template is given.

    Returns the values so changed, and character -> what it stands for. Only the
    template's own words may name special tokens: a user who types such a name ends no
    turn, and neither does a model that spells it. The beginning of a name at the end of
    a string is hidden, too, because the next string may go on with the rest.
    """
    names, strings = list(names), list(_strings(values))
    found = names_in("\n".join(strings), names)
    starts = {name[:n] for name in names for n in range(1, len(name))}
    begun = {start for text in strings if (start := _begun(text, starts))}
    if not found and not begun:
        return values, {}
    free = unused_characters(chain([template], names, strings))
    characters = dict(zip([*found, *sorted(begun)], free, strict=False))
    whole = {name: characters[name] for name in found}

    def hidden(text: str) -> str:
        text = replace_names(text, whole)
        if start := _begun(text, starts):
            end = len(text.rstrip())
            text = text[: end - len(start)] + characters[start] + text[end:]
        return text

    return _mapped(values, hidden), {c: name for name, c in characters.items()}


def _begun(text: str, starts: set[str]) -> str:
    """The longest of `starts` at the end of `text`, spaces aside; or ""."""
    text = text.rstrip()
    lengths = range(min(len(text), max(map(len, starts), default=0)), 0, -1)
    return next((text[-n:] for n in lengths if text[-n:] in starts), "")


def _strings(value: Any) -> Iterator[str]:
    """Every string in lists and dicts, keys of the inner dicts included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_strings, chain(value, value.values())))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_strings, value))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same lists and dicts with every string changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(k, change): _mapped(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value


def names_in(text: str, names: Iterable[str]) -> list[str]:
    """Return those of `names` that a reader of `text` from left to right meets, the
    longest first."""
    names = list(names)
    return list(dict.fromkeys(_pattern(names).findall(text))) if names else []


def replace_names(text: str, by: dict[str, str]) -> str:
    """Replace every key of `by` that occurs in `text`; where two begin together, the
    longer one."""
    return _pattern(by).sub(lambda match: by[match.group()], text) if by else text


def unused_characters(texts: Iterable[object]) -> Iterator[str]:
    """Yield private-use characters of Unicode that occur in none of `texts`."""
    used = set().union(*(text for text in texts if isinstance(text, str)))
    private = chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))
    return (chr(code) for code in private if chr(code) not in used)


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    )


def show_hidden(
    text: str, typed: dict[str, str], special: Iterable[str]
) -> tuple[str, dict[str, str]]:
    """Undo `hide_special` in a rendered text, where names now stand as plain text.

    The names that do mean special tokens change places with characters that occur
    nowhere. Returns the text, and name -> its stand-in.
    """
    free = unused_characters([text, *typed, *typed.values()])
    real = dict(zip(names_in(text, special), free, strict=False))
    return replace_names(replace_names(text, real), typed), real


def encode_with_stand_ins(
    backend: tokenizers.Tokenizer,
    special: Mapping[str, AddedToken],
    text: str,
    stand_ins: Mapping[str, str],
) -> list[int]:
    """Encode, in one piece, a text in which only stand-ins mean special tokens.

    A copy of the tokenizer knows these as such, and the special tokens' names not at
    all. `stand_ins` are name -> character.
    """
    copy = tokenizers.Tokenizer.from_str(backend.to_str())
    # "encode them like other text", that is: not as special
    copy.encode_special_tokens = True
    added = []
    for name, character in stand_ins.items():
        token = special[name]
        edges = {k: getattr(token, k) for k in ("lstrip", "rstrip", "single_word")}
        added.append(AddedToken(character, normalized=False, special=False, **edges))
    copy.add_tokens(added)
    meant: dict[Any, Any] = {
        copy.token_to_id(character): backend.token_to_id(name)
        for name, character in stand_ins.items()
    }
    return [meant.get(i, i) for i in plain_ids(copy, text)]


def plain_ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    """The ids of a text, with nothing added."""
    with library_errors("This tokenizer is damaged: it cannot encode"):
        return backend.encode(text, add_special_tokens=False).ids
