"""The comparison of pictures catches what a reader would see, and only that."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure

from llm_course.authoring.pictures import (
    compare_pictures,
    picture_difference,
    pixels,
    strip_png,
)


def png(fig: Figure, **options: object) -> str:
    """`fig` as Jupyter's inline backend would store it."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", bbox_inches="tight", dpi=fig.dpi, **options)
    plt.close(fig)
    return base64.b64encode(buffer.getvalue()).decode()


def curve(shift: float = 0.0, panels: int = 1, drawn: bool = True) -> str:
    """One sine in each panel; `shift` moves the first panel's by that part of its
    axis."""
    fig, axes = plt.subplots(1, panels, squeeze=False, figsize=(9, 3))
    x = np.linspace(0, 6, 200)
    for i, ax in enumerate(axes[0]):
        ax.set(ylim=(-1.5, 1.5), xlim=(0, 6))
        if drawn:
            y = np.sin(x) + (3.0 * shift if i == 0 else 0.0)
            ax.plot(x, y, color="0.6", linewidth=0.8)
    return png(fig)


def grid(shift: float = 0.0) -> str:
    """Thirty small panels, as in a figure of all heads; one thin grey curve is
    moved."""
    fig, axes = plt.subplots(5, 6, figsize=(9, 7))
    x = np.linspace(0, 6, 100)
    for i, ax in enumerate(axes.flat):
        ax.set(ylim=(-1.5, 1.5), xticks=[], yticks=[])
        ax.plot(
            x, np.sin(x) + (3.0 * shift if i == 7 else 0.0), color="0.6", linewidth=0.8
        )
    return png(fig)


def test_the_same_figure_drawn_twice_agrees() -> None:
    assert picture_difference(curve(), curve()) is None
    assert strip_png(curve()) == strip_png(curve())


@pytest.mark.parametrize("panels", [1, 4])
def test_a_blank_figure_is_caught(panels: int) -> None:
    found = picture_difference(curve(panels=panels), curve(panels=panels, drawn=False))
    assert found is not None
    assert "RMS" in found


@pytest.mark.parametrize("panels", [1, 4])
@pytest.mark.parametrize("shift", [0.05, -0.05])
def test_a_curve_shifted_by_five_percent_is_caught(panels: int, shift: float) -> None:
    assert picture_difference(curve(panels=panels), curve(shift, panels)) is not None


def test_a_shifted_curve_in_one_of_thirty_panels_is_caught() -> None:
    assert picture_difference(grid(), grid(0.05)) is not None


def test_another_last_bit_is_tolerated() -> None:
    def heat(noise: float) -> str:
        fig, ax = plt.subplots(figsize=(4, 3))
        values = np.random.default_rng(0).random((20, 20))
        ax.imshow(values + noise * np.random.default_rng(1).standard_normal((20, 20)))
        return png(fig)

    assert not np.array_equal(pixels(heat(0.0)), pixels(heat(1e-4)))
    assert picture_difference(heat(0.0), heat(1e-4)) is None
    assert picture_difference(heat(0.0), heat(1e-1)) is not None


def test_another_size_is_a_difference_and_says_both() -> None:
    wide, high = plt.figure(figsize=(4, 2)), plt.figure(figsize=(2, 4))
    for fig in (wide, high):
        fig.add_subplot()
    found = picture_difference(png(wide), png(high))
    assert found is not None
    assert found.count("×") == 2


def test_a_missing_picture_is_a_difference() -> None:
    output = nbformat.v4.new_output("display_data", data={"image/png": curve()})
    assert compare_pictures([output], [output]) == []
    assert compare_pictures([output], []) == ["1 pictures are stored, 0 were drawn"]
    assert compare_pictures([], [output]) == ["0 pictures are stored, 1 were drawn"]


def test_strip_png_removes_the_writer_and_no_pixel() -> None:
    fig, ax = plt.subplots(figsize=(2, 2))
    ax.plot([0, 1])
    original = png(fig, metadata={"Software": "another release", "Author": "someone"})
    stripped = strip_png(original)
    assert b"another release" in base64.b64decode(original)
    assert b"someone" not in base64.b64decode(stripped)
    assert b"another release" not in base64.b64decode(stripped)
    assert np.array_equal(pixels(original), pixels(stripped))
    assert strip_png(stripped) == stripped


def test_transparent_pixels_count_as_white() -> None:
    row = struct.pack(">IIBBBBB", 1, 1, 8, 6, 0, 0, 0)  # one pixel, RGBA

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    body = (
        chunk(b"IHDR", row)
        + chunk(b"IDAT", zlib.compress(bytes(5)))
        + chunk(b"IEND", b"")
    )
    assert pixels(base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()).tolist() == [
        [[255] * 3]
    ]
