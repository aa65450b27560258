"""What a model is (`ModelConfig`), where it runs (`EngineConfig`), how it samples
(`GenerationConfig`).

All three are frozen dataclasses that check themselves when they are made: an impossible
value raises `ValueError` with the field's name, the value and the fix, long before a
tensor has the wrong shape.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, Self, cast

DTYPES = ("float32", "bfloat16", "float16")
# kind of RoPE scaling -> the numbers that it needs
ROPE_SCALING = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


def _reject(config: object, field: str, fix: str) -> NoReturn:
    name = type(config).__name__
    raise ValueError(f"{name}.{field} = {getattr(config, field)!r}: {fix}")


def _require_positive_ints(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            _reject(config, name, "must be a whole number of at least 1")


def _require_number(
    config: object, name: str, low: float, high: float = math.inf
) -> None:
    """Accept a finite number in [low, high]; a NaN fails every comparison and so is
    refused too."""
    value = getattr(config, name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (low <= value <= high) or math.isinf(value):
        bound = (
            f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        )
        _reject(config, name, f"must be a finite number {bound}")


class _FromJson:
    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read the config from a JSON file whose keys are this class's field names.

        Raises ValueError that names the file when it is not a JSON object or has an
        unknown key.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        return cls.from_dict(values, source=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the given dict") -> Self:
        if not isinstance(values, dict):
            raise ValueError(
                f"{source} holds {type(values).__name__}, not an object of fields"
            )
        known = [field.name for field in fields(cast(Any, cls))]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(
                f"{source} has unknown fields {unknown}; {cls.__name__} knows {known}"
            )
        try:
            return cls(**values)
        except TypeError as error:  # a field without a default is missing
            raise ValueError(f"{source}: {error}") from error


@dataclass(frozen=True)
class ModelConfig(_FromJson):
    """The shape of a Llama-architecture model. Dimensions are counts, `rope_theta` is
    unitless."""

    vocab_size: int
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    # These two may be left out, or None; __post_init__ then computes them.
    num_kv_heads: int = cast(int, None)  # as many as num_heads: no grouping
    head_dim: int = cast(int, None)  # hidden_dim / num_heads
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        _require_positive_ints(
            self,
            "vocab_size",
            "hidden_dim",
            "intermediate_dim",
            "num_layers",
            "num_heads",
        )
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.head_dim is None:
            if self.hidden_dim % self.num_heads:
                fix = f"must divide hidden_dim = {self.hidden_dim}, or give head_dim"
                _reject(self, "num_heads", fix)
            object.__setattr__(self, "head_dim", self.hidden_dim // self.num_heads)
        _require_positive_ints(
            self, "num_kv_heads", "head_dim", "max_position_embeddings"
        )
        if self.num_heads % self.num_kv_heads:
            _reject(self, "num_kv_heads", f"must divide num_heads = {self.num_heads}")
        if self.head_dim % 2:
            _reject(self, "head_dim", "must be even: RoPE rotates pairs of channels")
        _require_number(self, "rope_theta", 1.0)
        _require_number(self, "rms_norm_eps", 0.0)
        self._check_rope_scaling()
        if not isinstance(self.tie_word_embeddings, bool):
            _reject(self, "tie_word_embeddings", "must be True or False")

    def _check_rope_scaling(self) -> None:
        if self.rope_scaling is None:
            return
        kinds = ", ".join(ROPE_SCALING)
        if not isinstance(self.rope_scaling, dict):
            _reject(
                self,
                "rope_scaling",
                f'must be None or {{"rope_type": …}}, one of {kinds}',
            )
        kind: Any = self.rope_scaling.get("rope_type")
        if kind not in ROPE_SCALING:
            _reject(self, "rope_scaling", f"its rope_type must be one of {kinds}")
        needed = ROPE_SCALING[kind]
        numbers: list[Any] = [self.rope_scaling.get(name) for name in needed]
        if not all(isinstance(n, int | float) and 0 < n < math.inf for n in numbers):
            _reject(
                self,
                "rope_scaling",
                f"{kind} needs positive numbers for {', '.join(needed)}",
            )
        if kind == "llama3" and numbers[1] >= numbers[2]:
            _reject(
                self, "rope_scaling", "low_freq_factor must be below high_freq_factor"
            )

    @property
    def num_query_groups(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads


@dataclass(frozen=True)
class EngineConfig(_FromJson):
    """Where and how precisely the model runs.

    `device`: "auto" (CUDA, then Apple's MPS, then the CPU) or a torch device such as
    "cpu", "cuda:0". `dtype`: one of float32, bfloat16, float16; of the weights and
    activations.
    """

    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or not self.device:
            _reject(
                self,
                "device",
                'must be "auto" or the name of a torch device such as "cpu"',
            )
        if self.dtype not in DTYPES:
            _reject(self, "dtype", f"must be one of {', '.join(DTYPES)}")


@dataclass(frozen=True)
class GenerationConfig(_FromJson):
    """How many tokens to generate and how to choose each.

    The filters apply in this order: repetition penalty, temperature, top-k, top-p,
    min-p. `top_k` 0 or None, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 each
    switch their filter off; `temperature` 0 or `do_sample` False always takes the most
    probable token. `use_cache` False computes the whole sequence anew for every token:
    the same tokens, slowly.
    """

    max_new_tokens: int = 64
    do_sample: bool = True
    temperature: float = 1.0
    top_k: int | None = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    use_cache: bool = True

    def __post_init__(self) -> None:
        _require_positive_ints(self, "max_new_tokens")
        for name in ("do_sample", "use_cache"):
            if not isinstance(getattr(self, name), bool):
                _reject(self, name, "must be True or False")
        _require_number(self, "temperature", 0.0)
        whole = isinstance(self.top_k, int) and not isinstance(self.top_k, bool)
        if self.top_k is not None and (not whole or self.top_k < 0):
            _reject(
                self, "top_k", "must be None or a whole number of at least 0 (0 is off)"
            )
        _require_number(self, "top_p", 0.0, 1.0)
        _require_number(self, "min_p", 0.0, 1.0)
        _require_number(self, "repetition_penalty", 0.0)
        if self.repetition_penalty == 0:
            _reject(self, "repetition_penalty", "must be above 0 (1 is off)")
        if self.seed is not None and (
            isinstance(self.seed, bool) or not isinstance(self.seed, int)
        ):
            _reject(self, "seed", "must be None or a whole number")
