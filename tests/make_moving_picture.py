"""README's moving picture: the playground at work, in the pictures of a GIF file.

    python -m tests.make_moving_picture

The temperature falls and rises, a text is written, and one of its tokens is looked at.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from llm_course.checkpoints import load_pretrained
from llm_course.widgets import Playground
from tests import lab
from tests.browser.bare import Bare

TARGET = Path(__file__).parents[1] / "docs" / "playground.gif"
WIDTH, COLOURS = 800, 48
Frames = list[tuple[Image.Image, int]]  # and for how many milliseconds each stands


def shot(bare: Bare) -> Image.Image:
    data = bare.page.locator(".lab").screenshot()
    return Image.open(io.BytesIO(data)).convert("RGB")


def play(bare: Bare) -> Frames:
    """The playground's pages, in order."""
    page = bare.page
    frames = [(shot(bare), 1200)]
    slider = page.get_by_role("slider", name="temperature")
    for temperature in (0.6, 0.4, 0.2, 0.4, 0.8, 1.2, 1.6, 1.2, 0.8):
        slider.fill(str(temperature))
        bare.pump()
        frames.append((shot(bare), 350))
    page.get_by_role("slider", name="length").fill("24")
    bare.pump()
    for _ in range(24):  # token by token, at a reader's pace
        page.get_by_role("button", name="One token").click()
        bare.pump()
        bare.widget.wait(60)
        bare.tell()
        frames.append((shot(bare), 200))
    frames.append((frames[-1][0], 800))
    tokens = page.get_by_role("group", name="Text A: tokens").get_by_role("button")
    for at in (4, 9):
        tokens.nth(at).click()
        bare.pump()
        frames.append((shot(bare), 2000))
    return frames


def save(frames: Frames) -> None:
    """One palette for all, so that what stays the same is stored once."""
    middle = frames[len(frames) // 2][0]
    palette = middle.quantize(COLOURS, dither=Image.Dither.NONE)
    first, *others = (
        image.quantize(palette=palette, dither=Image.Dither.NONE) for image, _ in frames
    )
    first.save(
        TARGET,
        save_all=True,
        append_images=others,
        duration=[time for _, time in frames],
        loop=0,
        optimize=True,
    )
    print(f"{TARGET.name}: {len(frames)} pictures, {TARGET.stat().st_size:,} bytes")


def main() -> None:
    widget: Any = Playground(*load_pretrained("smollm2-135m-instruct"))
    with lab.browser() as browser, lab.page_of(browser, WIDTH) as page:
        save(play(Bare(page, widget)))


if __name__ == "__main__":
    main()
