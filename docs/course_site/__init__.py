"""The course's website: how stored notebooks and Markdown pages become its pages.

`setup` is Sphinx's entry. Nothing of a notebook is executed here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from course_site import mathjax, reference, staging
from course_site.chapters import NOTEBOOKS, ROOT


def fingerprint() -> str:
    """Changes with whatever several pages are made from; Sphinx then builds anew."""
    here = Path(__file__).parent
    paths = [*here.glob("*.py"), *here.glob("*.toml"), *NOTEBOOKS.glob("*.ipynb")]
    paths += [ROOT / "README.md", ROOT / "pyproject.toml"]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def setup(app: Any) -> dict[str, bool]:
    app.add_config_value("course_fingerprint", fingerprint(), "env", [str])
    app.connect("source-read", staging.on_source_read)
    app.connect("autodoc-process-signature", reference.on_signature)
    app.connect("autodoc-process-docstring", reference.on_docstring)
    app.connect("autodoc-skip-member", reference.on_skip)
    app.connect("build-finished", mathjax.on_build_finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
