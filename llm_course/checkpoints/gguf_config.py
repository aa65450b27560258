"""From the metadata of a GGUF file to a ModelConfig, or to the reasons why there is
none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_course.checkpoints.families import (
    ARCHITECTURES,
    SUPPORTED,
    Family,
    has_effect,
    window_problems,
)
from llm_course.checkpoints.layout import EMBEDDING, LM_HEAD, table_problems
from llm_course.checkpoints.rope_factors import CONTEXT, scaling_of_factors
from llm_course.config import ModelConfig

ROPE_FREQS = "rope_freqs.weight"  # factors of RoPE's frequencies, not a weight
_REQUIRED = {
    "hidden_dim": "embedding_length",
    "intermediate_dim": "feed_forward_length",
    "num_layers": "block_count",
    "num_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
    # no default: 10000 would be silently wrong for many models
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_READ = {
    *_REQUIRED.values(),
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scale_linear",
}
# Without effect on these models. `vocab_size` repeats the embedding's rows, and
# `expert_used_count` is of experts, which are refused by their own count.
_IGNORED = {
    "vocab_size",
    "expert_used_count",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_log_multiplier",
    "tensor_data_layout",
}


class _Keys:
    """The metadata of one architecture, by their names after "llama."."""

    def __init__(self, metadata: dict[str, Any], architecture: str) -> None:
        self.prefix = f"{architecture}."
        self.values = {
            key.removeprefix(self.prefix): _shortest(value)
            for key, value in metadata.items()
            if key.startswith(self.prefix)
        }

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def arrays(self) -> list[str]:
        """Values of each layer's own, which only models of unequal layers have."""
        return [
            f"{self.prefix}{key:.100} is an array: must be one value for all layers"
            for key, value in self.values.items()
            if key in _READ and isinstance(value, list | np.ndarray)
        ]

    def unsupported(self) -> list[str]:
        """Keys that ask for more: all that are not known here and have an effect."""
        return [
            f"{self.prefix}{key:.100} = {value!r:.100}: not supported"
            for key, value in self.values.items()
            if key not in _READ | _IGNORED and has_effect(key, value)
        ]


def config_from_metadata(
    metadata: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
    rope_factors: NDArray | None,
) -> tuple[ModelConfig | None, list[str]]:
    """Return (config, problems); the config is None where the metadata allow none.

    `shapes` are those of the tensors under our names, `rope_factors` the values of the
    tensor ROPE_FREQS, if there is one that can be read.
    """
    name = metadata.get("general.architecture")
    family = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if family is None:
        return None, [f"architecture {name!r:.100}: {SUPPORTED}"]
    keys = _Keys(metadata, family.architecture)
    problems = [*keys.unsupported(), *keys.arrays()]
    parts = metadata.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        problems.append(
            f"it is one of {parts} files: join them with llama-gguf-split --merge"
        )
    missing = [keys.prefix + key for key in _REQUIRED.values() if keys.get(key) is None]
    if len(shapes.get(EMBEDDING, ())) != 2:
        missing.append("token_embd.weight (the tensor)")
    if missing:
        return None, [*problems, f"lacks {', '.join(missing)}"]
    if keys.arrays():
        return None, problems
    scaling, more = _rope_scaling(keys, shapes, rope_factors)
    problems += more
    try:
        config = _config(keys, family, shapes, scaling)
    except ValueError as error:
        return None, [*problems, f"its metadata are impossible ({error!s:.300})"]
    for key in ("attention.value_length", "rope.dimension_count"):
        found = keys.get(key, config.head_dim)
        if found != config.head_dim:
            problems.append(
                f"{keys.prefix}{key} = {found!r:.100} with heads of {config.head_dim}"
                " channels: must be equal"
            )
    window = keys.get("attention.sliding_window") or None  # 0: there is none
    problems += window_problems(
        f"{keys.prefix}attention.sliding_window", window, config
    )
    return config, problems + table_problems(config)


def _config(
    keys: _Keys,
    family: Family,
    shapes: dict[str, tuple[int, ...]],
    scaling: dict[str, Any] | None,
) -> ModelConfig:
    values = {field: keys.get(key) for field, key in _REQUIRED.items()}
    return ModelConfig(
        vocab_size=shapes[EMBEDDING][0],
        num_kv_heads=keys.get("attention.head_count_kv"),
        head_dim=keys.get("attention.key_length"),
        rope_scaling=scaling,
        tie_word_embeddings=LM_HEAD not in shapes,
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        **values,
    )


def _rope_scaling(
    keys: _Keys, shapes: dict[str, tuple[int, ...]], factors: NDArray | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return (scaling, problems). A factor without a type is linear, as in
    llama.cpp."""
    kind = keys.get("rope.scaling.type", "linear")
    factor = keys.get("rope.scaling.factor", keys.get("rope.scale_linear", 0))
    if kind not in ("none", "linear"):
        return None, [
            f"RoPE scaling (type {kind!r:.100}) is not supported in GGUF files: none,"
            " linear, and Llama 3's factors in rope_freqs.weight are"
        ]
    explicit = "rope.scaling.type" in keys.values and kind == "linear"
    linear = kind == "linear" and (factor not in (0, 1) or (explicit and factor == 0))
    if ROPE_FREQS not in shapes:
        return ({"rope_type": "linear", "factor": factor} if linear else None), []
    if linear:
        return None, ["RoPE scaling twice, linear and by rope_freqs.weight"]
    return _scaling_by_factors(keys, shapes[ROPE_FREQS], factors)


def _scaling_by_factors(
    keys: _Keys, shape: tuple[int, ...], factors: NDArray | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return (scaling, problems) of the tensor rope_freqs.weight."""
    heads, hidden = keys.get("attention.head_count"), keys.get("embedding_length")
    theta = keys.get("rope.freq_base")
    try:
        half = keys.get("attention.key_length", hidden // heads) // 2
        sound = isinstance(theta, float | int) and 1 < theta < 1e30 and half > 0
    except (TypeError, ArithmeticError):
        sound = False
    if factors is None or not sound:
        return None, []  # there is another problem, and it is reported
    if shape != (half,):
        return None, [f"{ROPE_FREQS} is {list(shape)}, not {[half]}"]
    context = keys.get("rope.scaling.original_context_length", CONTEXT)
    if not isinstance(context, int) or not 0 < context < 2**40:
        name = f"{keys.prefix}rope.scaling.original_context_length"
        return None, [f"{name} = {context!r:.100}: must be a number of tokens"]
    try:
        return scaling_of_factors(factors, theta, context), []
    except ValueError as error:
        return None, [f"RoPE scaling by {ROPE_FREQS} is not supported: {error}"]


def _shortest(value: Any) -> Any:
    """Give a float32 its shortest decimal form: 1e-05, not 9.999999747378752e-06."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value))) if isinstance(value, float) else value
