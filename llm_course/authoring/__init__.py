"""Tools for the notebooks: export their cells to the package, re-execute and normalise
them.

Nothing here imports `llm_course.models` or `llm_course.engine`: a broken export must
not stop the tool that can mend it.
"""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"export": ("export_notebook",), "location": ("check_copy",)}
)
