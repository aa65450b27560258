"""Text to token ids and back: the tokenizer, and chats by way of their template.

Names are imported when first used.
"""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, {"tokenizer": ("Tokenizer",)})
