"""MathJax as files of the site's own: pages fetch nothing from elsewhere.

They come with a Python package of the extra `docs`, of which only these are taken:
MathJax 3 in one file, its fonts, and what speaks formulas to screen readers.
"""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

PACKAGE = "sphinx-mathjax-offline"
SCRIPT = "tex-chtml.js"
# Of MathJax 3.2.2, the same file that its own npm package holds.
SHA256 = "0a6ded5abbce13331658dd239f34382abd06492c74b71b61e8caa8112ec55fa5"
TAKEN = (SCRIPT, "a11y/assistive-mml.js", "output/chtml/fonts/woff-v2")


def source() -> Path:
    """The folder of MathJax's files in the package that brings them."""
    files = distribution(PACKAGE).files or []
    (script,) = [Path(f.locate()) for f in files if f.name == SCRIPT]
    if (found := hashlib.sha256(script.read_bytes()).hexdigest()) != SHA256:
        raise ValueError(f"{SCRIPT} of {PACKAGE} has the SHA-256 {found}")
    return script.parent


def on_build_finished(app: Any, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    there, here = source(), Path(app.outdir) / "_static" / "mathjax"
    for name in TAKEN:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        if (there / name).is_dir():
            shutil.copytree(there / name, here / name, dirs_exist_ok=True)
        else:
            shutil.copyfile(there / name, here / name)
