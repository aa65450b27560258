"""The course's website: how stored notebooks and Markdown pages become its pages.

`setup` is Sphinx's entry. Nothing of a notebook is executed here.
"""

from __future__ import annotations

from typing import Any

from course_site import mathjax, reference, staging


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", staging.on_source_read)
    app.connect("autodoc-process-docstring", reference.on_docstring)
    app.connect("build-finished", mathjax.on_build_finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
