"""Talk with the model in a terminal: `python -m llm_course.chat`. Names are imported
when first used."""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "session": ("Chat", "statistics"),
        "settings": ("change", "parse_value"),
        "terminal": ("first_interrupt", "main", "talk"),
    },
)
