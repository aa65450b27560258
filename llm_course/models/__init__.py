"""The parts of the model, one module a notebook. Names are imported when first used."""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "layers": ("RMSNorm", "MLP"),
        "rope": ("RotaryEmbedding", "apply_rotary"),
        "attention": ("SelfAttention", "attention_weights", "capture_attention"),
        "transformer": ("DecoderLayer", "DecoderOnlyModel", "build_decoder_only_model"),
    },
)
