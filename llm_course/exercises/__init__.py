"""The exercises of the notebooks and their checks.

Each notebook has a module here (`ch01`, `ch02`, …) with one record an exercise: a
reference to compare with, small cases, and the wrong versions that a reader is likely
to write. The published solutions stand in the notebooks, not here.
"""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "judging": ("check", "judge", "registry"),
        "records": ("BugHunt", "Case", "Exercise", "case"),
    },
)
