"""Comparing the pictures stored in a notebook with redrawn ones."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

PNG_HEADER = b"\x89PNG\r\n\x1a\n"
KEEP_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"pHYs", b"IDAT", b"IEND"}


def strip_png(encoded: str) -> str:
    """Base64 PNG without text and time chunks: matplotlib writes its version there."""
    data = base64.b64decode(encoded)
    if not data.startswith(PNG_HEADER):
        raise ValueError("an image/png output is not a PNG file")
    kept, at = [PNG_HEADER], len(PNG_HEADER)
    while at < len(data):
        end = at + 12 + struct.unpack(">I", data[at : at + 4])[0]
        if data[at + 4 : at + 8] in KEEP_CHUNKS:
            kept.append(data[at:end])
        at = end
    return base64.b64encode(b"".join(kept)).decode("ascii")


def pixels(encoded: str) -> np.ndarray:
    """A base64 PNG as an array [height, width, 3] of 0…255, on white."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(page, picture).convert("RGB"))


def pictures(outputs: Iterable[Any]) -> list[str]:
    """The base64 PNGs among a cell's outputs, in order."""
    return [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
