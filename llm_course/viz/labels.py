"""Readable labels for tokens."""

from __future__ import annotations

from collections.abc import Sequence


def token_labels(tokens: Sequence[bytes]) -> list[str]:
    """One label for each token, given its bytes.

    Tokens that together spell a character, and none of them alone, are labelled by it
    and numbered; bytes that spell none are written out.
    """
    labels: list[str] = []
    while len(labels) < len(tokens):
        labels += _group(tokens[len(labels) :])
    return labels


def _group(tokens: Sequence[bytes]) -> list[str]:
    """The labels of the fewest tokens, from the first on, that end where a character
    ends."""
    joined = b""
    for count, token in enumerate(tokens[:4], start=1):
        joined += token
        try:
            text = joined.decode()
        except UnicodeDecodeError:
            continue
        if count == 1:
            return [_shown(text)]
        if not text.strip().isprintable():
            break
        return [f"{_shown(text)} {i}/{count}" for i in range(1, count + 1)]
    return ["".join(f"<0x{byte:02X}>" for byte in tokens[0])]


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
