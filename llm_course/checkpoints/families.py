"""The families of models that load, and what a file may ask for that none of them
does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_course.config import ModelConfig


@dataclass(frozen=True)
class Family:
    """What makes a family of Llama's kind another one.

    `architecture` is its name in a GGUF file; `adjacent` says that q and k rows are in
    adjacent-pair order there. `defaults` are what an absent key of config.json means.
    """

    class_name: str
    architecture: str
    adjacent: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


FAMILIES = {  # by the model_type of config.json
    "llama": Family("LlamaForCausalLM", "llama", adjacent=True),
    "mistral": Family(
        "MistralForCausalLM", "llama", adjacent=True, defaults={"sliding_window": 4096}
    ),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        "qwen2",
        qkv_bias=True,
        defaults={"use_sliding_window": False},
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        "qwen3",
        qk_norm=True,
        defaults={"use_sliding_window": False, "head_dim": 128},
    ),
}
# a Mistral model is a "llama" in GGUF files
ARCHITECTURES = {family.architecture: family for family in reversed(FAMILIES.values())}
SUPPORTED = "supported families (dense models only): llama, mistral, qwen2, qwen3"

# Keys of config.json that change a model's numbers in other families. In a GGUF file
# all keys are known, and whatever is not read is refused.
UNSUPPORTED = (
    "num_local_experts",
    "num_experts",
    "logit_scale",
    "logits_scaling",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "clip_qkv",
    "use_parallel_residual",
    "mlp_bias",
    "quantization_config",
)


def family_of(config: ModelConfig) -> tuple[str, Family] | None:
    """Return (model_type, family) of a config; None for bias and norm together."""
    for name, family in FAMILIES.items():
        if (family.qkv_bias, family.qk_norm) == (config.qkv_bias, config.qk_norm):
            return name, family
    return None


def has_effect(key: str, value: Any) -> bool:
    """Say whether a key that is not supported asks for anything: null, 0 and a factor
    of 1 do not."""
    if key == "attention.causal":
        return value is not True
    if isinstance(value, int | float):
        is_factor = key.endswith(("scale", "scaling", "multiplier", "factor"))
        return value not in ((0, 1) if is_factor else (0,))
    return value is not None


def window_problems(key: str, window: Any, config: ModelConfig) -> list[str]:
    """Refuse a sliding window, in which a query sees the latest keys only; one as long
    as the context hides nothing."""
    if window is None or (
        isinstance(window, int) and window >= config.max_position_embeddings
    ):
        return []
    return [
        f"{key} {window!r:.100} with a context of {config.max_position_embeddings}:"
        " attention to the latest keys only is not supported"
    ]
