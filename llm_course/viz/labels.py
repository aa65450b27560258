"""Text that a reader typed or a model wrote, as labels of figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font

MISSING = "□"  # for a character that no font here has
FONT = "DejaVu Sans"  # ships with matplotlib: the same picture on every machine
# Fonts that some systems have, with characters that the first one lacks.
MORE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC"),
    *("Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS"),
    *("Noto Emoji", "Segoe UI Symbol"),
)
_BYTES = re.compile("(?:<0x[0-9A-F]{2}>)+")  # as a tokenizer writes part of a character


@lru_cache(maxsize=1)
def fonts() -> list[str]:
    """The names of the fonts for figures that are installed."""
    installed = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in MORE_FONTS if name in installed)]


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    """The code points for which one of the fonts has a glyph."""
    return frozenset().union(*(FT2Font(findfont(f)).get_charmap() for f in fonts()))


def plain(text: str) -> str:
    """A text without the characters that no font here can draw."""
    drawable = _drawable()
    shown = (c if c == "\n" or ord(c) in drawable else MISSING for c in text)
    return "".join(shown)


def token_names(tokens: Sequence[str]) -> list[str]:
    """Labels for the tokens of one text, in order.

    Tokens that together spell a character, and none of them alone, are labelled by it
    and numbered: "é 1/2", "é 2/2".
    """
    names: list[str] = []
    while len(names) < len(tokens):
        names += _next_names(tokens[len(names) :])
    return [plain(name) for name in names]


def _next_names(tokens: Sequence[str]) -> list[str]:
    """The labels of the fewest tokens that end where a character ends, the first one's
    alone if they never do."""
    joined = b""
    for count, token in enumerate(tokens[:4], start=1):
        if not _BYTES.fullmatch(token):
            break
        joined += bytes.fromhex(token.replace("<0x", "").replace(">", ""))
        try:
            text = joined.decode()
        except UnicodeDecodeError:
            continue
        if not text.isprintable():
            break
        return [f"{text} {i}/{count}" for i in range(1, count + 1)]
    return [tokens[0]]
