"""Interactive views of the model, in ipywidgets. Names are imported when first used."""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "attention": ("AttentionExplorer",),
        "budget": ("BudgetLab",),
        "cache_lab": ("CacheLab",),
        "cache_memory": ("CacheMemory",),
        "lens": ("LayerLens",),
        "parameters": ("ParameterLab",),
        "playground": ("Playground",),
        "prediction": ("Prediction",),
        "roofline": ("Roofline",),
        "rope": ("RopeLab",),
    },
)
