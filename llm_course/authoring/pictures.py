"""Comparing the pictures stored in a notebook with redrawn ones."""

from __future__ import annotations

import base64
import io
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
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


# matplotlib's RMS over all pixels, 0…255. A redrawn figure differs by 0 within one
# minor release of matplotlib; one thin grey line of a figure with eight panels, moved
# by 5 % of its axis, by 3.5.
TOLERANCE = 1.0


def picture_difference(
    stored: str, drawn: str, tolerance: float = TOLERANCE
) -> str | None:
    """What differs between two base64 PNGs, in a few words; None when they agree."""
    from matplotlib.testing.compare import compare_images

    old, new = pixels(stored), pixels(drawn)
    if old.shape != new.shape:
        size = "{1} × {0} pixels".format
        return (
            f"the stored picture has {size(*old.shape)}, the redrawn one"
            f" {size(*new.shape)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        before, now = Path(folder) / "stored.png", Path(folder) / "drawn.png"
        before.write_bytes(base64.b64decode(stored))
        now.write_bytes(base64.b64decode(drawn))
        found: Any = compare_images(
            str(before), str(now), tol=tolerance, in_decorator=True
        )
    if found is None:
        return None
    return f"pixels differ by {found['rms']:.2f} (RMS); at most {tolerance} is allowed"


def compare_pictures(stored: Iterable[Any], drawn: Iterable[Any]) -> list[str]:
    """Compare a cell's stored pictures with those just drawn. One line for each
    difference."""
    old, new = pictures(stored), pictures(drawn)
    if len(old) != len(new):
        return [f"{len(old)} pictures are stored, {len(new)} were drawn"]
    found = [picture_difference(*pair) for pair in zip(old, new, strict=True)]
    return [f"picture {i}: {text}" for i, text in enumerate(found, 1) if text]
