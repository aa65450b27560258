"""Generation: from logits to token ids, with a cache. Names are imported when first
used."""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "generation": (
            "generate",
            "generate_stream",
        ),
        "sampling": (
            "choose_token",
            "sample_next_token",
            "top_k_filtering",
            "top_p_filtering",
            "min_p_filtering",
            "apply_repetition_penalty",
        ),
        "kv_cache": ("KVCache", "KVCacheManager", "CacheStats", "cache_bytes"),
        "inference": ("prefill", "decode", "make_cache"),
        "native": ("NativeModel",),
        "prepare": ("prepare_for_inference",),
        "fused": ("FusedModel",),
        "quantize": ("PackedMatrix", "pack"),
        "conversation": ("Conversation",),
        "guessing": ("Guesser",),
        "paged_cache": ("PagedCache", "PagePool", "PageTable", "OutOfPages"),
        "scheduler": ("Scheduler", "Row"),
        "request": ("Request", "Handle", "Choice", "Delta", "Usage", "TokenLogprob"),
        "batch": ("Engine",),
    },
)
