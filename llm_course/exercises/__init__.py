"""The exercises of the notebooks and their checks.

The modules beside this one are the framework; each notebook has a folder (`ch01`, …)
with one record an exercise: a reference to compare with, small cases, and the wrong
versions that a reader is likely to write, as edits of the reference. The published
solutions stand in the notebooks, not here.
"""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "judging": ("check", "judge", "registry"),
        "hunts": ("BugHunt",),
        "records": ("Case", "Exercise"),
    },
)
