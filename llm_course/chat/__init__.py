"""Chat with a model in the terminal: `python -m llm_course.chat`.

`Chat` is the conversation itself and can be used without a terminal. Names are imported when first
used.
"""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "session": ("Chat", "Stats"),
        "commands": ("run_command",),
        "terminal": ("Terminal", "main"),
    },
)
