"""How much the rules of a tokenizer.json can lengthen a text."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import tokenizers

# A rule in use doubles a text, or spells a ligature as 18 letters.
_MOST = 1000
_PLAIN_ESCAPE = re.compile(r"\\[sdwSDWnrt.,:;\"'()\[\]{}*+?|/-]")


def check_growth(backend: tokenizers.Tokenizer) -> None:
    """Raise ValueError for rules that can make a text more than a thousand times as
    long: one after the other they could fill any memory."""
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        part = getattr(backend, name)
        if part is None:
            continue
        times = 1.0
        for rule in _rules(json.loads(part.__getstate__())):
            times *= max(1.0, _factor(rule))
        if times > _MOST:
            raise ValueError(
                f"the rules of its {name} can make a text {times:.3g} times as long"
            )
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        affix = getattr(backend.model, name, None) or ""
        if len(affix) > _MOST:
            raise ValueError(f"its {name} has {len(affix):,} characters")


def _rules(tree: Any) -> Iterator[dict[str, Any]]:
    """Every rule in a sequence of rules, however nested."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _factor(rule: dict[str, Any]) -> float:
    """How many times as long one rule can make a text, at most."""
    kind, content = rule.get("type"), rule.get("content")
    if kind == "Replace" and isinstance(content, str):
        pattern = rule.get("pattern")
        found = pattern if isinstance(pattern, dict) else {}
        if text := found.get("String"):
            return len(content) / len(text)
        # what matches nothing may do so between any two characters
        return len(content) + _may_match_nothing(str(found.get("Regex", "")))
    if kind == "Precompiled":  # a table of texts, each ended by a zero byte
        table = base64.b64decode(rule.get("precompiled_charsmap") or "")
        texts = table[4 + int.from_bytes(table[:4], "little") :]
        return max(map(len, texts.split(b"\0")))
    if kind == "ByteLevel":
        return 2
    if kind in ("Prepend", "Metaspace"):
        return 1 + len(str(rule.get("prepend") or rule.get("replacement") or ""))
    return 1


def _may_match_nothing(pattern: str) -> bool:
    """Say whether an expression can match an empty text; True where that is unclear."""
    plain = _PLAIN_ESCAPE.sub("x", pattern)
    if any(sign in plain for sign in ("(?", "\\", "^", "$")):
        return True  # it may look around
    try:
        return re.search(pattern, "") is not None
    except re.error:
        return True
